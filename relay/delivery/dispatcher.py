"""Claims due deliveries while there is room, and starts one courier run for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Protocol

import structlog

from relay.errors import StoreUnavailable
from relay.model import Delivery, Lease
from relay.outbox.sqlite import Claims

Deliver = Callable[[Delivery], Coroutine[None, None, None]]

log = structlog.get_logger()


class Queue(Protocol):
    """Where due deliveries come from."""

    async def claim(self, room: int) -> Claims:
        """Lease at most `room` deliveries. Raises StoreUnavailable."""

    async def renew(self, leases: Iterable[Lease]) -> None:
        """Push the expiry of running attempts out."""

    async def release(self, leases: Iterable[Lease]) -> None:
        """Give back what was cut short. Raises StoreUnavailable."""


class Dispatcher:
    """Keeps at most `concurrency` attempts in flight."""

    def __init__(self, queue: Queue, deliver: Deliver, concurrency: int, wake: asyncio.Event) -> None:
        self._queue = queue
        self._deliver = deliver
        self._concurrency = concurrency
        self._running: dict[asyncio.Task[None], Delivery] = {}
        self._wake = wake
        self._lapsed = 0

    @property
    def in_flight(self) -> int:
        """Attempts that are under way or not yet durable."""
        return len(self._running)

    def take_lapsed(self) -> int:
        """Leases taken over since the last call."""
        taken, self._lapsed = self._lapsed, 0
        return taken

    async def run_once(self) -> int:
        """Claim what there is room for and start it; returns how many deliveries were started."""
        room = self._concurrency - len(self._running)
        if room <= 0:
            return 0
        claims = await self._queue.claim(room)
        self._lapsed += claims.lapsed
        for delivery in claims.deliveries:
            self._start(delivery)
        return len(claims.deliveries)

    def _start(self, delivery: Delivery) -> None:
        task = asyncio.create_task(self._deliver(delivery), name=f"delivery {delivery.id}")
        self._running[task] = delivery
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        delivery = self._running.pop(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()):
            # The lease stays and expires: the delivery is tried again, and whoever reads the log finds the fault.
            log.error("delivery.attempt.crashed", **{"delivery.id": delivery.id}, exc_info=error)

    async def renew(self) -> None:
        """Keep the leases of everything in flight."""
        if self._running:
            await self._queue.renew([delivery.lease for delivery in self._running.values()])

    async def drain(self, seconds: float) -> None:
        """Let attempts finish for that long; then stop the rest and release their leases."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        left = dict(self._running)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
            await self._release([delivery.lease for delivery in left.values()])

    async def _release(self, leases: list[Lease]) -> None:
        try:
            await self._queue.release(leases)
        except StoreUnavailable as error:  # the leases expire by themselves
            log.error("store.error", operation="release", kind=str(error), held=len(leases))
