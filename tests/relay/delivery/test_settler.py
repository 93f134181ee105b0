from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from relay.delivery.settler import Settler
from relay.outbox import connect
from relay.outbox.model import Stream
from relay.outbox.store import Database
from relay.policy.attempt import Attempted, Delivery, Lease, Retry
from relay.queue.claims import ClaimRequest
from relay.queue.deliveries import DeliveryQueue
from relay.service.loop import Loop, turning
from relay.telemetry.metrics import Metrics
from tests.relay.databases import on_sqlite
from tests.relay.deliveries import answer, attempted, many, new, put, rows, states
from tests.relay.delivery.doubles import CountedStore, full_disk


class Observer:
    """What observers heard, batch by batch, and where the deliveries stood in that moment."""

    def __init__(self, database: Database) -> None:
        self.batches: asyncio.Queue[list[str]] = asyncio.Queue()
        self.states: list[dict[str, str]] = []
        self._database = database

    def __call__(self, attempts: Sequence[Attempted]) -> None:
        self.states.append(states(self._database))
        self.batches.put_nowait([attempt.delivery.id for attempt in attempts])

    def ids(self) -> list[str]:
        """All that it heard since the last call."""
        return [id_ for _ in range(self.batches.qsize()) for id_ in self.batches.get_nowait()]


@pytest.fixture
def observer(database: Database) -> Observer:
    return Observer(database)


async def claim(database: Database, outbox: DeliveryQueue, count: int) -> tuple[Delivery, ...]:
    put(database, *many(count))
    return (await outbox.claim(ClaimRequest(count, count, few=count))).deliveries


def enter(settler: Settler, *deliveries: Delivery) -> None:
    """Attempts that ended."""
    for delivery in deliveries:
        settler.add(attempted(delivery))


@asynccontextmanager
async def running(settler: Settler) -> AsyncIterator[None]:
    loop = Loop("settle", settler.run_once, None, wake=settler.arrived, rest=settler.gather, observer=Metrics(1).loops)
    async with turning(loop):
        yield


async def test_what_ended_together_is_written_in_one_transaction_and_told_in_one_go(
    database: Database, outbox: DeliveryQueue, observer: Observer
) -> None:
    store = CountedStore(outbox)
    settler = Settler(store, observer, asyncio.Event())
    enter(settler, *await claim(database, outbox, 5))
    assert len(settler.waiting) == 5
    await settler.run_once()
    assert store.batches == [5]
    assert settler.waiting == []
    assert observer.batches.get_nowait() == ["d1", "d2", "d3", "d4", "d5"]
    assert observer.batches.empty()


async def test_an_observer_hears_only_of_what_is_on_disk(
    database: Database, outbox: DeliveryQueue, observer: Observer
) -> None:
    settler = Settler(outbox, observer, asyncio.Event())
    enter(settler, *await claim(database, outbox, 1))
    assert observer.ids() == []
    assert states(database) == {"d1": "leased"}
    await settler.run_once()
    assert observer.ids() == ["d1"]
    assert observer.states == [{"d1": "delivered"}]


async def test_with_nothing_to_write_nothing_is_written_or_told(outbox: DeliveryQueue, observer: Observer) -> None:
    store = CountedStore(outbox)
    await Settler(store, observer, asyncio.Event()).run_once()
    assert store.batches == []
    assert observer.batches.empty()


async def test_the_first_after_a_quiet_time_is_written_at_once_and_the_next_share_one_write(
    database: Database, outbox: DeliveryQueue, observer: Observer
) -> None:
    store = CountedStore(outbox)
    settler = Settler(store, observer, asyncio.Event())
    first, *others = await claim(database, outbox, 6)
    async with running(settler), asyncio.timeout(60):
        enter(settler, first)
        assert await observer.batches.get() == ["d1"]
        enter(settler, *others)
        assert await observer.batches.get() == ["d2", "d3", "d4", "d5", "d6"]
    assert store.batches == [1, 5]


@on_sqlite
async def test_a_disk_that_was_full_for_a_while_loses_nothing(
    database: Database, outbox: DeliveryQueue, observer: Observer, log: list[MutableMapping[str, Any]]
) -> None:
    settler = Settler(outbox, observer, asyncio.Event())
    first, second, third = await claim(database, outbox, 3)
    enter(settler, first, second)
    with full_disk():
        await settler.run_once()
        await settler.run_once()
    assert settler.failing
    assert len(settler.waiting) == 2
    assert observer.ids() == []
    enter(settler, third)
    await settler.run_once()
    assert observer.ids() == ["d1", "d2", "d3"]
    assert not settler.failing
    assert settler.take_stale() == 0
    assert set(states(database).values()) == {"delivered"}
    assert rows(database, "SELECT number FROM outspoken_attempts") == [(1,), (1,), (1,)]
    complaint, recovery = log
    assert (complaint["event"], complaint["operation"], complaint["held"]) == ("store.error", "settle", 2)
    assert complaint["kind"] in ("io", "full")
    assert (recovery["event"], recovery["operation"]) == ("store.recovered", "settle")


@on_sqlite
async def test_the_loop_itself_tries_again_when_a_write_failed(
    database: Database, outbox: DeliveryQueue, observer: Observer, log: list[MutableMapping[str, Any]]
) -> None:
    settler = Settler(outbox, observer, asyncio.Event())
    enter(settler, *await claim(database, outbox, 1))
    with full_disk():
        await settler.run_once()
    async with running(settler), asyncio.timeout(60):
        assert await observer.batches.get() == ["d1"]


async def test_an_attempt_that_cannot_be_written_as_it_was_is_settled_without_its_details_and_holds_up_no_other(
    database: Database, outbox: DeliveryQueue, observer: Observer, log: list[MutableMapping[str, Any]]
) -> None:
    settler = Settler(outbox, observer, asyncio.Event())
    first, odd, last = await claim(database, outbox, 3)
    enter(settler, first)
    settler.add(replace(attempted(odd), answer=answer(200, peer="\udcff")))
    enter(settler, last)
    await settler.run_once()
    assert observer.ids() == ["d1", "d2", "d3"]
    assert set(states(database).values()) == {"delivered"}
    kept = (
        "SELECT outcome, status, peer, detail FROM outspoken_attempts "
        "JOIN outspoken_deliveries USING (seq) WHERE id = 'd2'"
    )
    assert rows(database, kept) == [("success", None, None, "the record of this attempt could not be written")]
    (line,) = log
    assert (line["event"], line["delivery.id"]) == ("delivery.attempt.crashed", "d2")
    assert "surrogates not allowed" in str(line["exc_info"])
    assert settler.take_stale() == 0


async def test_one_attempt_that_the_database_refuses_altogether_does_not_hold_up_the_others(
    database: Database, outbox: DeliveryQueue, observer: Observer, log: list[MutableMapping[str, Any]]
) -> None:
    settler = Settler(outbox, observer, asyncio.Event())
    first, odd = await claim(database, outbox, 2)
    rows(
        database,
        "INSERT INTO outspoken_attempts (seq, number, started_at, lag, duration, outcome) "
        "VALUES (?, 1, 0, 0, 0, 'dns')",
        odd.lease.seq,
    )
    enter(settler, first, odd)
    await settler.run_once()
    assert observer.ids() == ["d1"]
    # Once for the record and once for the end without it: its lease expires, and the next attempt has another number.
    assert [(line["event"], line["delivery.id"]) for line in log] == [("delivery.attempt.crashed", "d2")] * 2
    assert states(database) == {"d1": "delivered", "d2": "leased"}
    assert not settler.failing
    assert settler.waiting == []


async def test_a_stale_settlement_is_counted_and_told_to_nobody(
    database: Database, outbox: DeliveryQueue, observer: Observer
) -> None:
    settler = Settler(outbox, observer, asyncio.Event())
    fresh, other = await claim(database, outbox, 2)
    enter(settler, fresh, replace(other, lease=Lease(other.lease.seq, "somebody.else")))
    await settler.run_once()
    assert observer.ids() == ["d1"]
    assert [settler.take_stale(), settler.take_stale()] == [1, 0]
    assert states(database) == {"d1": "delivered", "d2": "leased"}


async def test_an_observer_that_fails_undoes_nothing_and_stops_nothing(
    database: Database, outbox: DeliveryQueue, log: list[MutableMapping[str, Any]]
) -> None:
    def fail(_: Sequence[Attempted]) -> None:
        raise OSError("no space left for the log")

    settler = Settler(outbox, fail, asyncio.Event())
    for delivery in await claim(database, outbox, 2):
        enter(settler, delivery)
        await settler.run_once()
    assert set(states(database).values()) == {"delivered"}
    assert [line["event"] for line in log] == ["observer.failed"] * 2
    assert settler.waiting == []


@on_sqlite
async def test_what_a_cancelled_write_held_is_written_by_the_next(
    database: Database, path: Path, outbox: DeliveryQueue, observer: Observer
) -> None:
    settler = Settler(outbox, observer, asyncio.Event())
    enter(settler, *await claim(database, outbox, 1))
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(settler.run_once())
        await asyncio.wait([writing], timeout=0.01)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        other.execute("ROLLBACK")
    assert len(settler.waiting) == 1
    await settler.run_once()
    assert observer.ids() == ["d1"]


@on_sqlite
async def test_two_turns_at_once_write_each_attempt_once(
    database: Database, path: Path, outbox: DeliveryQueue, observer: Observer
) -> None:
    store = CountedStore(outbox)
    settler = Settler(store, observer, asyncio.Event())
    first, second = await claim(database, outbox, 2)
    enter(settler, first)
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        turns = [asyncio.create_task(settler.run_once()) for _ in range(2)]
        await asyncio.wait(turns, timeout=0.01)
        enter(settler, second)
        other.execute("ROLLBACK")
    await asyncio.gather(*turns)
    assert store.batches == [1, 1]
    assert observer.ids() == ["d1", "d2"]
    assert settler.take_stale() == 0
    assert settler.waiting == []


async def test_whoever_claims_is_woken_when_something_is_tried_again_before_he_would_look(
    database: Database, outbox: DeliveryQueue, observer: Observer
) -> None:
    later, soon = await claim(database, outbox, 2)
    wake = asyncio.Event()
    settler = Settler(outbox, observer, wake)
    for delivery, seconds, wakes in ((later, 30, False), (soon, 9, True)):
        one = attempted(delivery, answer(500), Retry(delivery.due_at + seconds))
        settler.add(replace(one, finished_at=delivery.due_at))
        await settler.run_once()
        assert wake.is_set() is wakes
    assert await outbox.next_due() == soon.due_at + 9


async def test_whoever_claims_is_woken_when_a_stream_has_moved_on_and_not_before(
    database: Database, outbox: DeliveryQueue, observer: Observer
) -> None:
    put(database, *(new(f"s{number}", stream=Stream("s")) for number in range(2)), new("alone"))
    wake = asyncio.Event()
    settler = Settler(outbox, observer, wake)
    first, alone = (await outbox.claim(ClaimRequest(9, 9, few=9))).deliveries
    enter(settler, alone)
    await settler.run_once()
    assert not wake.is_set()
    enter(settler, first)
    assert not wake.is_set()
    await settler.run_once()
    assert wake.is_set()
    assert [one.id for one in (await outbox.claim(ClaimRequest(9, 9, few=9))).deliveries] == ["s1"]
