"""Producers whose transactions take their time: none of them waits for another, in one stream or in many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from relay import outbox
from relay.outbox.errors import InvalidDelivery
from relay.outbox.model import NewDelivery, Stream
from relay.outbox.store import Database
from tests.relay.deliveries import rows

pytestmark = [pytest.mark.needs("postgres"), pytest.mark.parametrize("database", ["postgres"], indirect=True)]

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


def of(stream: str, id_: str, url: str = "https://h.example/x") -> NewDelivery:
    return NewDelivery(id_, url, b"{}", stream=Stream(stream))


MANY_KEPT = """
INSERT INTO outspoken.deliveries
    (id, origin, path, url, body_bytes, created_at, due_at, state, attempts, finished_at, lane)
SELECT n, 'https://h.example:443', '/', 'https://h.example/', 1, 1, 1, 'delivered', 1, 2, 0
FROM generate_series(1, 9999) AS n
"""
NUMBERED = "SELECT id, position FROM outspoken.deliveries_v1 WHERE stream = 's' ORDER BY position"


async def test_beside_an_open_transaction_others_add_to_the_same_stream_in_the_order_of_their_commits(
    database: Database, producers: list[asyncpg.Connection[asyncpg.Record]]
) -> None:
    first, *others = producers
    async with first.transaction():
        await outbox.add(first, of("s", "slow1"))
        for number, other in enumerate(others):
            async with other.transaction():
                await outbox.add(other, of("s", f"quick{number}a"))
                await outbox.add(other, of("s", f"quick{number}b"))
        await outbox.add(first, of("s", "slow2"))
    expected = [f"quick{number}{letter}" for number in range(len(others)) for letter in "ab"] + ["slow1", "slow2"]
    assert rows(database, NUMBERED) == [(id_, place) for place, id_ in enumerate(expected, 1)]
    due = "SELECT id FROM outspoken_deliveries WHERE due_at IS NOT NULL"
    assert rows(database, due) == [("quick0a",)], "the first of all, and of it alone"
    assert rows(database, "SELECT * FROM outspoken_joining") == []


async def test_several_streams_in_opposite_order_are_no_deadlock(
    database: Database, producers: list[asyncpg.Connection[asyncpg.Record]]
) -> None:
    one, other, *_ = producers
    for connection in (one, other):
        await connection.execute("SET lock_timeout = 0")  # for the moment of the other's commit
    for known in ("new", "known"):
        for connection in (one, other):
            await connection.execute("BEGIN")
        for stream in ("s", "t", "u"):
            await outbox.add(one, of(stream, f"one {stream} {known}"))
        for stream in ("u", "t", "s"):
            await outbox.add(other, of(stream, f"other {stream} {known}"))
        await asyncio.gather(*(connection.execute("COMMIT") for connection in (one, other)))
    assert rows(database, "SELECT key, position FROM outspoken_streams ORDER BY key") == [("s", 4), ("t", 4), ("u", 4)]


async def test_what_is_rolled_back_leaves_no_gap_in_its_stream(
    database: Database, producers: list[asyncpg.Connection[asyncpg.Record]]
) -> None:
    one, other, *_ = producers
    transaction = one.transaction()
    await transaction.start()
    await outbox.add(one, of("s", "never"))
    async with other.transaction():
        await outbox.add(other, of("s", "first"))
        with pytest.raises(RuntimeError):
            async with other.transaction():
                await outbox.add(other, of("s", "not this one"))
                raise RuntimeError
        await outbox.add(other, of("s", "second"))
    await transaction.rollback()
    assert rows(database, NUMBERED) == [("first", 1), ("second", 2)]
    assert rows(database, "SELECT position FROM outspoken_streams") == [(2,)]


async def test_a_stream_may_be_ended_in_the_transaction_that_adds_its_last_message(
    database: Database, producers: list[asyncpg.Connection[asyncpg.Record]]
) -> None:
    one, *_ = producers
    async with one.transaction():
        await outbox.add(one, of("s", "m1", "wss://h.example/"))
        await outbox.add(one, of("s", "m2", "wss://h.example/"))
        await outbox.end_stream(one, "s")
    assert rows(database, NUMBERED) == [("m1", 1), ("m2", 2)]
    assert rows(database, "SELECT stream, state, undelivered FROM outspoken.streams_v1") == [("s", "ended", 2)]


@pytest.mark.parametrize(
    ("url", "meanwhile", "state", "became"),
    [
        ("https://h.example/x", "outspoken.end_stream_v1('s')", "pending", "ended"),
        ("wss://h.example/x", "outspoken.end_stream_v1('s')", "pending", "ended"),
        ("https://h.example/x", "kill", "dead", "killed"),
        ("wss://h.example/x", "kill", "dead", "killed"),
    ],
)
async def test_a_stream_that_comes_to_its_end_while_somebody_adds_to_it(
    database: Database,
    producers: list[asyncpg.Connection[asyncpg.Record]],
    url: str,
    meanwhile: str,
    state: str,
    became: str,
) -> None:
    one, other, *_ = producers
    await outbox_begins(other, url)
    async with one.transaction():
        await outbox.add(one, of("s", "late", url))
        killing = "UPDATE outspoken.streams SET state = 'killed', reason = 'internal', finished_at = 1"
        await other.execute(killing if meanwhile == "kill" else f"SELECT {meanwhile}")
    assert rows(database, "SELECT state, position FROM outspoken_deliveries") == [(state, 1)]
    assert rows(database, "SELECT state, finished_at IS NULL FROM outspoken_streams") == [(became, became != "killed")]


async def outbox_begins(connection: asyncpg.Connection[asyncpg.Record], url: str) -> None:
    async with connection.transaction():
        await outbox.begin_stream(connection, Stream("s"), url)


async def test_one_socket_leads_to_one_place_whoever_is_the_first_to_commit(
    database: Database, producers: list[asyncpg.Connection[asyncpg.Record]]
) -> None:
    one, other, *_ = producers
    async with one.transaction():
        await outbox.add(one, of("s", "here", "wss://h.example/"))
        with pytest.raises(InvalidDelivery, match="leads to another URL"):
            await outbox.add(one, of("s", "there", "wss://h.example/2"))
        async with other.transaction():
            await outbox.add(other, of("s", "elsewhere", "wss://h.example/3"))
    assert rows(database, "SELECT id, state, reason FROM outspoken_deliveries ORDER BY id") == [
        *(("elsewhere", "pending", None), ("here", "dead", "stream_killed"))
    ]


async def test_what_is_withdrawn_in_its_own_transaction_has_no_place(
    database: Database, producers: list[asyncpg.Connection[asyncpg.Record]]
) -> None:
    one, *_ = producers
    async with one.transaction():
        for id_ in ("m1", "m2"):
            await outbox.add(one, of("s", id_))
        assert await outbox.cancel(one, "m1")
    assert rows(database, NUMBERED) == [("m2", 1)]
    assert rows(database, "SELECT id FROM outspoken_deliveries WHERE due_at IS NOT NULL AND state = 'pending'") == [
        ("m2",)
    ]


async def test_a_place_costs_the_same_however_many_deliveries_are_kept(
    database: Database, producers: list[asyncpg.Connection[asyncpg.Record]]
) -> None:
    one, *_ = producers
    for number in range(10):  # for which reading all of it is as good as anything
        async with one.transaction():
            await outbox.add(one, of("s", f"m{number}"))
    await one.execute(MANY_KEPT)
    async with one.transaction():
        await outbox.add(one, of("s", "last"))
        await one.execute("SET CONSTRAINTS outspoken.place IMMEDIATE")
        read = "SELECT sum(seq_tup_read) FROM pg_stat_xact_user_tables WHERE schemaname = 'outspoken'"
        assert await one.fetchval(read) < 100
    assert rows(database, NUMBERED)[-1] == ("last", 11)
