"""`relay run --workers`: a supervisor that keeps so many worker processes alive, and speaks for all of them.

It delivers nothing itself. Each worker is a whole relay behind a Unix socket of its own; what they share is the
database, as relays on several machines do.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack

import structlog
from aiohttp import web

from relay.admin.recent import recalled
from relay.app import daemon as app
from relay.app.admin import admin_site
from relay.app.listening import listen, listen_on_demand
from relay.app.settings import RelaySettings
from relay.app.socket_folder import socket_folder
from relay.app.workers import WorkerPool
from relay.service.effective import Setting
from relay.service.health import routes_for
from relay.service.systemd import ServiceManager
from relay.service.watch import FileWatch

log = structlog.get_logger()


async def run(settings: RelaySettings, count: int, in_force: Sequence[Setting]) -> None:
    """Keep `count` workers delivering until SIGTERM or SIGINT, then have them drain. A second signal leaves at once.
    Raises ConfigError and StoreUnavailable before there is any worker."""
    database = settings.outbox.database
    app.announce(settings)
    await app.prepare(database)
    watch = FileWatch(database, holds=False)  # the workers have it open
    await asyncio.to_thread(app.load_secret, database)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(socket_folder())
        pool = WorkerPool(settings, count, folder, await asyncio.to_thread(recalled, database))
        service_manager = ServiceManager(os.environ)
        _obey_signals(pool, service_manager)
        metrics = await _serve(stack, settings, pool)
        place = settings.relay.admin
        operators = admin_site(
            settings, database, pool.recent, lambda: pool.in_flight, workers=count, in_force=in_force
        )
        admin = await listen_on_demand(stack, operators, place.host, place.port, "relay.admin")
        announcing = asyncio.create_task(
            _announce(pool, service_manager, metrics=f"http://{metrics}/metrics", admin=f"http://{admin}/")
        )
        stack.callback(announcing.cancel)
        watching = asyncio.create_task(watch.until_replaced(pool.stop))
        stack.callback(watching.cancel)
        await pool.run()
        watch.complain()
    log.info("relay.stopped")


async def _serve(stack: AsyncExitStack, settings: RelaySettings, pool: WorkerPool) -> str:
    """Metrics and health; returns the address that is bound."""
    site = web.Application()
    site.add_routes(routes_for(pool.expose, pool.checks()))
    return await listen(stack, site, settings.relay.host, settings.relay.port, "relay")


async def _announce(pool: WorkerPool, service_manager: ServiceManager, **addresses: str) -> None:
    """Once all are ready; and feed the watchdog as long as all of them turn."""
    await pool.ready.wait()
    log.info("relay.ready", workers=len(pool.workers), **addresses)
    service_manager.ready()
    await service_manager.feed(lambda: pool.rounds)


def _obey_signals(pool: WorkerPool, service_manager: ServiceManager) -> None:
    loop = asyncio.get_running_loop()

    def obey(number: signal.Signals) -> None:
        if pool.stopping:
            log.warning("relay.stopped", reason="second signal")
            pool.kill()
            os._exit(128 + number)
        log.info("relay.draining", in_flight=pool.in_flight)
        service_manager.stopping()
        pool.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, obey, number)
