"""live: a hundred sessions at once, with a recogniser of fixed cost that says when it spoke.

What is measured is what the engine, and then the relay, add: from the moment at which the recogniser wrote a message to
the moment at which the caller's socket, or the receiver's, has it. All clocks are this machine's one monotonic clock.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

import aiohttp
import uvloop
from aiohttp import WSMsgType, web

from tests.bench import stand
from tests.bench.stand import Result, Scale
from tests.ports import free_port

ENGINE = (sys.executable, "-m", "tests.bench.live_engine")
PIECE_SECONDS = 0.25
PIECE = bytes(int(32000 * PIECE_SECONDS))
_STAMP = re.compile(r'"transcript":"(\d+)"')
_WARM_UP_SECONDS = 1.0
_LAST_SECONDS = 2 * PIECE_SECONDS
_LEAST_SECONDS = 1.0  # in less a busy machine may see nothing
_POLL_SECONDS = 0.02
_MIB = 1024


class Watch:
    """How late each message came, in milliseconds; but not while a hundred sessions begin or end at once."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self._since = self._until = 0.0

    def begin(self, seconds: float) -> None:
        """All sessions are there, and end after so many seconds."""
        now = time.monotonic()
        self._since, self._until = now + _WARM_UP_SECONDS, now + seconds - PIECE_SECONDS

    def see(self, text: str) -> None:
        """One message."""
        now = time.monotonic()
        found = _STAMP.search(text)
        if found and self._since < now < self._until:
            self.late.append(now * 1e3 - int(found[1]) / 1e6)

    @property
    def p99(self) -> float:
        return quantiles(self.late, n=100, method="inclusive")[98]


def caller(scale: Scale) -> Result:
    """To the caller's socket; and the memory of a session."""
    return uvloop.run(_caller(scale))


def callback(scale: Scale) -> Result:
    """To the receiver of a WebSocket callback, by way of the outbox and the relay."""
    return uvloop.run(_callback(scale))


async def _caller(scale: Scale) -> Result:
    watch = Watch()
    with _engine(free_port(), scale) as (port, process, _):
        url = f"http://127.0.0.1:{port}"
        await _speak(url, 1, 2 * PIECE_SECONDS, "", Watch(), _unheard)
        before = _resident(process.pid)
        speaking = asyncio.create_task(_speak(url, scale.sessions, _seconds(scale), "", watch, watch.see))
        await asyncio.sleep(_seconds(scale) - 2 * _LAST_SECONDS)
        grown = _resident(process.pid) - before
        await speaking
    return {"live.caller.p99_ms": watch.p99, "live.memory_per_session_mib": grown / _MIB / scale.sessions}


async def _callback(scale: Scale) -> Result:
    receiver_port = free_port()
    watch = Watch()
    with _engine(receiver_port, scale) as (port, _, database), stand.relay(database, receiver_port) as relay:
        await asyncio.to_thread(stand.wait_until_ready, database, relay)
        async with _receiving(receiver_port, watch.see):
            query = f"&callback=ws://127.0.0.1:{receiver_port}/live"
            url = f"http://127.0.0.1:{port}"
            await _speak(url, scale.sessions, _seconds(scale), query, watch, _unheard)
    return {"live.callback.p99_ms": watch.p99}


def _seconds(scale: Scale) -> float:
    """How long each speaks."""
    return _WARM_UP_SECONDS + max(scale.seconds, _LEAST_SECONDS) + _LAST_SECONDS


def _unheard(text: str) -> None:
    """Of a session with a callback, its caller hears the end only."""


async def _speak(url: str, sessions: int, seconds: float, query: str, watch: Watch, see: Callable[[str], None]) -> None:
    """So many callers for so long, who do not speak in step. Each of them sees what comes to it."""
    path = f"{url}/v1/listen?encoding=linear16&sample_rate=16000&interim_results=true{query}"
    lag = PIECE_SECONDS / sessions
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        sockets = [await stack.enter_async_context(http.ws_connect(path)) for _ in range(sessions)]
        watch.begin(seconds)
        talking = (_talk(socket, number * lag, seconds) for number, socket in enumerate(sockets))
        await asyncio.gather(*talking, *(_listen(socket, see) for socket in sockets))


async def _talk(socket: aiohttp.ClientWebSocketResponse, lag: float, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time() + lag
    for number in range(int(seconds / PIECE_SECONDS)):
        await asyncio.sleep(began + number * PIECE_SECONDS - loop.time())
        await socket.send_bytes(PIECE)
    await socket.send_str('{"type":"CloseStream"}')


async def _listen(socket: aiohttp.ClientWebSocketResponse, see: Callable[[str], None]) -> None:
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            see(message.data)


@asynccontextmanager
async def _receiving(port: int, see: Callable[[str], None]) -> AsyncIterator[None]:
    """A receiver of WebSocket callbacks that does nothing but look at them."""

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        async for message in socket:
            see(message.data)
        return socket

    application = web.Application()
    application.router.add_get("/live", serve)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


@contextmanager
def _engine(callback_port: int, scale: Scale) -> Iterator[tuple[int, subprocess.Popen[bytes], Path]]:
    """A running engine: its port, its process and its database."""
    with TemporaryDirectory(prefix="outspoken-bench-") as folder:
        database, port, log = Path(folder) / "outspoken.db", free_port(), Path(folder) / "engine.log"
        settings = {
            "OUTSPOKEN_CONFIG": "",
            "OUTSPOKEN_ENGINE__PORT": str(port),
            "OUTSPOKEN_ENGINE__AUDIO_DIR": str(Path(folder) / "audio"),
            "OUTSPOKEN_ENGINE__WORKERS": "1",
            "OUTSPOKEN_ENGINE__LIVE__SESSIONS": str(scale.sessions),
            "OUTSPOKEN_ENGINE__MODELS_MEMORY_BYTES": str(2**40),  # the stand-in takes none of it
        }
        environment = {**stand.relay_environment(database, callback_port), **settings}
        with log.open("wb") as out:
            process = subprocess.Popen(ENGINE, stdout=out, env=environment)
        try:
            while b"engine.ready" not in log.read_bytes():
                assert process.poll() is None, log.read_text()
                time.sleep(_POLL_SECONDS)
            yield port, process, database
        finally:
            process.kill()
            process.wait()


def _resident(pid: int) -> float:
    """KiB that belong to the process alone."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return float(next(line for line in status if line.startswith("RssAnon")).split()[1])
