"""The admin port of a relay, served for real, in a thread of its own: browsers are asked without a loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_network
from typing import Any

from aiohttp import web

from relay.admin.auth import Authenticator
from relay.admin.context import AdminContext
from relay.admin.recent import RecentAttempts
from relay.app.admin import probe
from relay.app.admin_server import application
from relay.app.settings import RelaySettings
from relay.outbox.store import Database
from relay.queue.retention import DeliveryRetention
from relay.service.effective import Setting
from relay.service.settings import GuardSettings, OutboxSettings

GUARD = GuardSettings(ports=frozenset({443}), allow_networks=(ip_network("127.0.0.0/8"), ip_network("192.0.2.0/24")))
TOKEN = "a-token-that-opens-everything"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def context(database: Database, recent: RecentAttempts | None = None) -> AdminContext:
    """What stands before operators of this outbox."""
    settings = RelaySettings(outbox=OutboxSettings(url=database.url, guard=GUARD))
    return AdminContext(
        database=database,
        rules=GUARD.rules(),
        resolver=GUARD.resolver,
        kept=DeliveryRetention(),
        recent=recent or RecentAttempts(time.time()),
        version="1.2.3",
        concurrency=256,
        in_flight=lambda: 3,
        environ={},
        probe=partial(probe, settings),
        settings=(Setting("relay.port", 9464, "default"),),
    )


@contextmanager
def served(of: AdminContext) -> Iterator[str]:
    """Its address, for as long as the block lasts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def do(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    runner = web.AppRunner(application(of, Authenticator(TOKEN)), access_log=None, shutdown_timeout=0.1)
    try:
        do(runner.setup())
        do(web.TCPSite(runner, "127.0.0.1", 0).start())
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        do(runner.cleanup())
        do(loop.shutdown_default_executor())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
