"""What a running engine does about more live speech than it can keep: it says so, and refuses, or warns and ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.acceptance.speech import first_seconds
from tests.acceptance.stage import Process, Stage
from tests.ports import free_callback_port

PATH = "/v1/listen?encoding=linear16&sample_rate=16000&interim_results=true&endpointing=300"
SPEECH = first_seconds(3.2)[44:]
PIECE = 3200

pytestmark = pytest.mark.acceptance


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[tuple[Stage, Process]]:
    """An engine that knows what its recogniser costs."""
    stage = Stage(folder, free_callback_port(), engine__preload='["default"]', **settings)
    engine = await stage.engine()
    try:
        await engine.event("live.measured")
        yield stage, engine
    finally:
        await engine.stop()


async def metric(stage: Stage, http: aiohttp.ClientSession, name: str) -> float:
    async with http.get(f"{stage.engine_url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).rpartition(" ")[2])


def live_worker(engine: Process) -> int:
    """The process of this engine that hears live sessions."""
    children = Path(f"/proc/{engine.pid}/task/{engine.pid}/children").read_text().split()
    return next(int(pid) for pid in children if b"live_worker" in Path(f"/proc/{pid}/cmdline").read_bytes())


async def test_a_machine_too_slow_for_one_session_says_so_at_the_start_and_refuses_the_first(tmp_path: Path) -> None:
    async with (
        running(tmp_path, engine__live__capacity_share=0.001) as (stage, engine),
        aiohttp.ClientSession() as http,
    ):
        line = await engine.event("live.too_slow")
        assert line["needed_cores"] > line["cores"]
        assert "smaller model" in line["remedy"]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(f"{stage.engine_url}{PATH}")
        assert refused.value.status == 503
        async with http.post(f"{stage.engine_url}/v2/live", json={}) as answer:
            assert answer.status == 429
        assert (await engine.event("live.refused"))["reason"] == "capacity"
        assert await metric(stage, http, 'engine_live_sessions_refused_total{reason="capacity"}') == 2
        assert await metric(stage, http, "engine_live_capacity_sessions") == 0


async def test_who_is_heard_too_late_is_warned_and_then_let_go(tmp_path: Path) -> None:
    settings = {"warn_lag_seconds": 0.6, "max_lag_seconds": 2.0, "finish_seconds": 1.0, "capacity_share": 100}
    chosen = {f"engine__live__{name}": value for name, value in settings.items()}
    async with (
        running(tmp_path, **chosen) as (stage, engine),
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{stage.engine_url}{PATH}") as socket,
    ):
        await socket.send_bytes(SPEECH)
        assert (await socket.receive_json(timeout=30))["type"] == "Results"
        os.kill(live_worker(engine), signal.SIGSTOP)
        speaking = asyncio.create_task(speak(socket))
        messages = [json.loads(message.data) async for message in socket if message.type is aiohttp.WSMsgType.TEXT]
        speaking.cancel()
        assert socket.close_code == 1011
        warnings = [
            message["metadata"]["warnings"] for message in messages if "warnings" in message.get("metadata", {})
        ]
        assert [warning["type"] for (warning,) in warnings] == ["behind"]
        assert (await engine.event("live.behind"))["lag_s"] >= 0.6
        assert await metric(stage, http, "engine_live_sessions_behind_total") == 1
        os.kill(live_worker(engine), signal.SIGCONT)


async def speak(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Without end, as it is spoken."""
    while not socket.closed:
        for start in range(0, len(SPEECH), PIECE):
            await socket.send_bytes(SPEECH[start : start + PIECE])
            await asyncio.sleep(0.1)
