from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from relay.delivery.dispatcher import Dispatcher
from relay.model import Delivery
from relay.outbox.sqlite import Limits, SqliteOutbox
from tests.relay.deliveries import attempted, many, new, put, rows, states
from tests.relay.delivery.surroundings import full_disk


class Couriers:
    """Couriers that stand before the receiver's door until it opens."""

    def __init__(self, outbox: SqliteOutbox) -> None:
        self.started: list[str] = []
        self.at_once = self.most = 0
        self.doors: dict[str, asyncio.Event] = {}
        self._outbox = outbox

    async def deliver(self, delivery: Delivery) -> None:
        self.started.append(delivery.id)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.doors.setdefault(delivery.id, asyncio.Event()).wait()
            await self._outbox.settle([attempted(delivery)])
        finally:
            self.at_once -= 1

    def open(self, *ids: str) -> None:
        for id_ in ids:
            self.doors.setdefault(id_, asyncio.Event()).set()


def dispatch(outbox: SqliteOutbox, couriers: Couriers, concurrency: int = 10) -> tuple[Dispatcher, asyncio.Event]:
    wake = asyncio.Event()
    return Dispatcher(outbox, couriers.deliver, concurrency, wake), wake


async def test_never_more_attempts_are_in_flight_than_allowed(database: Path, outbox: SqliteOutbox) -> None:
    put(database, *many(10))
    couriers = Couriers(outbox)
    dispatcher, wake = dispatch(outbox, couriers, concurrency=3)
    assert await dispatcher.run_once() == 3
    assert await dispatcher.run_once() == 0
    assert dispatcher.in_flight == 3
    couriers.open(*(f"d{number}" for number in range(1, 11)))
    while "pending" in states(database).values():
        await wake.wait()
        wake.clear()
        await dispatcher.run_once()
    await dispatcher.drain(5)
    assert couriers.most == 3
    assert set(states(database).values()) == {"delivered"}


async def test_the_end_of_an_attempt_wakes_whoever_waits_for_room(database: Path, outbox: SqliteOutbox) -> None:
    put(database, new("d1"))
    couriers = Couriers(outbox)
    dispatcher, wake = dispatch(outbox, couriers)
    await dispatcher.run_once()
    assert not wake.is_set()
    couriers.open("d1")
    async with asyncio.timeout(5):
        await wake.wait()
    assert dispatcher.in_flight == 0


async def test_a_courier_that_crashes_is_logged_and_leaves_its_lease_to_expire(
    database: Path, outbox: SqliteOutbox, log: list[MutableMapping[str, Any]]
) -> None:
    async def crash(_: Delivery) -> None:
        raise ZeroDivisionError("canary")

    put(database, new("d1"))
    wake = asyncio.Event()
    dispatcher = Dispatcher(outbox, crash, 10, wake)
    await dispatcher.run_once()
    async with asyncio.timeout(5):
        await wake.wait()
    (line,) = log
    assert (line["event"], line["delivery.id"]) == ("delivery.attempt.crashed", "d1")
    assert isinstance(line["exc_info"], ZeroDivisionError)
    assert states(database) == {"d1": "leased"}
    assert dispatcher.in_flight == 0


async def test_draining_waits_for_the_attempts_under_way(database: Path, outbox: SqliteOutbox) -> None:
    put(database, *many(2))
    couriers = Couriers(outbox)
    dispatcher, _ = dispatch(outbox, couriers)
    await dispatcher.run_once()
    draining = asyncio.create_task(dispatcher.drain(60))
    couriers.open("d1")
    await asyncio.wait([draining], timeout=0.05)
    assert not draining.done()
    couriers.open("d2")
    await draining
    assert set(states(database).values()) == {"delivered"}


async def test_what_is_still_under_way_after_the_drain_is_given_back_at_once(
    database: Path, outbox: SqliteOutbox
) -> None:
    put(database, *many(2))
    couriers = Couriers(outbox)
    dispatcher, _ = dispatch(outbox, couriers)
    await dispatcher.run_once()
    couriers.open("d1")
    await dispatcher.drain(0.05)
    assert states(database) == {"d1": "delivered", "d2": "pending"}
    assert dispatcher.in_flight == 0
    heir = SqliteOutbox(database, Limits())
    (again,) = (await heir.claim(9)).deliveries
    await heir.close()
    assert (again.id, again.attempts, again.number) == ("d2", 0, 2)


async def test_draining_ends_though_nothing_can_be_given_back(
    database: Path, outbox: SqliteOutbox, log: list[MutableMapping[str, Any]]
) -> None:
    put(database, new("d1"))
    dispatcher, _ = dispatch(outbox, Couriers(outbox))
    await dispatcher.run_once()
    with full_disk():
        await dispatcher.drain(0)
    assert [(line["event"], line["operation"], line["held"]) for line in log] == [("store.error", "release", 1)]
    assert states(database) == {"d1": "leased"}


async def test_with_nothing_in_flight_draining_is_over_at_once(outbox: SqliteOutbox) -> None:
    dispatcher, _ = dispatch(outbox, Couriers(outbox))
    async with asyncio.timeout(1):
        await dispatcher.drain(60)


async def test_the_leases_of_running_attempts_are_kept(database: Path, outbox: SqliteOutbox) -> None:
    put(database, new("d1"))
    couriers = Couriers(outbox)
    dispatcher, _ = dispatch(outbox, couriers)
    await dispatcher.run_once()
    rows(database, "UPDATE deliveries SET lease_until = 1.0")
    await dispatcher.renew()
    assert rows(database, "SELECT lease_until > created_at FROM deliveries") == [(1,)]
    couriers.open("d1")
    await dispatcher.drain(5)


async def test_leases_that_were_taken_over_are_counted(database: Path, outbox: SqliteOutbox) -> None:
    put(database, *many(3))
    abandoned = SqliteOutbox(database, Limits(lease=-1.0))
    await abandoned.claim(3)
    await abandoned.close()
    couriers = Couriers(outbox)
    couriers.open("d1", "d2", "d3")
    dispatcher, _ = dispatch(outbox, couriers)
    assert await dispatcher.run_once() == 3
    assert [dispatcher.take_lapsed(), dispatcher.take_lapsed()] == [3, 0]
    await dispatcher.drain(5)
