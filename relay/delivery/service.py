"""Starting, keeping up and stopping: the loops of one relay, written once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from relay.delivery.dispatcher import Dispatcher
from relay.delivery.settler import Settler
from relay.outbox.errors import StoreUnavailable

_SHORTEST_REST = 0.001
_SILENT_SECONDS = 2.0
_CROWD = 32  # deliveries in one claim: fewer are a trickle, in which each should go at once

log = structlog.get_logger()


Chore = tuple[str, float, Callable[[], Awaitable[object]]]
"""A name, how often in seconds, and what to do."""


class Clockwork(Protocol):
    """Who hears that a loop turned, or failed to."""

    def turned(self, loop: str, *, ok: bool) -> None:
        """One iteration of a named loop ended."""


class Calendar(Protocol):
    """When there is next something to do, and what time it is for those who decide that."""

    def now(self) -> float:
        """Epoch seconds."""

    async def next_due(self) -> float | None:
        """Epoch seconds of the earliest pending delivery."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the loops turn, in seconds. `poll` is the safety net under a lost notification; `claims` is the
    least time after a claim that brought a crowd, so that the next is worth its transaction too."""

    poll: float = 0.25
    renew: float = 20.0
    stats: float = 5.0
    expire: float = 60.0
    claims: float = 0.005


class Service:
    """One relay at work: `run` until `stop` is called, then drain."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        settler: Settler,
        *,
        calendar: Calendar,
        wake: asyncio.Event,
        clockwork: Clockwork,
        report_stats: Callable[[], Awaitable[None]],
        expire: Callable[[], Awaitable[None]],
        pace: Pace,
    ) -> None:
        self._dispatcher = dispatcher
        self._settler = settler
        self._calendar = calendar
        self._wake = wake
        self._clockwork = clockwork
        self._pace = pace
        self._chores: list[Chore] = [
            ("renew", pace.renew, dispatcher.renew),
            ("stats", pace.stats, report_stats),
            ("expire", pace.expire, expire),
        ]
        self._stopping = asyncio.Event()
        self.claimed_at = time.monotonic()
        self.turns = 0  # of the claim loop, whether they brought anything or failed
        self._asked_at: float | None = None  # monotonic, while the claim loop waits for the outbox
        self._refused: dict[str, str] = {}  # loops whose last turn the outbox refused, and how

    @property
    def draining(self) -> bool:
        """Whether no new deliveries are claimed any more."""
        return self._stopping.is_set()

    def trouble(self) -> str | None:
        """Why the outbox cannot be used, by the last turns of the loops that use it often; None while it can."""
        if self._asked_at is not None and (silent := time.monotonic() - self._asked_at) > _SILENT_SECONDS:
            return f"the outbox has not answered for {silent:.0f} s"
        kind = self._refused.get("claim") or self._refused.get("check_in")
        return f"the outbox cannot be used ({kind})" if kind else None

    def also(self, name: str, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        """Do this too, every so many seconds, once `run` is called."""
        self._chores.append((name, seconds, work))

    def stop(self) -> None:
        """Claim nothing more; `run` returns when what is in flight has ended."""
        self._stopping.set()
        self._wake.set()

    async def run(self, drain_seconds: float) -> None:
        """Claim and deliver until `stop`; then let attempts finish for `drain_seconds` and release the rest."""
        settling = asyncio.create_task(self._settler.run(), name="settle")
        upkeep = [asyncio.create_task(self._every(seconds, name, work)) for name, seconds, work in self._chores]
        try:
            await self._claim_until_stopped()
            log.info("relay.draining", in_flight=self._dispatcher.in_flight)
            await self._dispatcher.drain(drain_seconds)
            await self._turn("settle", self._settler.run_once)
        finally:
            await _cancel(settling, *upkeep)

    async def _claim_until_stopped(self) -> None:
        while not self._stopping.is_set():
            self.turns += 1
            self._asked_at = time.monotonic()
            self._wake.clear()
            claimed = await self._turn("claim", self._dispatcher.run_once)
            if claimed is not None:
                self.claimed_at = time.monotonic()
            if claimed and claimed >= _CROWD:
                await asyncio.sleep(self._pace.claims)
            await self._rest()

    async def _rest(self) -> None:
        """Until a notification, a freed slot, the next due time or the safety poll, whichever comes first."""
        seconds = await self._idle_seconds(self._calendar.now())
        self._asked_at = None
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _idle_seconds(self, now: float) -> float:
        try:
            due_at = await self._calendar.next_due()
        except StoreUnavailable:  # the next claim will say so
            return self._pace.poll
        if due_at is None or due_at <= now:  # due but not claimed: no room, which a freed slot will announce
            return self._pace.poll
        return min(self._pace.poll, max(_SHORTEST_REST, due_at - now))

    async def _every(self, seconds: float, name: str, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            await self._turn(name, work)
            await asyncio.sleep(seconds)

    async def _turn(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """One iteration; None when it failed. A loop outlives its failures: a store that is locked or full now may be
        well in a second, and a dead loop in a living process would be noticed late."""
        result = None
        try:
            result = await work()
            result = True if result is None else result
            self._hear(name, None)
        except StoreUnavailable as error:
            self._hear(name, error.kind)
        except Exception as error:
            log.error("loop.failed", loop=name, exc_info=error)
        self._clockwork.turned(name, ok=result is not None)
        return result

    def _hear(self, name: str, kind: str | None) -> None:
        """The outbox refused a loop, or did not. It is told once, and not at every turn of an outage of hours."""
        before = self._refused.pop(name, None)
        if kind:
            self._refused[name] = kind
        if kind and kind != before:
            log.error("store.error", operation=name, kind=kind)
        if before and not kind:
            log.info("store.recovered", operation=name)


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
