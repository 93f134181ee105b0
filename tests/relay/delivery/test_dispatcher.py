from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter
from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay import outbox as producer
from relay.delivery.dispatcher import ClaimTimer, Dispatcher
from relay.delivery.settler import Settler
from relay.delivery.slots import PATIENCE as PATIENCE_OF_SLOTS
from relay.delivery.slots import PROMPT_SECONDS, Slots
from relay.outbox.errors import StoreUnavailable
from relay.outbox.model import Stream
from relay.outbox.store import Database
from relay.policy.attempt import Attempted, Delivery, Failure, Lease
from relay.policy.breaker import Standing
from relay.queue.claims import ClaimRequest, Claims, DestinationKey, OwnersOrigin
from relay.queue.deliveries import DeliveryQueue
from tests.relay.databases import on_sqlite
from tests.relay.deliveries import answer, attempted, claimed, many, new, put, rows, stand, states
from tests.relay.delivery.doubles import Couriers, full_disk
from tests.relay.queue.claims import Clock

HOG, OTHER = "http://hog.example/", "http://other.example/"
PATIENCE = 60.0  # seconds before a test gives up
LOOK = 0.05
LEASE = 0.5


class Harness:
    """A dispatcher whose couriers wait to be let through, and whose settlements are written when a test says so."""

    def __init__(self, outbox: DeliveryQueue, slots: Slots, lease: float = 60.0) -> None:
        self.couriers = Couriers()
        self.told: list[str] = []
        self.wake = asyncio.Event()
        self.settler = Settler(outbox, self.tell, self.wake)
        self.share = slots.per_destination
        self.dispatcher = Dispatcher(
            outbox, self.couriers.deliver, self.settler, slots, self.wake, lambda: self.share, lease
        )

    def tell(self, attempts: Any) -> None:
        self.told += [attempt.delivery.id for attempt in attempts]

    async def deliver_all(self, database: Database) -> None:
        """Turn both cranks until nothing is pending or leased."""
        async with asyncio.timeout(PATIENCE):
            while {"pending", "leased"} & set(states(database).values()):
                self.wake.clear()
                if not await self.dispatcher.run_once() and self.dispatcher.in_flight:
                    await first_of(self.wake, self.settler.arrived)
                await self.settler.run_once()

    async def turn(self) -> None:
        """One turn, and the time until the next, as a relay has it: until it is woken, or looks by itself."""
        self.wake.clear()
        await self.dispatcher.run_once()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wake.wait(), LOOK)

    async def ended(self, count: int) -> None:
        """Until so many attempts have ended and wait for their settlement."""
        async with asyncio.timeout(PATIENCE):
            while len(self.settler.waiting) < count:
                await asyncio.sleep(0)


async def first_of(*events: asyncio.Event) -> None:
    """Until one of them is set."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


def harness(outbox: DeliveryQueue, in_all: int = 10, per_destination: int = 10) -> Harness:
    """One that doubts nobody: who may not answer takes as much as everybody else."""
    return Harness(outbox, Slots(in_all, per_destination, doubtful=1.0, few=per_destination))


def tried(database: Database, *origins: str) -> None:
    """Origins whose latest attempt was answered."""
    for origin in origins:
        rows(database, "INSERT INTO outspoken_destinations (origin) VALUES (?) RETURNING origin", origin)


@pytest.fixture(autouse=True)
def known(request: pytest.FixtureRequest) -> None:
    """Who is called below answered before."""
    if "database" in request.fixturenames:
        hosts = ("a", "b", "c", "hog", "other")
        origins = ["https://receiver.example:443", *(f"http://{host}.example:80" for host in hosts)]
        tried(request.getfixturevalue("database"), *origins)


@pytest.fixture
async def ten_slots(outbox: DeliveryQueue) -> AsyncIterator[Harness]:
    """One with room for ten."""
    one = harness(outbox)
    yield one
    await one.dispatcher.drain(0)


def tokens(database: Database) -> dict[str, str | None]:
    """By whose claim each delivery is held."""
    return dict(rows(database, "SELECT id, lease_token FROM outspoken_deliveries"))


def ignore(_: Sequence[Attempted]) -> None:
    """Nobody needs to hear of it."""


def every(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(1, count + 1)]


# --- how many at once


async def test_never_more_attempts_are_in_flight_than_allowed(database: Database, outbox: DeliveryQueue) -> None:
    put(database, *many(30))
    one = harness(outbox, in_all=3)
    await one.dispatcher.run_once()
    await one.dispatcher.run_once()
    assert one.dispatcher.in_flight == 3
    one.couriers.let_through(*every("d", 30))
    await one.deliver_all(database)
    assert one.couriers.most["all"] == 3
    assert set(states(database).values()) == {"delivered"}
    assert sorted(one.told) == sorted(every("d", 30))


async def test_never_more_to_one_destination_than_its_cap(database: Database, outbox: DeliveryQueue) -> None:
    put(database, *many(40, HOG, "h"), *many(3, OTHER, "o"))
    one = harness(outbox, in_all=20, per_destination=4)
    await one.dispatcher.run_once()
    await asyncio.sleep(0)
    assert one.couriers.at_once == {"http://hog.example:80": 4, "http://other.example:80": 3, "all": 7}
    one.couriers.let_through(*every("h", 40), *every("o", 3))
    await one.deliver_all(database)
    assert one.couriers.most == {"http://hog.example:80": 4, "http://other.example:80": 3, "all": 7}


async def test_several_relays_share_the_cap_of_a_destination(database: Database, outbox: DeliveryQueue) -> None:
    put(database, *many(40, HOG, "h"))
    one = harness(outbox, in_all=20, per_destination=16)
    one.share = 0
    assert await one.dispatcher.run_once() == 0
    one.share = 4
    await one.dispatcher.run_once()
    assert one.dispatcher.in_flight == 4
    one.couriers.let_through(*every("h", 40))
    await one.deliver_all(database)
    assert one.couriers.most["all"] == 4


async def test_what_waits_when_the_share_is_taken_away_starts_when_it_is_back(
    database: Database, outbox: DeliveryQueue
) -> None:
    put(database, *many(3, HOG, "h"))
    one = harness(outbox, in_all=20, per_destination=1)
    await one.dispatcher.run_once()
    one.share = 0
    one.couriers.let_through(*every("h", 3))
    await one.ended(1)
    assert one.dispatcher.in_flight == 0
    one.share = 1
    await one.deliver_all(database)
    assert one.couriers.most["all"] == 1


async def test_a_destination_that_hangs_holds_a_handful_and_no_more(database: Database, outbox: DeliveryQueue) -> None:
    put(database, *many(200, HOG, "h"))
    one = harness(outbox, in_all=100, per_destination=4)
    for _ in range(20):
        await one.dispatcher.run_once()
    assert one.dispatcher.in_flight == 4
    assert Counter(states(database).values()) == {"pending": 196, "leased": 4}
    put(database, *many(5, OTHER, "o"))
    one.couriers.let_through(*every("o", 5))
    await one.dispatcher.run_once()
    await one.ended(1)
    assert one.couriers.most["http://other.example:80"] == 4
    await one.dispatcher.drain(0)


async def test_a_destination_that_is_fast_is_claimed_ahead_of_its_slots(
    database: Database, outbox: DeliveryQueue
) -> None:
    put(database, *many(60, HOG, "h"))
    one = harness(outbox, in_all=10, per_destination=4)
    await one.dispatcher.run_once()
    one.couriers.let_through(*every("h", 3))
    await one.ended(3)
    await one.dispatcher.run_once()
    assert Counter(states(database).values())["leased"] - len(one.settler.waiting) == 4 + 2 * 3
    assert one.dispatcher.in_flight == 4
    one.couriers.let_through("h4")
    await one.ended(4)
    await one.dispatcher.run_once()  # soon after another, and no less is held ahead
    assert Counter(states(database).values())["leased"] - len(one.settler.waiting) >= 4 + 2 * 3
    one.couriers.let_through(*every("h", 60))
    await one.deliver_all(database)
    assert one.couriers.most["all"] == 4


async def test_a_destination_all_of_whose_slots_end_at_once_is_claimed_ahead_of_them_too() -> None:
    source, couriers = FakeSource({"fast": 200, "not so fast": 8}), Couriers()
    settler = Settler(source, ignore, asyncio.Event())
    dispatcher = Dispatcher(source, couriers.deliver, settler, Slots(), asyncio.Event())
    couriers.let_through(*(f"{origin}.{number}" for origin in source.backlog for number in range(200)))
    await dispatcher.run_once()
    while len(settler.waiting) < 16 + 8 or dispatcher.in_flight:
        await asyncio.sleep(0)
    source.backlog["not so fast"] = [f"not so fast.{number}" for number in range(100, 200)]
    await dispatcher.run_once()
    assert {origin: len(ids) for origin, ids in source.backlog.items()} == {
        "fast": 200 - 3 * 16 - 16,
        "not so fast": 84,
    }
    await dispatcher.drain(0)


async def test_room_is_what_is_not_ahead_nor_under_way_nor_unsettled(database: Database, outbox: DeliveryQueue) -> None:
    put(database, *many(1100, HOG, "h"))
    one = harness(outbox, in_all=600, per_destination=600)
    one.couriers.let_through(*every("h", 1100))
    for _ in range(4):
        await one.dispatcher.run_once()
        await one.ended(0)
    while one.dispatcher.in_flight:
        await asyncio.sleep(0)
    await one.dispatcher.run_once()
    held = Counter(states(database).values())["leased"]
    assert held <= 2 * 600
    await one.deliver_all(database)


async def test_slots_that_become_free_are_filled_in_turn(database: Database, outbox: DeliveryQueue) -> None:
    hosts = [f"http://{name}.example/" for name in "abc"]
    put(database, *(delivery for host in hosts for delivery in many(4, host, host[7])))
    one = harness(outbox, in_all=3, per_destination=4)
    await one.dispatcher.run_once()
    await asyncio.sleep(0)
    assert sorted(one.couriers.started) == ["a1", "b1", "c1"]
    one.couriers.let_through(*(f"{name}{number}" for name in "abc" for number in range(1, 5)))
    await one.deliver_all(database)
    rounds = [sorted(one.couriers.started[index : index + 3]) for index in range(0, 12, 3)]
    assert rounds == [[f"{name}{number}" for name in "abc"] for number in range(1, 5)]


async def test_the_end_of_an_attempt_starts_the_next_without_a_claim(database: Database, outbox: DeliveryQueue) -> None:
    put(database, *many(6, HOG, "h"))
    one = harness(outbox, in_all=2, per_destination=6)
    await one.dispatcher.run_once()
    one.couriers.let_through("h1")
    await one.ended(1)
    await asyncio.sleep(0)
    assert one.couriers.started == ["h1", "h2", "h3"]
    await one.dispatcher.drain(0)


async def test_the_end_of_an_attempt_wakes_whoever_waits_for_room(database: Database, ten_slots: Harness) -> None:
    put(database, *many(11))
    await ten_slots.dispatcher.run_once()
    assert not ten_slots.wake.is_set()
    ten_slots.couriers.let_through("d1")
    async with asyncio.timeout(PATIENCE):
        await ten_slots.wake.wait()
    assert ten_slots.dispatcher.in_flight == 9


async def test_the_end_of_an_attempt_asks_for_no_claim_of_what_only_others_left(
    database: Database, outbox: DeliveryQueue
) -> None:
    put(database, new("d1", "http://a.example/"), *many(40, HOG, "h"))
    one = harness(outbox, in_all=20)
    await one.dispatcher.run_once()
    one.couriers.let_through("d1")
    await one.ended(1)
    while one.dispatcher.in_flight > 10:
        await asyncio.sleep(0)
    assert not one.wake.is_set()
    one.couriers.let_through("h1")
    async with asyncio.timeout(PATIENCE):
        await one.wake.wait()
    await one.dispatcher.drain(0)


async def test_where_nothing_was_left_the_end_of_an_attempt_asks_for_no_claim(
    database: Database, ten_slots: Harness
) -> None:
    put(database, new("d1"))
    await ten_slots.dispatcher.run_once()
    ten_slots.dispatcher.note_left_due(is_due=False)
    ten_slots.couriers.let_through("d1")
    await ten_slots.ended(1)
    while ten_slots.dispatcher.in_flight:
        await asyncio.sleep(0)
    assert not ten_slots.wake.is_set()


async def test_nor_where_something_waits_in_line_for_the_slot(database: Database, outbox: DeliveryQueue) -> None:
    put(database, *many(3))
    one = harness(outbox, in_all=1)
    await one.dispatcher.run_once()
    one.dispatcher.note_left_due(is_due=False)
    one.couriers.let_through("d1")
    await one.ended(1)
    while len(one.couriers.started) < 2:
        await asyncio.sleep(0)
    assert not one.wake.is_set()
    await one.dispatcher.drain(0)


async def test_nor_where_one_that_answers_at_once_leaves_room_and_only_others_had_none() -> None:
    source, couriers, wake = FakeSource({"known": 2000}), Couriers(), asyncio.Event()
    settler = Settler(source, ignore, wake)
    dispatcher = Dispatcher(source, couriers.deliver, settler, Slots(256, 800), wake)
    await dispatcher.run_once()
    couriers.let_through("prompt.0", "prompt.1")
    for number in range(2):
        source.backlog["prompt"] = [f"prompt.{number}"]
        wake.clear()
        await dispatcher.run_once()
        while len(settler.waiting) == number:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not wake.is_set()
    await dispatcher.drain(0)


async def test_where_there_was_no_room_at_all_the_end_of_any_attempt_asks_for_a_claim() -> None:
    source, couriers, wake = FakeSource({"small": 1, "large": 3000}), Couriers(), asyncio.Event()
    settler = Settler(source, ignore, wake)
    dispatcher = Dispatcher(source, couriers.deliver, settler, Slots(256, 3000), wake)
    await dispatcher.run_once()
    wake.clear()
    couriers.let_through("small.0")
    while not settler.waiting:
        await asyncio.sleep(0)
    assert wake.is_set()
    await dispatcher.drain(0)


async def test_a_stream_has_one_in_flight(database: Database, outbox: DeliveryQueue) -> None:
    put(database, *(new(f"s{number}", stream=Stream("s")) for number in range(1, 9)))
    one = harness(outbox)
    one.couriers.let_through(*every("s", 8))
    await one.deliver_all(database)
    assert one.couriers.started == every("s", 8)
    assert one.couriers.most["all"] == 1


# --- left alone


@pytest.mark.parametrize("state", ["paused", "disabled"])
async def test_what_was_not_started_goes_back_when_its_destination_is_left_alone(
    database: Database, outbox: DeliveryQueue, state: str
) -> None:
    put(database, *many(6, HOG, "h"), *many(2, OTHER, "o"))
    one = harness(outbox, in_all=2, per_destination=6)
    await one.dispatcher.run_once()
    assert set(states(database).values()) == {"leased"}
    stand(database, state, "http://hog.example:80")
    await one.dispatcher.run_once()
    await one.dispatcher.run_once()
    assert Counter(states(database).values()) == {"pending": 5, "leased": 3}
    assert rows(database, "SELECT sum(lapses), sum(attempts) FROM outspoken_deliveries") == [(0, 0)]
    one.couriers.let_through(*every("h", 6), *every("o", 2))
    await one.ended(3)
    await one.settler.run_once()
    assert sorted(one.couriers.started) == ["h1", "o1", "o2"]
    await one.dispatcher.drain(0)


@on_sqlite
async def test_a_disk_that_is_full_keeps_nobody_else_from_starting(
    database: Database, outbox: DeliveryQueue, log: list[MutableMapping[str, Any]]
) -> None:
    put(database, *many(3, HOG, "h"))
    one = harness(outbox, in_all=1, per_destination=3)
    await one.dispatcher.run_once()
    stand(database, "paused", "http://hog.example:80")
    await outbox.claim(ClaimRequest(0))  # the outbox has taken note
    with full_disk():
        assert await one.dispatcher.run_once() == 0
    assert [(line["event"], line["operation"], line["held"]) for line in log] == [("store.error", "release", 2)]
    assert set(states(database).values()) == {"leased"}
    await one.dispatcher.drain(0)


async def test_an_attempt_for_which_nobody_could_be_asked_is_not_counted(
    database: Database, outbox: DeliveryQueue
) -> None:
    answers = [answer(failure=Failure.SHORTAGE), answer()]

    async def deliver(delivery: Delivery) -> Attempted:
        return attempted(delivery, answers.pop(0))

    put(database, new("d1"))
    wake = asyncio.Event()
    settler = Settler(outbox, ignore, wake)
    dispatcher = Dispatcher(outbox, deliver, settler, Slots(), wake)
    async with asyncio.timeout(PATIENCE):
        while not settler.waiting:
            wake.clear()
            await dispatcher.run_once()
            await first_of(wake, settler.arrived)
    await settler.run_once()
    assert states(database) == {"d1": "delivered"}
    assert rows(database, "SELECT attempts, lapses FROM outspoken_deliveries") == [(1, 0)]


# --- crashes, leases


async def test_a_courier_that_crashes_is_logged_and_leaves_its_lease_to_expire(
    database: Database, outbox: DeliveryQueue, log: list[MutableMapping[str, Any]]
) -> None:
    async def crash(_: Delivery) -> Attempted:
        raise ZeroDivisionError("canary")

    put(database, new("d1"))
    wake = asyncio.Event()
    settler = Settler(outbox, ignore, wake)
    dispatcher = Dispatcher(outbox, crash, settler, Slots(), wake)
    await dispatcher.run_once()
    async with asyncio.timeout(PATIENCE):
        await wake.wait()
    (line,) = log
    assert (line["event"], line["delivery.id"]) == ("delivery.attempt.crashed", "d1")
    assert isinstance(line["exc_info"], ZeroDivisionError)
    assert states(database) == {"d1": "leased"}
    assert dispatcher.in_flight == 0
    assert settler.waiting == []
    rows(database, "UPDATE outspoken_deliveries SET lease_until = 1.0")
    await dispatcher.renew()
    assert rows(database, "SELECT lease_until FROM outspoken_deliveries") == [(1.0,)]


async def test_the_leases_of_whatever_is_held_are_kept(database: Database, outbox: DeliveryQueue) -> None:
    put(database, *many(3))
    one = harness(outbox, in_all=1, per_destination=3)
    await one.dispatcher.run_once()
    one.couriers.let_through("d1")
    await one.ended(1)
    rows(database, "UPDATE outspoken_deliveries SET lease_until = 1.0")
    await one.dispatcher.renew()  # d1 is unsettled, d2 under way, d3 ahead
    assert rows(database, "SELECT lease_until > created_at FROM outspoken_deliveries") == [(1,)] * 3
    await one.settler.run_once()
    await one.dispatcher.drain(0)


async def test_what_may_have_been_lost_does_not_start_and_goes_back(database: Database, outbox: DeliveryQueue) -> None:
    put(database, *many(3))
    one = Harness(outbox, Slots(1, 3), lease=LEASE)
    await one.dispatcher.run_once()
    await asyncio.sleep(LEASE)  # it stands still, or cannot renew
    one.couriers.let_through("d1")
    await one.ended(1)
    assert (one.dispatcher.in_flight, one.couriers.started) == (0, ["d1"])
    assert one.wake.is_set()
    await one.dispatcher.renew()  # which tells of none that was lost before
    before = tokens(database)
    await one.dispatcher.run_once()
    await asyncio.sleep(0)
    assert one.couriers.started == ["d1", "d2"]
    after = tokens(database)
    assert all(after[id_] not in {None, before[id_]} for id_ in ("d2", "d3"))
    await one.dispatcher.drain(0)


async def test_what_was_renewed_in_time_starts(database: Database, outbox: DeliveryQueue) -> None:
    put(database, *many(3))
    one = Harness(outbox, Slots(1, 3), lease=LEASE)
    await one.dispatcher.run_once()
    for _ in range(3):
        await asyncio.sleep(LEASE / 2)
        await one.dispatcher.renew()
    one.couriers.let_through("d1")
    await one.ended(1)
    assert one.couriers.started == ["d1", "d2"]
    await one.dispatcher.drain(0)


@on_sqlite
async def test_whoever_holds_nothing_renews_nothing(database: Database, path: Path, outbox: DeliveryQueue) -> None:
    with closing(producer.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with asyncio.timeout(1):
            await harness(outbox).dispatcher.renew()
        other.execute("ROLLBACK")


async def test_leases_that_were_taken_over_are_counted(database: Database, outbox: DeliveryQueue) -> None:
    put(database, *many(3))
    abandoned = DeliveryQueue(database, lease=-1.0)
    await abandoned.claim(ClaimRequest(3, 3))
    await abandoned.close()
    one = harness(outbox)
    assert await one.dispatcher.run_once() == 3
    assert [one.dispatcher.take_lapsed(), one.dispatcher.take_lapsed()] == [3, 0]
    await one.dispatcher.drain(0)


async def test_what_is_held_is_not_sent_twice_by_the_same_relay_when_its_clock_jumps(database: Database) -> None:
    clock = Clock()
    timed: Database = dataclasses.replace(database, clock=clock)  # type: ignore[type-var]
    put(database, *many(4), due_at=clock.now)
    outbox, gone = DeliveryQueue(timed), DeliveryQueue(timed)
    (lost,) = (await gone.claim(ClaimRequest(1, 1))).deliveries
    one = harness(outbox, in_all=1)
    await one.dispatcher.run_once()
    await asyncio.sleep(0)
    one.couriers.let_through(*one.couriers.started)
    await one.ended(1)  # of the others one is under way, and one ahead
    clock.now += 3600.0
    await one.dispatcher.run_once()
    assert one.dispatcher.take_lapsed() == 1  # another's, who said nothing for an hour as far as anybody knows
    one.couriers.let_through(*every("d", 4))
    await one.deliver_all(database)
    assert sorted(one.couriers.started) == every("d", 4)
    lapses = dict(rows(database, "SELECT id, lapses FROM outspoken_deliveries"))
    assert lapses == dict.fromkeys(every("d", 4), 0) | {lost.id: 1}
    assert set(states(database).values()) == {"delivered"}
    assert one.settler.take_stale() == 0
    assert await gone.settle([attempted(lost)]) == {lost.lease}
    await gone.close()
    await outbox.close()


# --- draining


async def test_draining_waits_for_the_attempts_under_way(database: Database, ten_slots: Harness) -> None:
    put(database, *many(2))
    await ten_slots.dispatcher.run_once()
    draining = asyncio.create_task(ten_slots.dispatcher.drain(60))
    ten_slots.couriers.let_through("d1")
    await asyncio.wait([draining], timeout=0.05)
    assert not draining.done()
    ten_slots.couriers.let_through("d2")
    await draining
    await ten_slots.settler.run_once()
    assert set(states(database).values()) == {"delivered"}


async def test_draining_gives_back_at_once_what_was_not_started_and_starts_nothing(
    database: Database, outbox: DeliveryQueue
) -> None:
    put(database, *many(5))
    one = harness(outbox, in_all=2, per_destination=5)
    await one.dispatcher.run_once()
    draining = asyncio.create_task(one.dispatcher.drain(60))
    async with asyncio.timeout(PATIENCE):
        while Counter(states(database).values())["pending"] < 3:
            await asyncio.wait([draining], timeout=0.005)
    one.couriers.let_through(*every("d", 5))
    await draining
    await one.settler.run_once()
    assert one.couriers.started == ["d1", "d2"]
    assert (
        rows(database, "SELECT state, attempts, lapses FROM outspoken_deliveries WHERE id > 'd2'")
        == [("pending", 0, 0)] * 3
    )


async def test_what_is_still_under_way_after_the_drain_is_given_back_at_once(
    database: Database, outbox: DeliveryQueue
) -> None:
    put(database, *many(2))
    one = harness(outbox)
    await one.dispatcher.run_once()
    one.couriers.let_through("d1")
    await one.dispatcher.drain(0.05)
    await one.settler.run_once()
    assert states(database) == {"d1": "delivered", "d2": "pending"}
    assert one.dispatcher.in_flight == 0
    heir = DeliveryQueue(database)
    (again,) = (await heir.claim(ClaimRequest(9, 9))).deliveries
    await heir.close()
    assert (again.id, again.attempts, again.number) == ("d2", 0, 2)


async def test_an_answer_that_comes_in_the_last_moment_counts(database: Database, outbox: DeliveryQueue) -> None:
    async def stubborn(delivery: Delivery) -> Attempted:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return attempted(delivery)
        raise AssertionError

    put(database, new("d1"))
    settler = Settler(outbox, lambda _: None, asyncio.Event())
    dispatcher = Dispatcher(outbox, stubborn, settler, Slots(), asyncio.Event())
    await dispatcher.run_once()
    await asyncio.sleep(0)
    await dispatcher.drain(0)
    await settler.run_once()
    assert settler.take_stale() == 0
    assert rows(database, "SELECT state, lapses FROM outspoken_deliveries") == [("delivered", 0)]


@on_sqlite
async def test_draining_ends_though_nothing_can_be_given_back(
    database: Database, outbox: DeliveryQueue, log: list[MutableMapping[str, Any]]
) -> None:
    put(database, *many(2))
    one = harness(outbox, in_all=1)
    await one.dispatcher.run_once()
    with full_disk():
        await one.dispatcher.drain(0)
    assert [(line["event"], line["operation"], line["held"]) for line in log] == [("store.error", "release", 1)] * 2
    assert set(states(database).values()) == {"leased"}


async def test_with_nothing_in_flight_draining_is_over_at_once(outbox: DeliveryQueue) -> None:
    async with asyncio.timeout(1):
        await harness(outbox).dispatcher.drain(60)


# --- when it claims again


@pytest.mark.parametrize("first", [0.0001, 60.0])
def test_the_next_claim_comes_when_the_first_reason_for_one_is_due(first: float) -> None:
    async def play() -> None:
        wake = asyncio.Event()
        timer = ClaimTimer(wake)
        for seconds in (first, 0.0002, 60.0):
            timer.start(seconds)
        async with asyncio.timeout(PATIENCE / 2):
            await wake.wait()
        wake.clear()
        timer.cancel()
        timer.start(0.0)
        assert wake.is_set()

    uvloop.run(play())  # as the relay does: its handles are not asyncio's


# --- in any order


class FakeSource:
    """A queue in memory that hands out what it was asked for, and remembers what came back."""

    def __init__(self, backlog: dict[str, int]) -> None:
        self.backlog = {origin: [f"{origin}.{n}" for n in range(count)] for origin, count in backlog.items()}
        self.blocked: frozenset[DestinationKey] = frozenset()
        self.standing: dict[DestinationKey, Standing] = {}
        self.met: list[list[OwnersOrigin]] = []
        self.others_wait: list[bool] = []
        self.origins: list[dict[str, int]] = []
        self.returned: list[str] = []
        self.is_locked = False

    async def claim(self, wanted: ClaimRequest) -> Claims:
        self.met.append([*wanted.met])
        if self.is_locked:
            raise StoreUnavailable("busy")
        self.others_wait.append(wanted.others_wait)
        self.origins.append(dict(wanted.origins))
        given: list[Delivery] = []
        for origin, ids in self.backlog.items():
            most = wanted.endpoints.get((origin, "/"), wanted.of_endpoint)
            most = min(most, wanted.origins.get(origin, wanted.of_origin), wanted.room - len(given))
            count = 0 if (origin, "/") in self.blocked else max(0, most)
            given += [claimed(id_, destination=origin) for id_ in ids[:count]]
            del ids[:count]
        return Claims(tuple(given), blocked=self.blocked & set(wanted.ahead), standing=self.standing)

    async def renew(self, leases: Any) -> None:
        raise AssertionError("nobody asked")

    async def release(self, leases: Any, *, sent: bool) -> None:
        self.returned += ["sent" if sent else "unsent" for _ in leases]

    async def settle(self, attempts: Any) -> frozenset[Lease]:
        raise AssertionError("nobody turned the settler")


STEPS = st.lists(
    st.one_of(
        st.just("claim"), st.tuples(st.just("end"), st.integers(0, 50)), st.tuples(st.just("block"), st.integers(0, 3))
    ),
    max_size=40,
)


@given(
    backlog=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 60), min_size=1),
    in_all=st.integers(1, 12),
    per_destination=st.integers(1, 6),
    steps=STEPS,
)
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=30)
def test_in_any_order_of_claims_ends_and_pauses_the_caps_hold_and_nothing_is_lost(
    backlog: dict[str, int], in_all: int, per_destination: int, steps: list[Any]
) -> None:
    async def play() -> None:
        source, couriers = FakeSource(backlog), Couriers()
        settler = Settler(source, ignore, asyncio.Event())
        dispatcher = Dispatcher(source, couriers.deliver, settler, Slots(in_all, per_destination), asyncio.Event())
        for step in steps:
            match step:
                case "claim":
                    await dispatcher.run_once()
                case ("end", index) if couriers.started:
                    couriers.let_through(couriers.started[index % len(couriers.started)])
                case ("block", index):
                    source.blocked = frozenset({("abcd"[index], "/")})
                case _:
                    pass
            for _ in range(3):
                await asyncio.sleep(0)
            assert dispatcher.in_flight == couriers.at_once["all"] <= in_all
        await dispatcher.drain(0)
        most = {name: count for name, count in couriers.most.items() if name != "all"}
        assert all(count <= per_destination for count in most.values())
        assert len(set(couriers.started)) == len(couriers.started)
        left = sum(map(len, source.backlog.values()))
        assert left + len(source.returned) + len(settler.waiting) == sum(backlog.values())
        assert source.returned.count("sent") == len(couriers.started) - len(settler.waiting)

    asyncio.run(play())


# --- what may not answer


def doubting(outbox: DeliveryQueue, in_all: int = 64, per_destination: int = 16) -> Harness:
    return Harness(outbox, Slots(in_all, per_destination))


def beside_what_hangs(one: Harness, quarter: int) -> int:
    """How many are in flight, without those beyond a quarter that have waited for longer than patience has it."""
    now = time.monotonic()
    hang = sum(began + PATIENCE_OF_SLOTS < now for began in one.couriers.began.values())
    return one.couriers.at_once["all"] - max(0, hang - quarter)


async def test_origins_that_never_were_tried_have_a_slot_each_and_leave_a_quarter_of_them(
    database: Database, outbox: DeliveryQueue
) -> None:
    put(database, *(one for host in range(100) for one in many(5, f"http://dead{host}.example/", f"dead{host}-")))
    put(database, *many(16, HOG, "h"), *many(16, OTHER, "o"))
    one = Harness(outbox, Slots(64, 16, timeout=1.0))  # those that nobody knows come the faster
    one.couriers.let_through(*every("h", 16), *every("o", 16))
    most = 0
    async with asyncio.timeout(PATIENCE):
        while one.dispatcher.in_flight < 80 or len(one.settler.waiting) < 32:
            await one.turn()
            most = max(most, beside_what_hangs(one, quarter=16))
    assert {delivery.delivery.id[0] for delivery in one.settler.waiting} == {"h", "o"}
    assert most <= 48
    assert max(count for name, count in one.couriers.most.items() if "dead" in name) == 1
    await one.dispatcher.drain(0)


async def test_the_next_claim_after_one_that_is_new_has_answered_looks_at_it_once_more() -> None:
    source, couriers = FakeSource({"answers": 1, "hangs": 1, "known": 1}), Couriers()
    source.standing = {("answers", ""): Standing.UNTRIED, ("hangs", ""): Standing.UNTRIED}
    settler = Settler(source, ignore, asyncio.Event())
    dispatcher = Dispatcher(source, couriers.deliver, settler, Slots(), asyncio.Event())
    await dispatcher.run_once()
    couriers.let_through("answers.0", "known.0")
    while dispatcher.in_flight > 1:
        await asyncio.sleep(0)
    for _ in range(2):
        await dispatcher.run_once()
    assert source.met == [[], [("", "answers")], []]
    await dispatcher.drain(0)


async def test_a_claim_that_fails_leaves_that_look_to_the_next_one() -> None:
    source, couriers = FakeSource({"answers": 1, "hangs": 1}), Couriers()
    source.standing = {("answers", ""): Standing.UNTRIED, ("hangs", ""): Standing.UNTRIED}
    dispatcher = Dispatcher(
        source, couriers.deliver, Settler(source, ignore, asyncio.Event()), Slots(), asyncio.Event()
    )
    await dispatcher.run_once()
    couriers.let_through("answers.0")
    while dispatcher.in_flight > 1:
        await asyncio.sleep(0)
    source.is_locked = True
    with pytest.raises(StoreUnavailable):
        await dispatcher.run_once()
    source.is_locked = False
    for _ in range(2):
        await dispatcher.run_once()
    assert source.met == [[], [("", "answers")], [("", "answers")], []]
    await dispatcher.drain(0)


async def test_while_enough_that_is_slow_is_in_line_no_more_of_it_is_asked_for() -> None:
    source, couriers = FakeSource({"slow": 40, "slower": 40, "as slow": 40}), Couriers()

    async def deliver(delivery: Delivery) -> Attempted:
        if delivery.id.endswith(".0"):
            await asyncio.sleep(PROMPT_SECONDS)  # so long it takes to be slow
            return attempted(delivery)
        return await couriers.deliver(delivery)

    settler = Settler(source, ignore, asyncio.Event())
    share = 16
    dispatcher = Dispatcher(source, deliver, settler, Slots(8), asyncio.Event(), share=lambda: share)
    await dispatcher.run_once()
    await dispatcher.run_once()
    while len(settler.waiting) < len(source.backlog):
        await asyncio.sleep(0)
    await dispatcher.run_once()
    share = 1  # each has it already: nothing is in line
    await dispatcher.run_once()
    assert source.others_wait == [False, False, True, False]
    share = 16
    couriers.let_through(*(f"{origin}.{number}" for origin in source.backlog for number in range(40)))
    while dispatcher.in_flight:
        await asyncio.sleep(0)
    await dispatcher.run_once()
    assert source.others_wait[-1] is False
    await dispatcher.drain(0)


async def test_what_a_first_answer_makes_room_for_starts_at_once() -> None:
    source, couriers = FakeSource({"known": 16}), Couriers()
    dispatcher = Dispatcher(
        source, couriers.deliver, Settler(source, ignore, asyncio.Event()), Slots(), asyncio.Event()
    )
    await dispatcher.run_once()
    assert dispatcher.in_flight == 4
    couriers.let_through("known.0")
    async with asyncio.timeout(PATIENCE):
        while "known.0" in couriers.began or not couriers.began:
            await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(couriers.started) == 16  # without another claim
    await dispatcher.drain(0)


async def test_a_path_that_hangs_takes_a_quarter_of_the_slots_of_its_origin(
    database: Database, outbox: DeliveryQueue
) -> None:
    put(database, *many(40, f"{HOG}hangs", "hangs"))
    one = doubting(outbox)
    await one.dispatcher.run_once()
    await one.dispatcher.run_once()
    assert one.dispatcher.in_flight == 4
    put(database, *(delivery for path in "abc" for delivery in many(20, f"{HOG}{path}", path)))
    one.couriers.let_through(*(f"{path}{number}" for path in "abc" for number in range(1, 21)))
    async with asyncio.timeout(PATIENCE):
        while len(one.told) < 60:
            await one.dispatcher.run_once()
            await asyncio.sleep(0)
            await one.settler.run_once()
    assert one.dispatcher.in_flight == 4
    await one.dispatcher.drain(0)


async def test_an_attempt_that_hung_while_its_origin_answered_others_says_nothing_of_it(
    database: Database, outbox: DeliveryQueue
) -> None:
    answers = {"hangs": answer(failure=Failure.READ_TIMEOUT)}
    through = asyncio.Event()

    async def deliver(delivery: Delivery) -> Attempted:
        if delivery.id == "hangs":
            await through.wait()
        return attempted(delivery, answers.get(delivery.id))

    put(database, new("hangs", f"{HOG}hangs"), new("fine", f"{HOG}fine"))
    settler = Settler(outbox, ignore, asyncio.Event())
    dispatcher = Dispatcher(outbox, deliver, settler, Slots(), asyncio.Event())
    await dispatcher.run_once()
    async with asyncio.timeout(PATIENCE):
        while not settler.waiting:
            await asyncio.sleep(0)
        through.set()
        while len(settler.waiting) < 2:
            await asyncio.sleep(0)
    assert {one.delivery.id: one.alone for one in settler.waiting} == {"fine": True, "hangs": False}
    await settler.run_once()
    assert rows(database, "SELECT silent FROM outspoken_destinations WHERE origin LIKE '%hog%' AND path = ''") == [(0,)]
    await dispatcher.drain(0)


async def until_given_back(dispatcher: Dispatcher, source: FakeSource) -> None:
    async with asyncio.timeout(PATIENCE / 4):
        while not source.returned:
            await asyncio.sleep(LOOK)
            await dispatcher.run_once()


async def test_what_waits_for_one_that_keeps_others_waiting_gives_its_room_back_and_is_followed_by_a_claim() -> None:
    source, couriers, wake = FakeSource({"late": 800}), Couriers(), asyncio.Event()
    settler = Settler(source, ignore, wake)
    dispatcher = Dispatcher(source, couriers.deliver, settler, Slots(256, 800), wake)
    await dispatcher.run_once()
    await until_given_back(dispatcher, source)
    assert set(source.returned) == {"unsent"}
    wake.clear()
    async with asyncio.timeout(PATIENCE / 4):
        await wake.wait()
    await dispatcher.drain(0)


async def test_where_it_has_all_the_room_there_is_it_gives_it_back_before_the_claim() -> None:
    source, couriers, wake = FakeSource({"late": 2048}), Couriers(), asyncio.Event()
    settler = Settler(source, ignore, wake)
    dispatcher = Dispatcher(source, couriers.deliver, settler, Slots(256, 3000), wake)
    await dispatcher.run_once()
    source.backlog["other"] = ["other.0"]
    await until_given_back(dispatcher, source)
    assert source.backlog["other"] == []
    await dispatcher.drain(0)


async def test_what_was_taken_is_forgotten_after_a_while() -> None:
    source, couriers, wake = FakeSource({"fast": 17}), Couriers(), asyncio.Event()
    settler = Settler(source, ignore, wake)
    dispatcher = Dispatcher(source, couriers.deliver, settler, Slots(), wake)
    couriers.let_through(*(f"fast.{number}" for number in range(16)))
    for _ in range(2):
        await dispatcher.run_once()
        while len(settler.waiting) < 16:
            await asyncio.sleep(0)
    assert source.origins[-1]["fast"] > 16
    async with asyncio.timeout(PATIENCE / 4):
        while source.origins[-1]["fast"] >= 16:
            await asyncio.sleep(LOOK)
            await dispatcher.run_once()
    await dispatcher.drain(0)
