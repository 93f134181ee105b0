"""`relay run --workers`: a parent that keeps so many relays alive, and speaks for all of them.

It delivers nothing itself. Each worker is a whole relay behind a Unix socket of its own; what they share is the
database, as relays on several machines do.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import msgspec
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from relay.admin.recent import RecentAttempts
from relay.app import daemon as app
from relay.app.daemon import WorkerStatus
from relay.app.settings import Configuration
from relay.service.configfile import Setting
from relay.service.health import Check, exposed, routes_for
from relay.service.log import Unfailing
from relay.service.systemd import Supervisor
from relay.telemetry.merged import merged
from relay.telemetry.metrics import WorkerMetrics

_FIRST_STATUS_SECONDS, _STATUS_SECONDS = 0.1, 1.0
_ANSWER_SECONDS = 1.5
_HUNG_SECONDS = 30.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_STEADY_SECONDS = 60.0
_GRACE_SECONDS = 10.0  # to come to an end once everything is drained
_CHUNK = 1 << 16

log = structlog.get_logger()

_LOST = (aiohttp.ClientError, OSError, TimeoutError)


class Worker:
    """One place among them, and the process that fills it now."""

    def __init__(self, number: int, folder: Path) -> None:
        self.name = str(number)
        self.in_flight = 0
        self.turns = -1
        self.well = False
        self.process: Process | None = None
        self._door = folder / f"{number}.sock"

    async def start(self, settings: bytes) -> Process:
        """Fill it. In a session of its own, so that a Ctrl-C at the terminal reaches the parent alone."""
        self._door.unlink(missing_ok=True)
        command = (sys.executable, "-m", "relay.app.worker", str(self._door))
        self.process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, start_new_session=True)
        assert self.process.stdin is not None
        self.process.stdin.write(settings)
        return self.process

    def signal(self, number: signal.Signals) -> None:
        """Send it one, if it lives."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def ask(self, path: str, accept: str = "") -> tuple[bytes, str]:
        """What it answers, and of which type. Raises one of `_LOST`."""
        timeout = aiohttp.ClientTimeout(_ANSWER_SECONDS)
        connector = aiohttp.UnixConnector(str(self._door), force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as client,
            client.get(f"http://worker{path}", headers={"Accept": accept}) as answer,
        ):
            return await answer.read(), answer.headers["Content-Type"]


class Crew:
    """All of them."""

    def __init__(self, settings: Configuration, count: int, folder: Path, recent: RecentAttempts) -> None:
        self.workers = [Worker(number, folder) for number in range(count)]
        self.recent = recent
        self.registry = CollectorRegistry()
        self.ready = asyncio.Event()  # once all of them have answered
        self.rounds = 0  # in which every one of them has turned
        self._metrics = WorkerMetrics(self.registry)
        self._settings = pickle.dumps(settings)
        self._drain_seconds = settings.relay.drain_seconds
        self._stopping = asyncio.Event()
        self._turned: set[str] = set()
        self._out = Unfailing(sys.stdout.buffer)

    async def run(self) -> None:
        """Until `stop`, and all have drained."""
        async with asyncio.TaskGroup() as group:
            for worker in self.workers:
                group.create_task(self._keep(worker))

    def stop(self) -> None:
        """Have all of them drain."""
        self._stopping.set()
        for worker in self.workers:
            worker.signal(signal.SIGTERM)

    def kill(self) -> None:
        """Do not wait for any."""
        for worker in self.workers:
            worker.signal(signal.SIGKILL)

    @property
    def stopping(self) -> bool:
        """Whether they drain."""
        return self._stopping.is_set()

    @property
    def in_flight(self) -> int:
        """Attempts under way, as last heard."""
        return sum(worker.in_flight for worker in self.workers)

    async def _keep(self, worker: Worker) -> None:
        """One place, filled again whenever it becomes empty; at once, unless that happens too often."""
        pause = 0.0
        while not self._stopping.is_set():
            began = time.monotonic()
            pid, code = await self._see_through(worker)
            if self._stopping.is_set():
                return
            pause = pause_before(pause, lived=time.monotonic() - began)
            log.error("worker.died", worker=worker.name, pid=pid, exit_code=code, again_in=pause)
            self._metrics.died()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def _see_through(self, worker: Worker) -> tuple[int, int]:
        """The life of one process; returns its id and its exit code."""
        process = await worker.start(self._settings)
        log.info("worker.started", worker=worker.name, pid=process.pid)
        attending = asyncio.create_task(self._attend(worker))
        watching = asyncio.create_task(self._end_in_time(worker))
        try:
            if self._stopping.is_set():  # it was asked before there was a process
                worker.signal(signal.SIGTERM)
            await self._copy(process.stdout)
            return process.pid, await process.wait()
        finally:
            attending.cancel()
            watching.cancel()
            worker.well, worker.in_flight, worker.process = False, 0, None

    async def _copy(self, stream: asyncio.StreamReader | None) -> None:
        """Whole lines only: those of several workers would run into each other in one pipe."""
        assert stream is not None
        rest = b""
        while chunk := await stream.read(_CHUNK):
            lines, newline, rest = (rest + chunk).rpartition(b"\n")
            self._out.write(lines + newline)
            self._out.flush()

    async def _end_in_time(self, worker: Worker) -> None:
        await self._stopping.wait()
        await asyncio.sleep(self._drain_seconds + _GRACE_SECONDS)
        log.error("worker.killed", worker=worker.name, reason="it did not drain")
        worker.signal(signal.SIGKILL)

    async def _attend(self, worker: Worker) -> None:
        """Ask for its status, again and again. One that hangs is replaced: nobody else would notice."""
        heard_at = time.monotonic()
        while True:
            with suppress(*_LOST, msgspec.DecodeError):
                body, _ = await worker.ask(app.STATUS_PATH)
                self._hear(worker, msgspec.json.decode(body, type=WorkerStatus))
                heard_at = time.monotonic()
            silent = time.monotonic() - heard_at
            worker.well = worker.well and silent < 2 * _STATUS_SECONDS + _ANSWER_SECONDS
            if silent > _HUNG_SECONDS:
                log.error("worker.killed", worker=worker.name, reason=f"no answer for {silent:.0f} s")
                worker.signal(signal.SIGKILL)
            await asyncio.sleep(_STATUS_SECONDS if self.ready.is_set() else _FIRST_STATUS_SECONDS)

    def _hear(self, worker: Worker, status: WorkerStatus) -> None:
        self.recent.add(status.groups)
        worker.well, worker.in_flight = True, status.in_flight
        if status.turns != worker.turns:
            worker.turns = status.turns
            self._turned.add(worker.name)
        if len(self._turned) == len(self.workers):
            self.rounds += 1
            self._turned.clear()
        if all(one.well for one in self.workers):
            self.ready.set()

    async def expose(self, accept: str) -> tuple[bytes, str]:
        """The metrics of all, and the parent's own. One that does not answer is missing from them."""
        body, content_type = exposed(self.registry, accept)
        answers = await asyncio.gather(*(_answer(worker.ask("/metrics", accept)) for worker in self.workers))
        texts = {
            worker.name: answer[0].decode() for worker, answer in zip(self.workers, answers, strict=True) if answer
        }
        return merged({"": body.decode(), **texts}).encode(), content_type

    def checks(self) -> dict[str, Check]:
        """All of them have to be ready."""
        return {f"worker.{worker.name}": _readiness(worker) for worker in self.workers}


def pause_before(last: float, *, lived: float) -> float:
    """Seconds until a place is filled again, whose process has lived so long: each time twice as many, until one
    lasts."""
    if lived >= _STEADY_SECONDS or not last:
        return _SHORTEST_PAUSE
    return min(2 * last, _LONGEST_PAUSE)


async def _answer(asked: Awaitable[tuple[bytes, str]]) -> tuple[bytes, str] | None:
    try:
        return await asked
    except _LOST:
        return None


def _readiness(worker: Worker) -> Check:
    async def check() -> str | None:
        answer = await _answer(worker.ask("/readyz"))
        if answer is None:
            return "no answer"
        verdicts: dict[str, str] = msgspec.json.decode(answer[0])["checks"]
        return "; ".join(f"{name}: {verdict}" for name, verdict in verdicts.items() if verdict != "ok") or None

    return check


async def run(settings: Configuration, count: int, in_force: Sequence[Setting]) -> None:
    """Keep `count` workers delivering until SIGTERM or SIGINT, then have them drain. A second signal leaves at once.
    Raises ConfigError and StoreUnavailable before there is any worker."""
    database = settings.outbox.database
    app.announce(settings)
    await app.prepare(database)
    await asyncio.to_thread(app.load_secret, database)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="relay-")))
        crew = Crew(settings, count, folder, RecentAttempts(database.now()))
        supervisor = Supervisor(os.environ)
        _obey_signals(crew, supervisor)
        metrics = await _serve(stack, settings, crew)
        place = settings.relay.admin
        operators = app.operators_site(
            settings, database, crew.recent, lambda: crew.in_flight, workers=count, in_force=in_force
        )
        admin = await app.listen(stack, operators, place.host, place.port, "relay.admin")
        announcing = asyncio.create_task(
            _announce(crew, supervisor, metrics=f"http://{metrics}/metrics", admin=f"http://{admin}/")
        )
        stack.callback(announcing.cancel)
        await crew.run()
    log.info("relay.stopped")


async def _serve(stack: AsyncExitStack, settings: Configuration, crew: Crew) -> str:
    """Metrics and health; returns the address that is bound."""
    site = web.Application()
    site.add_routes(routes_for(crew.expose, crew.checks()))
    return await app.listen(stack, site, settings.relay.host, settings.relay.port, "relay")


async def _announce(crew: Crew, supervisor: Supervisor, **addresses: str) -> None:
    """Once all are well; and feed the watchdog as long as all of them turn."""
    await crew.ready.wait()
    log.info("relay.ready", workers=len(crew.workers), **addresses)
    supervisor.ready()
    await supervisor.feed(lambda: crew.rounds)


def _obey_signals(crew: Crew, supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()

    def obey(number: signal.Signals) -> None:
        if crew.stopping:
            log.warning("relay.stopped", reason="second signal")
            crew.kill()
            os._exit(128 + number)
        log.info("relay.draining", in_flight=crew.in_flight)
        supervisor.stopping()
        crew.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, obey, number)
