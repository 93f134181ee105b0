"""What machines ask of one relay: whether it lives, whether it is ready, its metrics; of a worker also its status."""

from __future__ import annotations

import time
from dataclasses import dataclass

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from relay.admin.recent import AttemptBuffer, AttemptGroup
from relay.app.relay import Relay
from relay.service.health import Check, routes

STATUS_PATH = "/status"
"""Where a worker tells its status, beside what every relay serves."""

_STALLED_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What a worker says when it is asked: turns of its claim loop, attempts under way, and those that ended."""

    turns: int
    in_flight: int
    groups: list[AttemptGroup]


class Readiness:
    """What readiness depends on. A failing receiver or a long backlog is no reason to be unready."""

    def __init__(self, relay: Relay) -> None:
        self._service = relay.service
        self._settler = relay.settler
        self._carrier = relay.carrier
        self._watch = relay.watch

    def checks(self) -> dict[str, Check]:
        """By the names that `/readyz` shows."""
        return {"store": self._store_answers, "claims": self._claims_turn, "drain": self._not_draining}

    async def _store_answers(self) -> str | None:
        """By what its loops see of it, which ask all the time: a question of its own would wait with them."""
        if trouble := self._watch.trouble():
            return f"the database: {trouble}"
        if self._settler.failing:
            return "the outbox cannot be written"
        return self._service.trouble() or self._carrier.trouble()

    async def _claims_turn(self) -> str | None:
        still = time.monotonic() - self._service.claimed_at
        return f"no claim for {still:.0f} s" if still > _STALLED_SECONDS else None

    async def _not_draining(self) -> str | None:
        return "draining" if self._service.draining else None


def health_site(relay: Relay, registry: CollectorRegistry) -> web.Application:
    """`/livez`, `/readyz` and `/metrics`."""
    site = web.Application()
    site.add_routes(routes(registry, Readiness(relay).checks()))
    return site


def worker_site(relay: Relay, registry: CollectorRegistry, buffer: AttemptBuffer) -> web.Application:
    """The same, and the status of one worker of several, which takes what is in the `buffer`."""

    async def status(_: web.Request) -> web.Response:
        now = WorkerStatus(relay.service.turns, relay.dispatcher.in_flight, buffer.take())
        return web.Response(body=msgspec.json.encode(now), content_type="application/json")

    site = health_site(relay, registry)
    site.add_routes([web.get(STATUS_PATH, status)])
    return site
