"""What a producer may say of a delivery besides: when it is due, under which key it is added once, its tags; and what
it may ask for: to be done without it, what became of it, what has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from relay import outbox
from relay.outbox import (
    DeliveryState,
    DeliveryStatus,
    DuplicateDelivery,
    InvalidDelivery,
    Method,
    NewDelivery,
    OnDead,
    Stream,
)
from relay.outbox.errors import StreamEnded
from relay.outbox.store import Database
from relay.queue.claims import ClaimRequest
from relay.queue.deliveries import DeliveryQueue
from tests.cases import cases
from tests.relay.deliveries import DEAD, answer, attempted, new, put, rows, states
from tests.relay.outbox.producers import Producer, RolledBack, done, every_kind, every_way

DUE = "SELECT due_at, scheduled_from FROM outspoken_deliveries"
Call = Callable[[Any], Any]


def adding(delivery: NewDelivery) -> Call:
    return lambda connection: outbox.add(connection, delivery)


def cancelling(id_: str) -> Call:
    return lambda connection: outbox.cancel(connection, id_)


def asking(id_: str) -> Call:
    return lambda connection: outbox.status(connection, id_)


def taking(most: int = 100) -> Call:
    return lambda connection: outbox.take_ended(connection, most)


@every_kind
def test_all_of_it_works_on_whatever_connection(producer: Producer) -> None:
    given = new(due_at=9e9, idempotency_key="k", tags={"a", "ü"}, tracked=True)
    assert producer.do(adding(given)) == "d1"
    assert producer.do(adding(replace(given, id="d2"))) == "d1"
    assert rows(producer.database, "SELECT tag FROM outspoken_tags ORDER BY tag") == [("a",), ("ü",)]
    assert producer.do(asking("d1")) == DeliveryStatus(
        "d1", DeliveryState.PENDING, 0, 9e9, None, None, None, None, None
    )
    assert producer.do(asking("d2")) is None
    assert producer.do(cancelling("d1")) is True
    assert producer.do(cancelling("d1")) is False
    (ended,) = producer.do(taking())
    assert (ended.id, ended.state, ended.ended) == ("d1", DeliveryState.CANCELLED, True)
    assert producer.do(taking()) == []


@every_way
@pytest.mark.parametrize("due_at", [9e9, timedelta(days=1)])
def test_it_is_due_later_and_its_schedule_begins_then(producer: Producer, due_at: float | timedelta) -> None:
    before = time.time()
    producer.put(new(due_at=due_at))
    ((found, began),) = rows(producer.database, DUE)
    assert found == began
    assert found == 9e9 if isinstance(due_at, float) else before + 86400 <= found <= time.time() + 86400


@every_way
def test_what_was_due_in_the_past_is_due_now(producer: Producer) -> None:
    before = producer.database.now()
    producer.put(new(due_at=1.0))
    ((found, began),) = rows(producer.database, DUE)
    assert found == began >= before - 1


@every_way
@cases(
    ("delivery", "words"),
    [
        (new(due_at=1.0, stream=Stream("s")), "due_at: a delivery of a stream is due when the one before it has ended"),
        (new(due_at=1e12), "due_at: expected a time from 1970 to 9999"),
        (new(due_at=-1.0), "due_at: expected a time from 1970 to 9999"),
    ],
)
def test_a_time_that_makes_no_sense_is_refused(producer: Producer, delivery: NewDelivery, words: str) -> None:
    with pytest.raises(InvalidDelivery, match=f"^{words}"):
        producer.put(delivery)
    assert states(producer.database) == {}


@every_way
def test_a_key_that_was_rolled_back_is_free_again(producer: Producer) -> None:
    producer.roll_back(new("first", idempotency_key="k"))
    assert producer.do(adding(new("second", idempotency_key="k"))) == "second"
    assert producer.do(adding(new("third", idempotency_key="k"))) == "second"
    assert states(producer.database) == {"second": "pending"}


@every_way
@cases(
    "other",
    [
        {"url": "https://receiver.example/other"},
        {"body": b"another one, of the same key"},
        {"body": b'{"text":"hallo"}'},  # of the same size
        {"method": Method.PUT},
        {"content_type": "text/plain"},
    ],
)
def test_another_delivery_under_the_same_key_is_refused(producer: Producer, other: dict[str, Any]) -> None:
    producer.put(new(idempotency_key="k"))
    with pytest.raises(InvalidDelivery, match=r"^idempotency_key: it stands for a delivery with another url, method"):
        producer.put(new("d2", idempotency_key="k", **other))
    assert states(producer.database) == {"d1": "pending"}


@every_way
def test_an_id_that_is_taken_is_so_under_a_new_key_too(producer: Producer) -> None:
    producer.put(new())
    with pytest.raises(DuplicateDelivery):
        producer.put(new(idempotency_key="k"))
    assert producer.do(adding(new("d2", idempotency_key="k"))) == "d2"


@every_way
def test_in_a_stream_it_takes_no_place_and_is_answered_after_its_end(producer: Producer) -> None:
    first = new("first", stream=Stream("s"), idempotency_key="k")
    producer.put(first, replace(first, id="again"), new("second", stream=Stream("s")))
    assert rows(producer.database, "SELECT id, position FROM outspoken_deliveries ORDER BY seq") == [
        ("first", 1),
        ("second", 2),
    ]
    producer.end("s")
    assert producer.do(adding(replace(first, id="once more"))) == "first"
    with pytest.raises(StreamEnded):
        producer.put(new("third", stream=Stream("s"), idempotency_key="another"))


@pytest.mark.needs("postgres")
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_two_that_add_at_once_under_a_key_get_the_same_id(database: Database) -> None:
    """The second waits for the first, and for nobody else."""
    one, other = [await asyncpg.connect(database.url) for _ in range(2)]
    begun = one.transaction()
    await begun.start()
    assert await outbox.add(one, new("first", idempotency_key="k")) == "first"

    async def add_too() -> str:
        async with other.transaction():
            return await outbox.add(other, new("second", idempotency_key="k"))

    adding_too = asyncio.create_task(add_too())
    while not await one.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        await asyncio.sleep(0.01)
    await begun.commit()
    assert await adding_too == "first"
    await one.close()
    await other.close()


@every_way
def test_what_is_cancelled_in_a_transaction_that_rolls_back_stays(producer: Producer) -> None:
    async def change_ones_mind(connection: Any) -> None:
        assert await done(outbox.cancel(connection, "d1"))
        raise RolledBack

    producer.put(new())
    with suppress(RolledBack):
        producer.commit(change_ones_mind)
    assert states(producer.database) == {"d1": "pending"}
    assert producer.do(cancelling("unknown")) is False


@every_way
def test_in_a_stream_the_next_one_may_go(producer: Producer) -> None:
    producer.put(*(new(f"m{number}", stream=Stream("s", OnDead.KILL)) for number in range(3)))
    producer.do(cancelling("m1"))
    due = "SELECT id, due_at IS NOT NULL FROM outspoken_deliveries WHERE state = 'pending' ORDER BY seq"
    assert rows(producer.database, due) == [("m0", True), ("m2", False)]
    producer.do(cancelling("m0"))
    assert rows(producer.database, due) == [("m2", True)]


@every_way
async def test_what_became_of_it(producer: Producer) -> None:
    queue = DeliveryQueue(producer.database)
    try:
        await asyncio.to_thread(put, producer.database, new())
        (delivery,) = (await queue.claim(ClaimRequest(1, 1, few=1))).deliveries
        assert (await asyncio.to_thread(producer.do, asking("d1"))).state is DeliveryState.LEASED
        assert not await asyncio.to_thread(producer.do, cancelling("d1"))
        await queue.settle([attempted(delivery, answer(500), DEAD)])
    finally:
        await queue.close()
    stands = await asyncio.to_thread(producer.do, asking("d1"))
    assert (stands.state, stands.attempts, stands.reason) == (DeliveryState.DEAD, 1, "exhausted")
    assert (stands.last_status, stands.last_outcome, stands.ended) == (500, "http_5xx", True)
    assert stands.diagnosis


@every_way
def test_what_has_ended_is_told_once_to_whoever_commits(producer: Producer) -> None:
    async def forget_what_was_told(connection: Any) -> None:
        assert len(await done(outbox.take_ended(connection))) == 3
        raise RolledBack

    producer.put(*(new(f"d{number}", tracked=number != 3) for number in range(4)))
    for number in (2, 0, 3, 1):
        producer.do(cancelling(f"d{number}"))
    with suppress(RolledBack):
        producer.commit(forget_what_was_told)
    assert {one.id for one in producer.do(taking(2))} == {"d0", "d1"}
    assert [one.id for one in producer.do(taking())] == ["d2"]
    assert producer.do(taking()) == []


@pytest.mark.parametrize("most", [0, -1, True, "all"])
def test_how_many_are_wanted_is_a_number(database: Database, most: Any) -> None:
    with database.reading() as connection, pytest.raises(InvalidDelivery, match=r"^most: expected "):
        outbox.take_ended(connection, most)


def test_a_delivery_that_is_forgotten_takes_its_tags_and_its_end_along(database: Database) -> None:
    put(database, new(tags={"a"}, tracked=True))
    rows(database, "UPDATE outspoken_deliveries SET state = 'cancelled', finished_at = 1")
    assert rows(database, "SELECT seq FROM outspoken_ends") == [(1,)]
    rows(database, "DELETE FROM outspoken_bodies")
    rows(database, "DELETE FROM outspoken_deliveries")
    assert rows(database, "SELECT seq FROM outspoken_ends") == rows(database, "SELECT seq FROM outspoken_tags") == []
