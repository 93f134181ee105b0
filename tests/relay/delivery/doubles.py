"""Test doubles around the moving parts: receivers that answer as told, couriers that wait, a disk that fills up."""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from relay.policy.attempt import Answer, Attempted, Delivery, Envelope, Lease
from relay.queue.deliveries import DeliveryQueue
from tests.relay.deliveries import answer, attempted


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can grow: what SQLite sees is what it sees of a disk that fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Network:
    """A transport whose receivers answer what a test says, in turn, and then 200."""

    def __init__(self, *answers: Answer) -> None:
        self.sent: list[Envelope] = []
        self._answers = list(answers)

    async def send(self, envelope: Envelope) -> Answer:
        self.sent.append(envelope)
        return self._answers.pop(0) if self._answers else answer(200)


class CountedStore:
    """The outbox, and how many attempts each of its transactions ended."""

    def __init__(self, outbox: DeliveryQueue) -> None:
        self.batches: list[int] = []
        self._outbox = outbox

    async def settle(self, attempts: Sequence[Attempted]) -> frozenset[Lease]:
        self.batches.append(len(attempts))
        return await self._outbox.settle(attempts)


class Couriers:
    """Couriers that wait until a test lets their deliveries through."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.at_once: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.began: dict[str, float] = {}
        self._passes: dict[str, asyncio.Event] = {}

    async def deliver(self, delivery: Delivery) -> Attempted:
        """Wait to be let through; `most` remembers how many waited at once, of each destination and in all, and
        `began` since when those do that wait now."""
        self.began[delivery.id] = time.monotonic()
        self.started.append(delivery.id)
        for name in (delivery.destination, "all"):
            self.at_once[name] += 1
            self.most[name] = max(self.most[name], self.at_once[name])
        try:
            await asyncio.sleep(0)  # this takes a moment in any case, in which others arrive
            await self._pass(delivery.id).wait()
        finally:
            self.at_once.subtract((delivery.destination, "all"))
            del self.began[delivery.id]
        return attempted(delivery)

    def let_through(self, *ids: str) -> None:
        for id_ in ids:
            self._pass(id_).set()

    def _pass(self, id_: str) -> asyncio.Event:
        return self._passes.setdefault(id_, asyncio.Event())
