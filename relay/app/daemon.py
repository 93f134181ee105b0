"""The relay as a process: it starts, says that it is ready, drains when it is told to, and leaves."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path

import structlog

from relay.admin import keys
from relay.admin.recent import AttemptBuffer, recalled
from relay.app.admin import admin_site
from relay.app.health import health_site, worker_site
from relay.app.listening import listen, listen_on_demand, listen_on_file
from relay.app.relay import Observers, Relay
from relay.app.settings import RelaySettings
from relay.outbox.migrations import OUTBOX
from relay.outbox.results import secret as secret_of
from relay.outbox.sqlite.permissions import remedy
from relay.outbox.store import Database
from relay.service.effective import Setting
from relay.service.systemd import ServiceManager

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGE_BLOCK = 8 * 1024 * 1024
_COLLECT_AFTER = 20_000  # objects that a cycle could hide

log = structlog.get_logger()


async def run(settings: RelaySettings, in_force: Sequence[Setting] = ()) -> None:
    """Deliver until SIGTERM or SIGINT, then drain. A second signal leaves at once. `in_force` is for operators to look
    at."""
    database, options = settings.outbox.database, settings.relay
    announce(settings)
    await prepare(database)
    secret = await asyncio.to_thread(load_secret, database)
    async with AsyncExitStack() as stack:
        recent = await asyncio.to_thread(recalled, database)
        observers = Observers(options, recent)
        stack.push_async_callback(observers.close)
        relay = Relay(settings, database, secret, observers)
        await stack.enter_async_context(relay.running())
        service_manager = ServiceManager(os.environ)
        _obey_signals(relay, service_manager)
        health = health_site(relay, observers.metrics.registry)
        address = await listen(stack, health, options.host, options.port, "relay")
        operators = admin_site(settings, database, recent, lambda: relay.dispatcher.in_flight, in_force=in_force)
        admin = await listen_on_demand(stack, operators, options.admin.host, options.admin.port, "relay.admin")
        _tune_runtime()
        log.info("relay.ready", metrics=f"http://{address}/metrics", admin=f"http://{admin}/")
        service_manager.ready()
        stack.callback(asyncio.create_task(service_manager.feed(lambda: relay.service.turns)).cancel)
        await relay.run(options.drain_seconds)
    log.info("relay.stopped")


async def work(settings: RelaySettings, socket: Path, orphaned: asyncio.Event) -> None:
    """The same as one worker of several: what machines ask is served on a Unix `socket`, and its status too. Any number
    of signals mean the same, and so does it to be `orphaned`: drain."""
    database, options = settings.outbox.database, settings.relay
    secret = await asyncio.to_thread(_secret, database)
    async with AsyncExitStack() as stack:
        buffer = AttemptBuffer()
        observers = Observers(options, buffer)
        stack.push_async_callback(observers.close)
        relay = Relay(settings, database, secret, observers)
        await stack.enter_async_context(relay.running())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, relay.stop)
        await listen_on_file(stack, worker_site(relay, observers.metrics.registry, buffer), socket)
        _tune_runtime()
        stack.callback(asyncio.create_task(_stop_when(orphaned, relay)).cancel)
        await relay.run(options.drain_seconds)


async def _stop_when(orphaned: asyncio.Event, relay: Relay) -> None:
    await orphaned.wait()
    log.warning("worker.orphaned")
    relay.stop()


async def prepare(database: Database) -> None:
    """Apply the migrations that are missing, and say which, and who else may read it. Raises SchemaError and
    StoreUnavailable."""
    applied = await asyncio.to_thread(database.migrate, [OUTBOX])
    log.info("store.ready", database=database.name, migrations=[f"{m.number:04}_{m.name}" for m in applied])
    if files := database.exposed():
        log.warning("store.exposed", files=[str(file) for file in files], remedy=remedy(files))


def announce(settings: RelaySettings) -> None:
    """Say which version starts here, and which networks the guard was opened for."""
    opened = [str(network) for network in settings.outbox.guard.allow_networks]
    log.info("relay.started", version=version("outspoken"), pid=os.getpid())
    if opened:
        log.warning("guard.networks.opened", networks=opened)


def load_secret(database: Database) -> bytes:
    """The secret under links to results; and a warning where nothing signs."""
    if not keys.active(database, None, database.now()):
        log.warning("signing.off", remedy="make a key and give it to receivers: relay keys add")
    return _secret(database)


def _secret(database: Database) -> bytes:
    with database.reading() as connection:
        return secret_of(connection)


def _obey_signals(relay: Relay, service_manager: ServiceManager) -> None:
    loop = asyncio.get_running_loop()

    def obey(number: signal.Signals) -> None:
        if relay.service.draining:
            log.warning("relay.stopped", reason="second signal")
            os._exit(128 + number)
        service_manager.stopping()
        relay.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, obey, number)


def _tune_runtime() -> None:
    """What stands now stands until the end, and hardly anything after it makes a cycle: the collector need not walk
    through thousands of deliveries in flight every few milliseconds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)
    _keep_large_blocks()


def _keep_large_blocks() -> None:
    """Have glibc reuse the memory of bodies: by default it takes each large block from the kernel anew and gives it
    back, which costs more page faults than there are pages in the body. Other C libraries have no such call."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, 8 * _LARGE_BLOCK)
