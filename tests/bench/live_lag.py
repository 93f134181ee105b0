"""engine.live.lag: how late live results are while people speak in real time, with the default model's real weights.

A result is late from the moment at which the last audio that it covers was sent to the moment at which it is read. Each
caller says something else, without a pause but those of a reader. There is one, one beside recordings that are being
transcribed, four, and more than the machine can keep.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from statistics import quantiles

import aiohttp
import uvloop
from aiohttp import WSMsgType

from tests.bench.engine import Running, engine, speech
from tests.bench.stand import Result, Scale
from tests.clips import RATE, Clip, clips

PATH = "/v1/listen?encoding=linear16&sample_rate=16000&interim_results=true&endpointing=300"
PIECE_SECONDS = 0.1
_BYTES_PER_SECOND = 2 * RATE
_MEASURING_SECONDS = 120.0
_POLL_SECONDS = 0.1
_APART_SECONDS = 0.3  # so that callers are not in step
_UNBOUNDED = "100"  # of what the machine can keep: nobody is refused, however busy it is


@dataclass
class Caller:
    """Somebody who speaks: when he began, and what came back, each with its moment."""

    clip: Clip
    began: float = 0.0
    interim: list[float] = field(default_factory=list)
    final: list[float] = field(default_factory=list)
    late_warnings: int = 0

    async def speak(self, socket: aiohttp.ClientWebSocketResponse, seconds: float) -> None:
        """So many seconds of the clip, as it is spoken."""
        pcm = bytes(islice(cycle(self.clip.pcm()), int(seconds * RATE) * 2))
        size = int(PIECE_SECONDS * _BYTES_PER_SECOND)
        self.began = time.monotonic()
        for number, start in enumerate(range(0, len(pcm), size)):
            await asyncio.sleep(self.began + (number + 1) * PIECE_SECONDS - time.monotonic())
            await socket.send_bytes(pcm[start : start + size])
        await socket.send_str('{"type":"CloseStream"}')

    async def listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """How late each result was, in seconds."""
        async for message in socket:
            now = time.monotonic()
            if message.type is not WSMsgType.TEXT or (results := json.loads(message.data))["type"] != "Results":
                continue
            if "warnings" in results["metadata"]:
                self.late_warnings += 1
                continue
            # Audio is sent once the piece that it is in has been spoken.
            covered = results["start"] + results["duration"]
            sent = self.began + (int(covered / PIECE_SECONDS - 1e-6) + 1) * PIECE_SECONDS
            (self.final if results["is_final"] else self.interim).append(now - sent)


def one(scale: Scale) -> Result:
    """One caller has the machine to himself."""
    with engine(workers=None, live__capacity_share=_UNBOUNDED) as running:
        (caller,) = uvloop.run(_speak(running, 1, scale.live_seconds))
    return {
        "engine.live.lag.one.interim_p50_s": _quantile(caller.interim, 0.5),
        "engine.live.lag.one.final_p95_s": _quantile(caller.final, 0.95),
        "engine.live.lag.one.interims_per_s": len(caller.interim) / scale.live_seconds,
    }


def beside(scale: Scale) -> Result:
    """One caller, while as many recordings are transcribed as ever are."""
    with engine(workers=None, live__capacity_share=_UNBOUNDED) as running:
        callers = uvloop.run(_speak(running, 1, scale.live_seconds, recordings=2))
    return _of_many("beside", callers, scale.live_seconds)


def four(scale: Scale) -> Result:
    """Four share it."""
    with engine(workers=None, live__capacity_share=_UNBOUNDED) as running:
        callers = uvloop.run(_speak(running, 4, scale.live_seconds))
    return _of_many("four", callers, scale.live_seconds)


def crowd(scale: Scale) -> Result:
    """As many come as the machine could not keep, one after another; and some are admitted."""
    with engine(workers=None) as running:
        callers = uvloop.run(_speak(running, scale.callers, scale.live_seconds))
    refused = scale.callers - len(callers)
    return _of_many("crowd", callers, scale.live_seconds) | {
        "engine.live.lag.crowd.admitted": len(callers),
        "engine.live.lag.crowd.refused": refused,
        "engine.live.lag.crowd.warned": sum(caller.late_warnings for caller in callers),
    }


def goals(name: str) -> dict[str, str]:
    """The keys of several callers, and what is wanted."""
    wanted = {"interim_p95_s": "<= 1.5", "final_p95_s": "<= 2", "interims_per_s": ">= 0.5"}
    return {f"engine.live.lag.{name}.{key}": goal for key, goal in wanted.items()}


def _of_many(name: str, callers: list[Caller], seconds: float) -> Result:
    interim = [lag for caller in callers for lag in caller.interim]
    final = [lag for caller in callers for lag in caller.final]
    return {
        f"engine.live.lag.{name}.interim_p95_s": _quantile(interim, 0.95),
        f"engine.live.lag.{name}.final_p95_s": _quantile(final, 0.95),
        f"engine.live.lag.{name}.interims_per_s": min(len(caller.interim) for caller in callers) / seconds,
    }


async def _speak(running: Running, callers: int, seconds: float, recordings: int = 0) -> list[Caller]:
    """So many come, a moment apart, and those who are let in speak for so long; and meanwhile recordings are sent, one
    after another, on so many connections."""
    url = f"http://127.0.0.1:{running.port}"
    await asyncio.to_thread(_measured, url)
    admitted: list[Caller] = []
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        tasks: list[asyncio.Task[None]] = []
        sending = [asyncio.create_task(_send(http, url)) for _ in range(recordings)]
        for clip in islice(cycle(clips("en")), callers):
            with suppress(aiohttp.WSServerHandshakeError):
                socket = await stack.enter_async_context(http.ws_connect(f"{url}{PATH}"))
                admitted.append(caller := Caller(clip))
                tasks += map(asyncio.create_task, (caller.speak(socket, seconds), caller.listen(socket)))
            await asyncio.sleep(_APART_SECONDS)
        await asyncio.gather(*tasks)
        for one in sending:
            one.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
    return admitted


async def _send(http: aiohttp.ClientSession, url: str) -> None:
    """A recording of a minute, again and again."""
    while True:
        async with http.post(f"{url}/v1/listen", data=speech(60.0)) as answer:
            assert answer.status == 200
            await answer.read()


def _measured(url: str) -> None:
    """Wait until the engine knows what it can keep."""
    give_up = time.monotonic() + _MEASURING_SECONDS
    while time.monotonic() < give_up:
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
            metrics = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[:1] != "#")
        if float(metrics["engine_live_capacity_sessions"]) > 0:
            return
        time.sleep(_POLL_SECONDS)
    raise TimeoutError("the engine never measured what its recogniser costs; its log says why")


def _quantile(values: Sequence[float], share: float) -> float:
    return quantiles(values, n=100, method="inclusive")[round(share * 100) - 1] if len(values) > 1 else values[0]
