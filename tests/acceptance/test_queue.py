"""The queue as a stranger meets it: it survives a kill, is bounded and fair between keys, and its results stay."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.acceptance.speech import first_seconds, silence
from tests.acceptance.stage import Process, Stage
from tests.ports import free_callback_port

QUEUED = 24

pytestmark = pytest.mark.acceptance


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def processes() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def submit(session: aiohttp.ClientSession, stage: Stage, audio: bytes, key: str = "") -> aiohttp.ClientResponse:
    headers = {"Authorization": f"Token {key}"} if key else {}
    url = f"{stage.engine_url}/v1/listen"
    response = await session.post(url, params={"callback": stage.callback_url}, data=audio, headers=headers)
    await response.read()
    return response


async def submitted(session: aiohttp.ClientSession, stage: Stage, audio: bytes, key: str = "") -> str:
    response = await submit(session, stage, audio, key)
    assert response.status == 200, await response.text()
    request_id: str = (await response.json())["request_id"]
    return request_id


async def get(session: aiohttp.ClientSession, stage: Stage, path: str) -> dict[str, Any]:
    async with session.get(stage.engine_url + path) as response:
        assert response.status == 200, await response.text()
        told: dict[str, Any] = await response.json()
        return told


async def new_key(stage: Stage, *options: str) -> str:
    process = await Process.start("engine", "keys", "add", f"key {' '.join(options)}".strip(), *options, env=stage.env)
    assert await process.finished() == 0, process.words
    return next(word for word in process.words if word.startswith("osk_"))


def ended(process: Process) -> list[str]:
    return [line["job.id"] for line in process.lines if line.get("event") == "job.finished"]


async def test_queued_jobs_survive_a_kill_and_all_finish(
    tmp_path: Path, session: aiohttp.ClientSession, processes: AsyncExitStack
) -> None:
    stage = Stage(tmp_path, 8080, engine__lease_seconds=1.0)
    engine = await stage.engine()
    ids = set(await asyncio.gather(*(submitted(session, stage, silence(0.2)) for _ in range(QUEUED))))
    await engine.kill()
    engine = await stage.engine()
    processes.push_async_callback(engine.stop)
    with closing(sqlite3.connect(f"file:{stage.database}?mode=ro", uri=True)) as database:
        (waiting,) = database.execute(
            "SELECT count(*) FROM outspoken_jobs WHERE state IN ('queued', 'leased')"
        ).fetchone()
        await engine.said(lambda _: len(ended(engine)) >= waiting)
        assert {id_ for (id_,) in database.execute("SELECT id FROM outspoken_jobs WHERE state = 'done'")} == ids
        assert {id_ for (id_,) in database.execute("SELECT id FROM outspoken_deliveries")} == ids
    assert len(ids) == QUEUED


async def test_a_busy_key_delays_nobody_else_and_has_its_own_bounds(
    tmp_path: Path, session: aiohttp.ClientSession, processes: AsyncExitStack
) -> None:
    stage = Stage(tmp_path, 8080, engine__workers=1)
    busy, quiet = await new_key(stage, "--max-queued", "3"), await new_key(stage)
    engine = await stage.engine()
    processes.push_async_callback(engine.stop)
    running = await submitted(session, stage, first_seconds(1.5), busy)
    await engine.event("job.started")
    waiting = [await submitted(session, stage, silence(0.2), busy) for _ in range(3)]
    refused = await submit(session, stage, silence(0.2), busy)
    assert (refused.status, (await refused.json())["err_code"]) == (429, "TOO_MANY_REQUESTS")
    assert int(refused.headers["Retry-After"]) >= 1
    single = await submitted(session, stage, silence(0.2), quiet)
    await engine.said(lambda _: len(ended(engine)) >= 5)
    assert ended(engine)[:2] == [running, single]
    assert sorted(ended(engine)[2:]) == sorted(waiting)


async def test_a_receiver_that_was_down_lists_what_it_missed_and_fetches_it(
    tmp_path: Path, session: aiohttp.ClientSession, processes: AsyncExitStack
) -> None:
    stage = Stage(tmp_path, free_callback_port(), relay__retry__retries=1, relay__retry__delay=0.1)
    engine, relay = await stage.engine(), await stage.relay()
    for process in (engine, relay):
        processes.push_async_callback(process.stop)
    missed = await submitted(session, stage, silence(0.2))
    await relay.said(lambda line: line.get("verdict") == "dead")
    receiver = await stage.receiver()
    processes.push_async_callback(receiver.stop)
    arrived = await submitted(session, stage, silence(0.2))
    await receiver.said(lambda line: line.get("headers", {}).get("webhook-id") == arrived)
    await relay.said(lambda line: line.get("verdict") == "delivered")
    listed = await get(session, stage, "/v1/requests?undelivered=true&since=2026-01-01T00:00:00Z")
    assert [one["id"] for one in listed["requests"]] == [missed]
    told = await get(session, stage, f"/v1/requests/{missed}")
    assert told["result"]["metadata"]["request_id"] == missed
    assert (told["delivery"]["state"], told["delivery"]["last_error"]) == ("dead", "exhausted")
    assert [attempt["outcome"] for attempt in told["delivery"]["attempts"]] == ["connect", "connect"]
