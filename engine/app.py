"""Puts the engine together and runs it until a signal: the only place that knows every room."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict
from importlib.metadata import version

import structlog
from aiohttp import web

from engine.api import deepgram, gladia, requests, results, server
from engine.api.body import Limits
from engine.api.metrics import HttpMetrics
from engine.api.spool import Spool
from engine.audio.fetch import HttpFetcher
from engine.audio.fetch import Limits as FetchLimits
from engine.audio.pcm import bytes_per_second, integers, raw_format
from engine.errors import RecogniserUnavailable, WorkerDied
from engine.jobs import retention
from engine.jobs.admission import Admission, Bounds, Patience
from engine.jobs.archive import Archive
from engine.jobs.intake import Intake
from engine.jobs.observers import JobLog, JobSpans, Metrics
from engine.jobs.recognition import Recognition
from engine.jobs.runner import Ended, Pace, Runner
from engine.jobs.store import JobStore, migrate
from engine.jobs.work import Workshop
from engine.keys import Keys
from engine.live.callbacks import CallbackWriter
from engine.live.capacity import Capacity
from engine.live.observers import LiveGauges, LiveLog, LiveMetrics
from engine.live.session import Limits as LiveLimits
from engine.live.sessions import Sessions
from engine.recognisers.base import Spec
from engine.recognisers.workers.live_pool import WORKER as LIVE_WORKER
from engine.recognisers.workers.live_pool import LivePool
from engine.recognisers.workers.live_recognition import PassMade
from engine.recognisers.workers.memory import MemoryBudget
from engine.recognisers.workers.pool import Pool
from engine.recognisers.workers.scheduler import Moved
from engine.settings import DEFAULT, EngineSettings, LiveSettings, Settings, usable_cores
from relay.guard.resolver import Resolver
from relay.guard.rules import Rules
from relay.outbox.errors import ConfigError, StoreUnavailable
from relay.outbox.results import Results
from relay.outbox.store import Database
from relay.service import health as exposition
from relay.service.health import Check, measure_loop_lag
from relay.service.systemd import Supervisor
from relay.service.traces import Spans

_STALLED_SECONDS = 30.0
_STATS_SECONDS = 5.0
_PRUNE_SECONDS = 3600.0

log = structlog.get_logger()


async def run(settings: Settings, live_worker: str = LIVE_WORKER) -> None:
    """Take requests and jobs until SIGTERM or SIGINT, then drain. A second signal leaves at once.

    `live_worker` is the module whose processes hear live sessions. Raises ConfigError, SchemaError or OSError when the
    engine cannot start.
    """
    _announce(settings)
    database = settings.outbox.database  # one for all rooms: it knows the time since it was first asked, by `migrate`
    await asyncio.to_thread(migrate, database)
    async with AsyncExitStack() as stack:
        engine = Engine(settings, database, stack, live_worker)
        await engine.open()
        supervisor = Supervisor(os.environ)
        _obey_signals(engine.runner, supervisor)
        address = await _serve(stack, engine.application, settings.engine)
        log.info("engine.ready", address=address)
        supervisor.ready()
        stack.callback(asyncio.create_task(supervisor.feed(lambda: engine.runner.turns)).cancel)
        # While jobs drain, health and metrics are still answered, and what is submitted is kept for the next start.
        await engine.runner.run()
    log.info("engine.stopped")


class Engine:
    """The rooms of one engine, wired."""

    def __init__(
        self, settings: Settings, database: Database, stack: AsyncExitStack, live_worker: str = LIVE_WORKER
    ) -> None:
        engine, rules = settings.engine, settings.outbox.guard.rules()
        self._stack = stack
        self._engine = engine
        self._database = database
        self._metrics = Metrics(engine.workers)
        self._log = JobLog(rules)
        self._spans = _spans(engine.traces.endpoint, stack)
        self._resolver = Resolver(rules)
        self._keys = Keys(database, open_without_keys=engine.on_loopback)
        self._store = JobStore(database, engine.lease_seconds)
        self._results = Results(database)
        self._audio = engine.audio.store(engine.audio_dir)
        self._archive = Archive(database, self._audio)
        self._patience = Patience(engine.workers)
        bounds = Bounds(**engine.queue.model_dump())
        self._admission = Admission(self._store, bounds, self._patience, self._metrics.turned_away)
        self._spool = Spool(self._audio.incoming)
        specs = engine.specs()
        self._catalogue = engine.catalogue(specs)
        self._memory = MemoryBudget(engine.models_memory_bytes)
        self._pool = Pool(
            engine.workers,
            specs,
            max_seconds=engine.max_audio_seconds,
            idle_seconds=engine.models_idle_seconds,
            budget=self._memory,
            keep=engine.preload,
            tell=_moved,
        )
        self._live_metrics = LiveMetrics(self._metrics.registry)
        self._live_pool, self._callbacks, self._sessions = self._live_rooms(specs, rules, live_worker)
        self._recognition = Recognition(self._pool, self._metrics, engine.max_work_seconds)
        self._fetcher = HttpFetcher(self._resolver, _fetch_limits(engine))
        self.runner = self._make_runner()
        self._metrics.draining.set_function(lambda: float(self.runner.draining))
        self._intake = Intake(self._store, self._audio, self.runner.wake)
        self._limits = Limits(engine.max_upload_bytes, engine.upload_stall_seconds, engine.keep_alive_seconds)
        self._http = HttpMetrics(self._metrics.registry, server.ROUTES)
        gladia_parts = self._gladia(settings.outbox.public_url)
        self._gladia_live = gladia.Live(gladia_parts, self._gladia_live_parts())
        self.application = server.build(
            self._http,
            deepgram.routes(self._deepgram()),
            deepgram.live_routes(self._deepgram_live()),
            gladia.routes(gladia_parts),
            gladia.live_routes(self._gladia_live),
            requests.routes(requests.Parts(self._keys, self._archive, self._results)),
            results.routes(self._results, database.now),
            exposition.routes(self._metrics.registry, self._checks(), self._loaded),
        )
        self.application.on_shutdown.append(self._finish_sessions)

    def _live_rooms(
        self, specs: Mapping[str, Spec], rules: Rules, worker: str
    ) -> tuple[LivePool, CallbackWriter, Sessions]:
        live, metrics = self._engine.live, self._live_metrics
        threads = {name: max(1, spec.threads) for name, spec in specs.items()}
        cores = usable_cores()
        passes = max(1, int(cores) // (live.workers * threads[DEFAULT]))
        busy = min(cores, live.workers * passes * threads[DEFAULT])
        capacity = Capacity(busy, live.capacity_share, threads, live.sessions or None)

        def passed(made: PassMade) -> None:
            metrics.passed(made)
            capacity.passed(made.recogniser, made.record)

        pool = LivePool(
            specs,
            workers=live.workers,
            passes=passes,
            max_seconds=self._engine.max_audio_seconds,
            idle_seconds=self._engine.models_idle_seconds,
            budget=self._memory,
            tell=passed,
            worker=worker,
        )
        callbacks = CallbackWriter(
            self._database, backlog=live.backlog, liveness=live.liveness_seconds, committed=metrics.committed
        )
        sessions = Sessions(pool, callbacks, capacity, LiveLog(rules), metrics, clock=self._database.now)
        LiveGauges(
            self._metrics.registry,
            sessions=lambda: len(sessions),
            capacity=lambda: capacity.sessions(DEFAULT),
            lag=lambda: sessions.lag,
        )
        return pool, callbacks, sessions

    def _make_runner(self) -> Runner:
        engine = self._engine
        work = Workshop(self._recognition, self._fetcher, self._audio, self._store, tries=engine.fetch.tries)
        pace = Pace(lease=engine.lease_seconds, drain=engine.drain_seconds)
        return Runner(self._store, work, engine.workers, pace, self._tell, self._database.now)

    def _deepgram(self) -> deepgram.Parts:
        return deepgram.Parts(
            keys=self._keys,
            catalogue=self._catalogue,
            raw_format=raw_format,
            resolver=self._resolver,
            spool=self._spool,
            prober=self._recognition,
            fetcher=self._fetcher,
            intake=self._intake,
            listener=self._recognition,
            doorkeeper=self._admission,
            metrics=self._http,
            limits=self._limits,
            clock=self._database.now,
        )

    def _gladia(self, public_url: str) -> gladia.Parts:
        return gladia.Parts(
            keys=self._keys,
            catalogue=self._catalogue,
            resolver=self._resolver,
            spool=self._spool,
            prober=self._recognition,
            fetcher=self._fetcher,
            intake=self._intake,
            archive=self._archive,
            doorkeeper=self._admission,
            metrics=self._http,
            limits=self._limits,
            clock=self._database.now,
            public_url=public_url,
            event_names=self._engine.gladia.event_names,
        )

    def _deepgram_live(self) -> deepgram.LiveParts:
        return deepgram.LiveParts(
            keys=self._keys,
            catalogue=self._catalogue,
            raw_format=raw_format,
            byte_rate=bytes_per_second,
            resolver=self._resolver,
            sessions=self._sessions,
            limits=_live_limits(self._engine.live, self._engine.live.idle_seconds),
            max_message=self._engine.live.max_message_bytes,
            mirror=self._engine.live.mirror,
        )

    def _gladia_live_parts(self) -> gladia.LiveParts:
        return gladia.LiveParts(
            sessions=self._sessions,
            raw_format=raw_format,
            integers=integers,
            byte_rate=bytes_per_second,
            limits=_live_limits(self._engine.live, self._engine.live.resume_seconds),
            max_message=self._engine.live.max_message_bytes,
        )

    async def _finish_sessions(self, _: web.Application) -> None:
        """Before the server waits for its handlers, which wait for their sessions."""
        await self._sessions.stop(self._engine.drain_seconds)
        await self._gladia_live.close()

    async def open(self) -> None:
        """Take hold of files and processes; the stack gives them back in reverse. Raises ConfigError, OSError."""
        self._stack.push_async_callback(self._store.close)
        self._stack.push_async_callback(self._archive.close)
        self._stack.push_async_callback(self._keys.close)
        self._stack.push_async_callback(self._results.close)
        await _refuse_strangers(self._engine, self._keys)
        self._audio.create()
        self._spool.open()
        self._stack.callback(self._spool.close)
        log.info("audio.tidied", files=await self._audio.tidy(self._store.need_audio, self._database.now()))
        self._stack.push_async_callback(self._live_pool.stop)
        await self._live_pool.start()
        # Under way while what is recorded loads too: whoever speaks first need not wait.
        measuring = asyncio.create_task(self._sessions.measure(self._engine.recognisers))
        self._stack.push_async_callback(_broken_off, measuring)
        self._stack.push_async_callback(self._pool.stop)
        await self._pool.start()
        await self._preload()
        self._stack.push_async_callback(self._callbacks.stop)
        await self._callbacks.start()
        lag = measure_loop_lag(self._metrics.loop_lag)
        for work in (lag, self._take_stock_regularly(), self._prune_regularly()):
            self._stack.push_async_callback(_broken_off, asyncio.create_task(work))

    async def _preload(self) -> None:
        try:
            await self._pool.load()
        except (RecogniserUnavailable, WorkerDied) as error:
            raise ConfigError(f"engine.preload: {error}") from error

    def _loaded(self) -> dict[str, object]:
        """What readiness tells besides: each recogniser that is loaded, with the number of its processes."""
        return {"recognisers": dict(Counter(self._memory.loaded))}

    def _tell(self, ended: Ended) -> None:
        self._log(ended)
        self._metrics(ended)
        self._patience(ended)
        self._spans(ended)

    async def _prune_regularly(self) -> None:
        kept = retention.Retention(**self._engine.retention.model_dump())
        while True:
            try:
                now = self._database.now()
                forgotten = await retention.prune(self._database, self._audio, self._store.need_audio, kept, now)
                log.info("retention.pruned", **asdict(forgotten))
            except (StoreUnavailable, OSError) as error:
                log.error("store.error", operation="prune", kind=_kind(error))
            await asyncio.sleep(_PRUNE_SECONDS)

    async def _take_stock_regularly(self) -> None:
        while True:
            try:
                self._metrics.counted(await self._store.snapshot())
            except StoreUnavailable as error:
                log.error("store.error", operation="stats", kind=error.kind)
            await asyncio.sleep(_STATS_SECONDS)

    def _checks(self) -> dict[str, Check]:
        """What readiness depends on. A failing receiver or a long queue is no reason to be unready."""
        return {"store": self._store_answers, "jobs": self._jobs_turn, "drain": self._not_draining}

    async def _store_answers(self) -> str | None:
        try:
            await self._store.snapshot()
        except StoreUnavailable as error:
            return f"the database cannot be read: {error}"
        return None

    async def _jobs_turn(self) -> str | None:
        still = time.monotonic() - self.runner.turned_at
        return f"the queue was not looked at for {still:.0f} s" if still > _STALLED_SECONDS else None

    async def _not_draining(self) -> str | None:
        return "draining" if self.runner.draining else None


async def _broken_off(task: asyncio.Task[None]) -> None:
    """Only once the task is gone may what it works with be closed."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _kind(error: StoreUnavailable | OSError) -> str:
    return error.kind if isinstance(error, StoreUnavailable) else str(error)


def _moved(moved: Moved) -> None:
    said = {"recogniser": moved.recogniser, "memory_bytes": moved.memory, "reason": moved.why}
    log.info("recogniser.loading" if moved.why == "needed" else "recogniser.unloaded", **said)


def _spans(endpoint: str, stack: AsyncExitStack) -> Callable[[Ended], None]:
    if not endpoint:
        return lambda _: None
    spans = Spans(endpoint, "engine")
    stack.push_async_callback(asyncio.to_thread, spans.close)
    return JobSpans(spans)


def _fetch_limits(engine: EngineSettings) -> FetchLimits:
    fetch = engine.fetch
    return FetchLimits(engine.max_upload_bytes, fetch.connect_timeout, fetch.total_timeout, fetch.redirects)


def _live_limits(live: LiveSettings, idle: float) -> LiveLimits:
    return LiveLimits(
        length=live.max_seconds,
        idle=idle,
        finishing=live.finish_seconds,
        speed=live.max_speed,
        burst=live.burst_seconds,
        late=live.warn_lag_seconds,
        too_late=live.max_lag_seconds,
    )


async def _refuse_strangers(engine: EngineSettings, keys: Keys) -> None:
    if engine.on_loopback or await keys.exist():
        return
    raise ConfigError(
        f"engine.host: {engine.host!r} can be reached from other machines, and there is no API key yet. "
        "Make one with `engine keys add NAME`, or listen on 127.0.0.1."
    )


def _announce(settings: Settings) -> None:
    log.info("engine.started", version=version("outspoken"), pid=os.getpid())
    if opened := [str(network) for network in settings.outbox.guard.allow_networks]:
        log.warning("guard.networks.opened", networks=opened)


def _obey_signals(runner: Runner, supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()

    def obey(number: signal.Signals) -> None:
        if runner.draining:
            log.warning("engine.stopped", reason="second signal")
            os._exit(128 + number)
        supervisor.stopping()
        runner.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, obey, number)


async def _serve(stack: AsyncExitStack, application: web.Application, engine: EngineSettings) -> str:
    """The HTTP surface; at the end, requests under way are answered first. Returns the address that is bound."""
    runner = server.runner(application, engine.drain_seconds)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, engine.host, engine.port).start()
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
