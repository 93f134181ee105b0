"""The worker processes of one relay: kept alive, polled, and answered for as one.

A service manager would start and restart them too (systemd does so for template units), but each with a port, a page of
metrics, a readiness and a console of its own; that all of these are one is what most of this module is for.
"""

from __future__ import annotations

import asyncio
import pickle
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path

import aiohttp
import msgspec
import structlog
from prometheus_client import CollectorRegistry

from relay.admin.recent import RecentAttempts
from relay.app.health import STATUS_PATH, WorkerStatus
from relay.app.settings import RelaySettings
from relay.service.health import Check, exposed
from relay.service.interpreter import module_command
from relay.service.log import Unfailing
from relay.telemetry.merged import merged
from relay.telemetry.metrics import WorkerMetrics

_FIRST_STATUS_SECONDS, _STATUS_SECONDS = 0.1, 1.0
_ANSWER_SECONDS = 1.5
_HUNG_SECONDS = 30.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_STABLE_SECONDS = 60.0
_GRACE_SECONDS = 10.0  # to come to an end once everything is drained
_CHUNK = 1 << 16

log = structlog.get_logger()

_UNREACHABLE = (aiohttp.ClientError, OSError, TimeoutError)


class RelayWorker:
    """One worker of the pool, under a name that its successors keep, and the process that it is now."""

    def __init__(self, number: int, folder: Path) -> None:
        self.name = str(number)
        self.in_flight = 0
        self.turns = -1
        self.process: Process | None = None
        self._socket = folder / f"{number}.sock"

    async def start(self, settings: bytes) -> Process:
        """In a session of its own, so that a Ctrl-C at the terminal reaches the supervisor alone. Raises OSError."""
        self._socket.unlink(missing_ok=True)
        command = module_command("relay.app.worker", str(self._socket))
        self.process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, start_new_session=True)
        assert self.process.stdin is not None
        if not self.process.stdin.is_closing():  # as it is where the process has ended already
            self.process.stdin.write(settings)
        return self.process

    def signal(self, number: signal.Signals) -> None:
        """Send it one, if it lives."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    def kill(self, reason: str) -> None:
        """End it at once, if it lives, and say why."""
        if self.process is not None:
            log.error("worker.killed", worker=self.name, reason=reason)
            self.signal(signal.SIGKILL)

    async def ask(self, path: str, accept: str = "") -> tuple[bytes, str]:
        """What it answers, and of which type. Raises one of `_UNREACHABLE`."""
        timeout = aiohttp.ClientTimeout(_ANSWER_SECONDS)
        connector = aiohttp.UnixConnector(str(self._socket), force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as client,
            client.get(f"http://worker{path}", headers={"Accept": accept}) as answer,
        ):
            return await answer.read(), answer.headers["Content-Type"]

    async def metrics(self, accept: str) -> str:
        """Its page of them; empty where it does not answer."""
        try:
            return (await self.ask("/metrics", accept))[0].decode()
        except _UNREACHABLE:
            return ""

    async def unready(self) -> str | None:
        """What it says is wrong with it, if anything."""
        try:
            answer, _ = await self.ask("/readyz")
        except _UNREACHABLE:
            return "no answer"
        verdicts: dict[str, str] = msgspec.json.decode(answer)["checks"]
        return "; ".join(f"{name}: {verdict}" for name, verdict in verdicts.items() if verdict != "ok") or None


class WorkerPool:
    """Keeps `count` workers alive and asks them how they are. `ready` is set once all have answered; `rounds` counts
    those in which every one of them has turned."""

    def __init__(self, settings: RelaySettings, count: int, folder: Path, recent: RecentAttempts) -> None:
        self.workers = [RelayWorker(number, folder) for number in range(count)]
        self.recent = recent
        self.ready = asyncio.Event()
        self.rounds = 0
        self._registry = CollectorRegistry()
        self._metrics = WorkerMetrics(self._registry)
        self._settings = pickle.dumps(settings)
        self._drain_seconds = settings.relay.drain_seconds
        self._stopping = asyncio.Event()
        self._turned: set[str] = set()
        self._out = Unfailing(sys.stdout.buffer)

    async def run(self) -> None:
        """Until `stop`, and all have drained."""
        async with asyncio.TaskGroup() as group:
            for worker in self.workers:
                group.create_task(self._keep_alive(worker))

    def stop(self) -> None:
        """Have all of them drain, and do not wait for those that take too long."""
        self._stopping.set()
        for worker in self.workers:
            worker.signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(self._drain_seconds + _GRACE_SECONDS, self._kill_undrained)

    def kill(self) -> None:
        """Do not wait for any."""
        for worker in self.workers:
            worker.signal(signal.SIGKILL)

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def in_flight(self) -> int:
        """Attempts under way, as last heard."""
        return sum(worker.in_flight for worker in self.workers)

    def _kill_undrained(self) -> None:
        for worker in self.workers:
            worker.kill("it did not drain")

    async def _keep_alive(self, worker: RelayWorker) -> None:
        """Start it again whenever it ends; after a pause, which grows where that happens often."""
        pause = 0.0
        while not self.stopping:
            began = time.monotonic()
            pid, code = await self._run_once(worker)
            if self.stopping:
                return
            pause = pause_before(pause, lived=time.monotonic() - began)
            log.error("worker.died", worker=worker.name, pid=pid, exit_code=code, again_in=pause)
            self._metrics.died()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def _run_once(self, worker: RelayWorker) -> tuple[int | None, int | None]:
        """One process from its start to its end; returns its id and its exit code, None where there was none."""
        try:
            process = await worker.start(self._settings)
        except OSError as error:  # no process, descriptor or memory is to be had just now
            log.error("worker.failed", worker=worker.name, reason=str(error))
            return None, None
        log.info("worker.started", worker=worker.name, pid=process.pid)
        polling = asyncio.create_task(self._poll(worker))
        try:
            if self.stopping:  # it was asked before there was a process
                worker.signal(signal.SIGTERM)
            await self._forward_log(process.stdout)
            return process.pid, await process.wait()
        finally:
            polling.cancel()
            worker.process, worker.in_flight = None, 0

    async def _forward_log(self, stream: asyncio.StreamReader | None) -> None:
        """Whole lines only: those of several workers would run into each other in one pipe."""
        assert stream is not None
        rest = b""
        while chunk := await stream.read(_CHUNK):
            lines, newline, rest = (rest + chunk).rpartition(b"\n")
            self._out.write(lines + newline)
            self._out.flush()

    async def _poll(self, worker: RelayWorker) -> None:
        """Ask for its status, again and again. One that hangs is replaced: nobody else would notice."""
        silence = Silence()
        while True:
            try:
                body, _ = await worker.ask(STATUS_PATH)
                self._take(worker, msgspec.json.decode(body, type=WorkerStatus))
                silence.end()
            except (*_UNREACHABLE, msgspec.DecodeError):
                if (silent := silence.goes_on(time.monotonic())) > _HUNG_SECONDS:
                    worker.kill(f"no answer for {silent:.0f} s")
            await asyncio.sleep(_STATUS_SECONDS if self.ready.is_set() else _FIRST_STATUS_SECONDS)

    def _take(self, worker: RelayWorker, status: WorkerStatus) -> None:
        self.recent.add(status.groups)
        worker.in_flight = status.in_flight
        if status.turns != worker.turns:
            worker.turns = status.turns
            self._turned.add(worker.name)
        if len(self._turned) == len(self.workers):
            self.rounds += 1
            self._turned.clear()
        if all(one.turns >= 0 for one in self.workers):
            self.ready.set()

    async def expose(self, accept: str) -> tuple[bytes, str]:
        """The metrics of all, and the supervisor's own. Those of a worker that does not answer are missing."""
        own, content_type = exposed(self._registry, accept)
        texts = await asyncio.gather(*(worker.metrics(accept) for worker in self.workers))
        named = dict(zip((worker.name for worker in self.workers), texts, strict=True))
        return merged({"": own.decode(), **named}).encode(), content_type

    def checks(self) -> dict[str, Check]:
        """All of them have to be ready."""
        return {f"worker.{worker.name}": worker.unready for worker in self.workers}


class Silence:
    """How long one has been asked in vain: since the first answer that failed to come, not since the last that came,
    as the machine may have stood still, and with it whoever asks."""

    def __init__(self) -> None:
        self._since: float | None = None

    def end(self) -> None:
        """It has answered."""
        self._since = None

    def goes_on(self, now: float) -> float:
        """It has not; returns for how many seconds."""
        if self._since is None:
            self._since = now
        return now - self._since


def pause_before(last: float, *, lived: float) -> float:
    """Seconds until a process is started again that has lived so long: each time twice as many, until one lasts."""
    if lived >= _STABLE_SECONDS or not last:
        return _SHORTEST_PAUSE
    return min(2 * last, _LONGEST_PAUSE)
