"""Producers whose transactions take their time: none of them waits for another, whatever is new to the outbox."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from relay import outbox
from relay.outbox.model import NewDelivery
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
