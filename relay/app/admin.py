"""What operators are given: the admin API and the console, and the test requests that they may send."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version

import structlog
from aiohttp import web

from relay.admin.auth import Authenticator, token_of
from relay.admin.context import AdminContext
from relay.admin.probe import Probe, Probed, prepared, probed
from relay.admin.recent import RecentAttempts
from relay.app.relay import USER_AGENT, build_transport
from relay.app.settings import RelaySettings
from relay.delivery.courier import Courier, Transport
from relay.guard.rules import Rules
from relay.guard.url import read
from relay.outbox.model import Method
from relay.outbox.store import Database
from relay.policy.outcome import RetryPolicy
from relay.service.effective import Setting

log = structlog.get_logger()


def admin_site(
    settings: RelaySettings,
    database: Database,
    recent: RecentAttempts,
    in_flight: Callable[[], int],
    *,
    workers: int = 1,
    in_force: Sequence[Setting],
) -> Callable[[], web.Application]:
    """What loads the admin API and the console, of one relay or of all the workers of one."""
    admin = settings.relay.admin
    authenticator = Authenticator(token_of(admin.token.value, settings.token_file))
    context = AdminContext(
        database=database,
        rules=settings.outbox.guard.rules(),
        resolver=settings.outbox.guard.resolver,
        kept=settings.relay.retention.kept(),
        recent=recent,
        version=version("outspoken"),
        concurrency=workers * settings.relay.concurrency,
        in_flight=in_flight,
        environ=os.environ,
        probe=partial(probe, settings),
        settings=in_force,
        grafana=admin.grafana_url.rstrip("/"),
    )
    if not admin.token.value:
        log.info("admin.token", file=str(settings.token_file))
    return partial(_loaded, context, authenticator)


def _loaded(context: AdminContext, authenticator: Authenticator) -> web.Application:
    from relay.app.admin_server import application  # it loads pydantic

    return application(context, authenticator)


async def probe(settings: RelaySettings, url: str, method: Method, size: int) -> Probed:
    """One signed test request, on a connection of its own, and what a delivery like it would come to."""
    rules = settings.outbox.guard.rules()
    transport = build_transport(settings, settings.outbox.guard.resolver())
    try:
        what = await asyncio.to_thread(prepared, settings.outbox.database, url, method, size)
        return await send(what, transport, rules, settings.relay.retry.policy())
    finally:
        await transport.aclose()


async def send(what: Probe, transport: Transport, rules: Rules, policy: RetryPolicy) -> Probed:
    """Send it, once, by a courier: so what it comes to is what a delivery would come to. The guard judges the URL
    again, and the address as it is dialled."""
    courier = Courier(
        source=what,
        transport=transport,
        read=partial(read, rules=rules),
        policy=policy,
        pointers=None,
        user_agent=USER_AGENT,
        dice=random.random,
    )
    return probed(await courier.deliver(what.delivery()))
