"""Relays that claim and settle by hand, at a time that only moves when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from relay.outbox.store import Database
from relay.policy.attempt import Answer, Delivery, Lease, Retry, Verdict
from relay.queue.claims import ClaimRequest
from relay.queue.deliveries import DeliveryQueue
from tests.relay.deliveries import answer, attempted, new, put

START = 1000.0
Open = Callable[..., DeliveryQueue]


class Clock:
    """A time that only moves when a test says so."""

    now = START

    def __call__(self) -> float:
        return self.now


def ids(deliveries: tuple[Delivery, ...]) -> list[str]:
    """Which ones, in the order in which they were claimed."""
    return [delivery.id for delivery in deliveries]


async def claim(
    relay: DeliveryQueue, room: int = 100, free: Mapping[str, int] | None = None, most: int = 16, **wanted: Any
) -> tuple[Delivery, ...]:
    """What a relay gets that holds nothing, or that has so much `free`; new origins get as much as others."""
    return (await relay.claim(want(room, free, most, **wanted))).deliveries


async def sort_out(relay: DeliveryQueue) -> None:
    """Claims that are too small to bring anything, until all stands in its lane."""
    while (await relay.claim(want(0))).more:
        pass


def want(room: int = 100, free: Mapping[str, int] | None = None, most: int = 16, **wanted: Any) -> ClaimRequest:
    """What a relay has room for that holds nothing, or that has so much `free`."""
    wanted = {"silent": room, "untried": room, "few": most, "of_untried": most, "of_endpoint": most} | wanted
    return ClaimRequest(room=room, of_origin=most, origins=free or {}, **wanted)


async def one_claimed(database: Database, relay: DeliveryQueue) -> Delivery:
    """A delivery that was just added and claimed."""
    put(database, new(), due_at=START)
    (delivery,) = await claim(relay)
    return delivery


async def end(
    relay: DeliveryQueue,
    delivery: Delivery,
    came: Answer | None = None,
    verdict: Verdict | None = None,
    *,
    at: float = START,
    took: float = 0.0,
) -> frozenset[Lease]:
    """Settle one attempt that ended at `at`; a failed one is due again at once. Returns the stale leases."""
    came = came or answer(200)
    retry = None if 200 <= (came.status or 0) < 300 else Retry(at)
    ended = replace(attempted(delivery, came, verdict or retry), started_at=at - took, finished_at=at)
    return await relay.settle([ended])
