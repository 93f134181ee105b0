"""Producers whose transactions take their time: none of them waits for another, but for the next place in a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from relay import outbox
from relay.outbox.model import NewDelivery, Stream
from relay.outbox.store import Database
from tests.relay.deliveries import rows

pytestmark = [pytest.mark.needs("postgres"), pytest.mark.parametrize("database", ["postgres"], indirect=True)]

WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'producer'"
# Whoever waits for a lock ends in an error, and not in a test that takes longer.
IMPATIENT = {"lock_timeout": "1ms", "application_name": "producer"}


@pytest.fixture
async def producers(database: Database) -> AsyncIterator[list[asyncpg.Connection[asyncpg.Record]]]:
    """Fifteen, none of whom waits for a lock."""
    connections = [await asyncpg.connect(database.url, server_settings=IMPATIENT) for _ in range(15)]
    yield connections
    for connection in connections:
        await connection.close()


def to(host: str, id_: str) -> NewDelivery:
    return NewDelivery(id_, f"https://{host}.example/x", b"{}")


async def test_beside_an_open_transaction_others_add_to_the_same_new_destination(
    database: Database, producers: list[asyncpg.Connection[asyncpg.Record]]
) -> None:
    first, *others = producers
    async with first.transaction():
        await outbox.add(first, to("new", "slow"))
        for number, other in enumerate(others):
            async with other.transaction():
                await outbox.add(other, to("new", f"quick{number}"))
        assert len(rows(database, "SELECT id FROM outspoken_deliveries")) == len(others)
    assert len(rows(database, "SELECT id FROM outspoken_deliveries")) == len(producers)


async def test_two_new_destinations_in_opposite_order_are_no_deadlock(
    database: Database, producers: list[asyncpg.Connection[asyncpg.Record]]
) -> None:
    one, other, *_ = producers
    async with one.transaction(), other.transaction():
        await outbox.add(one, to("a", "a1"))
        await outbox.add(other, to("b", "b1"))
        await outbox.add(one, to("b", "b2"))
        await outbox.add(other, to("a", "a2"))
    assert {id_ for (id_,) in rows(database, "SELECT id FROM outspoken_deliveries")} == {"a1", "a2", "b1", "b2"}


async def test_no_row_of_a_destination_is_a_producers_to_write(
    database: Database, producers: list[asyncpg.Connection[asyncpg.Record]]
) -> None:
    async with producers[0].transaction():
        await outbox.add(producers[0], to("new", "d1"))
    assert rows(database, "SELECT origin FROM outspoken_destinations") == []
    assert rows(database, "SELECT origin, path FROM outspoken_deliveries") == [("https://new.example:443", "/x")]


async def test_where_a_delivery_goes_is_seen_by_whoever_asks_in_sql(
    database: Database, producers: list[asyncpg.Connection[asyncpg.Record]]
) -> None:
    async with producers[0].transaction():
        await outbox.add(producers[0], to("new", "d1"))
    assert rows(database, "SELECT id, destination, state FROM outspoken.deliveries_v1") == [
        ("d1", "https://new.example:443", "pending")
    ]


def of(stream: str, id_: str) -> NewDelivery:
    return NewDelivery(id_, "https://h.example/x", b"{}", stream=Stream(stream))


async def test_beside_an_open_transaction_only_those_of_its_stream_wait_and_in_the_end_none_is_out_of_order(
    database: Database, producers: list[asyncpg.Connection[asyncpg.Record]]
) -> None:
    first, *others = producers
    async with first.transaction():
        await outbox.add(first, of("one", "m1"))
        for number, other in enumerate(others):
            async with other.transaction():
                with pytest.raises(asyncpg.LockNotAvailableError):
                    async with other.transaction():  # a savepoint: what it could not do is undone, and nothing else
                        await outbox.add(other, of("one", "late"))
                await outbox.add(other, of(f"stream {number}", f"elsewhere{number}"))
                await outbox.add(other, to("h", f"alone{number}"))
        assert len(rows(database, "SELECT id FROM outspoken_deliveries")) == 2 * len(others)
    for number, other in enumerate(others, 2):
        async with other.transaction():
            await outbox.add(other, of("one", f"m{number}"))
    numbered = rows(database, "SELECT id, position FROM outspoken.deliveries_v1 WHERE stream = 'one' ORDER BY position")
    assert numbered == [(f"m{number}", number) for number in range(1, len(producers) + 1)]


async def test_a_transaction_that_is_rolled_back_leaves_no_gap_in_its_stream(
    database: Database, producers: list[asyncpg.Connection[asyncpg.Record]]
) -> None:
    one, other, *_ = producers
    await other.execute("SET lock_timeout = 0")
    transaction = one.transaction()
    await transaction.start()
    await outbox.add(one, of("s", "never"))

    async def wait_and_add() -> None:
        async with other.transaction():
            await outbox.add(other, of("s", "first"))

    waiting = asyncio.create_task(wait_and_add())
    while not await asyncio.to_thread(rows, database, WAITING):
        assert not waiting.done()
    await transaction.rollback()
    await waiting
    assert rows(database, "SELECT id, position FROM outspoken_deliveries") == [("first", 1)]
