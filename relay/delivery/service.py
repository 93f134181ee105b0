"""Starting, keeping up and stopping: the loops of one relay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import structlog

from relay.delivery.dispatcher import Dispatcher
from relay.delivery.settler import Settler
from relay.outbox.errors import StoreUnavailable
from relay.outbox.store import POLL_SECONDS, in_step
from relay.queue.deliveries import DeliveryQueue
from relay.service.loop import Loop, LoopObserver, turning

_SHORTEST_REST = 0.001
_SILENT_SECONDS = 2.0
_CROWD = 32  # deliveries in one claim: fewer are a trickle, in which each should go at once

log = structlog.get_logger()


PeriodicTask = tuple[str, float, Callable[[], Awaitable[object]]]
"""A name, how often in seconds, and what to do."""


@dataclass(frozen=True, slots=True)
class LoopIntervals:
    """How often the loops turn, in seconds. `poll` says how long to wait for a notification; `claims` is the least time
    after a claim that brought a crowd, so that the next is worth its transaction too."""

    poll: Callable[[], float] = lambda: POLL_SECONDS
    renew: float = 20.0
    claims: float = 0.005


class Service:
    """One relay at work: `run` until `stop` is called, then drain. `periodic` tasks are done beside it all the time."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        settler: Settler,
        *,
        queue: DeliveryQueue,
        wake: asyncio.Event,
        observer: LoopObserver,
        periodic: Iterable[PeriodicTask],
        pace: LoopIntervals,
    ) -> None:
        self._dispatcher = dispatcher
        self._queue = queue
        self._wake = wake
        self._pace = pace
        self._stopping = asyncio.Event()
        self._claim = Loop("claim", dispatcher.run_once, POLL_SECONDS, wake=wake, rest=self._rest, observer=observer)
        self._settle = Loop(
            "settle", settler.run_once, None, wake=settler.arrived, rest=settler.gather, observer=observer
        )
        every = [("renew", pace.renew, dispatcher.renew), *periodic]
        self._periodic = {name: Loop(name, work, seconds, observer=observer) for name, seconds, work in every}

    @property
    def draining(self) -> bool:
        """Whether no new deliveries are claimed any more."""
        return self._stopping.is_set()

    @property
    def turns(self) -> int:
        """Of the claim loop, whether they brought anything or failed."""
        return self._claim.turns

    @property
    def claimed_at(self) -> float:
        """When a claim last went well, on the monotonic clock."""
        return self._claim.succeeded_at

    def trouble(self) -> str | None:
        """Why the outbox cannot be used, by the last turns of the loops; None while it can."""
        asked_at = self._claim.busy_since
        if asked_at is not None and (silent := time.monotonic() - asked_at) > _SILENT_SECONDS:
            return f"the outbox has not answered for {silent:.0f} s"
        if self._claim.refused == "busy":
            return "the outbox cannot be used (busy)"
        loops = (self._claim, self._settle, *self._periodic.values())
        return next(filter(None, (loop.trouble() for loop in loops)), None)

    def stop(self) -> None:
        """Claim nothing more; `run` returns when what is in flight has ended."""
        self._stopping.set()
        self._wake.set()

    async def run(self, drain_seconds: float) -> None:
        """Claim and deliver until `stop`; then let attempts finish for `drain_seconds` and release the rest."""
        async with turning(self._settle, *self._periodic.values()):
            await self._claim.run(until=self._stopping)
            log.info("relay.draining", in_flight=self._dispatcher.in_flight)
            await self._dispatcher.drain(drain_seconds)
            await self._settle.run_once()

    async def _rest(self, claimed: int | None) -> float:
        """How long to wait for a notification or a freed slot: until the next due time or the safety poll."""
        if claimed and claimed >= _CROWD:
            await asyncio.sleep(self._pace.claims)
        poll = in_step(self._pace.poll())
        try:
            due_at = await self._queue.next_due()
        except StoreUnavailable:  # the next claim will say so
            return min(poll, POLL_SECONDS)
        now = self._queue.now()  # only then: what is due already is due now at the latest
        self._dispatcher.note_left_due(is_due=due_at is not None and due_at <= now)
        if due_at is None:
            return poll
        if due_at <= now:  # and not claimed: no room, which a freed slot will announce, or another has it in hand
            return min(poll, POLL_SECONDS)
        return min(poll, max(_SHORTEST_REST, due_at - now))
