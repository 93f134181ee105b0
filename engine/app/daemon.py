"""The engine as a process: what it is made of, in which order that starts and stops, and which signals it obeys."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Histogram, Info, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from engine.app.http import HttpServer
from engine.app.live import LiveSpeech
from engine.app.recorded import RecordedSpeech
from engine.audio.fetch import FetchLimits, HttpFetcher
from engine.jobs.runner import Runner
from engine.jobs.store import migrate
from engine.keys import ApiKeys
from engine.recognisers.workers.live_pool import WORKER
from engine.recognisers.workers.memory import MemoryBudget
from engine.settings import EngineSection, EngineSettings
from relay.guard.resolver import Resolver
from relay.outbox.errors import ConfigError
from relay.outbox.sqlite.permissions import remedy
from relay.outbox.store import Database
from relay.service.health import measure_loop_lag
from relay.service.systemd import ServiceManager
from relay.service.tls import tls_context
from relay.service.watch import FileWatch

_LOOP_LAG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)

log = structlog.get_logger()


class ProcessMetrics:
    """The registry of all metrics, and what is told of the process itself."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        Info("engine_build", "What runs.", registry=registry).info({"version": version("outspoken")})
        self.loop_lag = Histogram(
            "engine_event_loop_lag_seconds", "How late a timer fires.", buckets=_LOOP_LAG, registry=registry
        )


async def run(settings: EngineSettings, live_worker: str = WORKER) -> None:
    """Take requests and jobs until SIGTERM or SIGINT, then drain. A second signal leaves at once.

    `live_worker` is the module whose processes transcribe live sessions. Raises ConfigError, SchemaError or OSError
    when the engine cannot start.
    """
    _announce(settings)
    engine, rules = settings.engine, settings.outbox.guard.rules()
    database = settings.outbox.database  # one for all rooms: it knows the time since it was first asked, by `migrate`
    await _prepare(database)
    watch = FileWatch(database)
    metrics, budget, specs = ProcessMetrics(), MemoryBudget(engine.models_memory_bytes), engine.specs()
    keys = ApiKeys(database, open_without_keys=engine.on_loopback)
    resolver = settings.outbox.guard.resolver()
    audio = Resolver(replace(rules, ports=engine.fetch.ports), resolver.names)
    fetcher = HttpFetcher(audio, _fetch_limits(engine), tls_context(engine.fetch.ca_file))
    recorded = RecordedSpeech(engine, database, rules, specs, budget, fetcher, metrics.registry)
    live = LiveSpeech(engine, database, rules, specs, budget, metrics.registry, live_worker)
    catalogue = engine.catalogue(specs)
    http = HttpServer(
        settings, database, keys, resolver, fetcher, catalogue, recorded, live, budget, watch, metrics.registry
    )
    async with AsyncExitStack() as stack:
        stack.callback(watch.close)
        stack.push_async_callback(keys.close)
        await _require_key(engine, keys)
        await stack.enter_async_context(live.running())
        # Under way while what is recorded loads too: whoever speaks first need not wait.
        await stack.enter_async_context(_beside(live.sessions.measure(engine.preload)))
        await stack.enter_async_context(recorded.running())
        await stack.enter_async_context(_beside(measure_loop_lag(metrics.loop_lag)))
        service_manager = ServiceManager(os.environ)
        _obey_signals(recorded.runner, service_manager)
        address = await stack.enter_async_context(http.running())
        log.info("engine.ready", address=address)
        service_manager.ready()
        await stack.enter_async_context(_beside(service_manager.feed(lambda: recorded.runner.turns)))
        await stack.enter_async_context(_beside(watch.until_replaced(recorded.runner.stop)))
        # While jobs drain, health and metrics are still answered, and what is submitted is kept for the next start.
        await recorded.runner.run()
        watch.complain()
    log.info("engine.stopped")


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have the work done until the block is left. Only once it is gone may what it works with be closed."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _announce(settings: EngineSettings) -> None:
    log.info("engine.started", version=version("outspoken"), pid=os.getpid())
    if opened := [str(network) for network in settings.outbox.guard.allow_networks]:
        log.warning("guard.networks.opened", networks=opened)


async def _prepare(database: Database) -> None:
    await asyncio.to_thread(migrate, database)
    if files := database.exposed():
        log.warning("store.exposed", files=[str(file) for file in files], remedy=remedy(files))


async def _require_key(engine: EngineSection, keys: ApiKeys) -> None:
    """Beyond this machine nobody may call without one. Raises ConfigError."""
    if engine.on_loopback or await keys.exist():
        return
    raise ConfigError(
        f"engine.host: {engine.host!r} can be reached from other machines, and there is no API key yet. "
        "Make one with `engine keys add NAME`, or listen on 127.0.0.1."
    )


def _fetch_limits(engine: EngineSection) -> FetchLimits:
    fetch = engine.fetch
    return FetchLimits(engine.max_upload_bytes, fetch.connect_timeout, fetch.total_timeout, fetch.redirects)


def _obey_signals(runner: Runner, service_manager: ServiceManager) -> None:
    loop = asyncio.get_running_loop()

    def obey(number: signal.Signals) -> None:
        if runner.draining:
            log.warning("engine.stopped", reason="second signal")
            os._exit(128 + number)
        service_manager.stopping()
        runner.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, obey, number)
