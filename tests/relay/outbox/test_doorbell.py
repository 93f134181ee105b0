"""A ring after a commit is heard by every relay on the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from relay.outbox.store import Bell, Database
from tests.relay.deliveries import new, put


@pytest.fixture
def bell(database: Database) -> Iterator[Bell]:
    rung = database.bell()
    yield rung
    rung.close()


@asynccontextmanager
async def listening(database: Database) -> AsyncIterator[asyncio.Event]:
    heard = asyncio.Event()
    doorbell = database.doorbell(heard)
    await doorbell.open()
    heard.clear()  # whoever begins to listen may be told to look first
    try:
        yield heard
    finally:
        await doorbell.close()


async def hears(heard: asyncio.Event) -> None:
    async with asyncio.timeout(2):
        await heard.wait()
    heard.clear()


async def test_a_ring_wakes_the_relay_every_time(database: Database, bell: Bell) -> None:
    async with listening(database) as heard:
        for number in range(3):
            assert not heard.is_set()
            put(database, new(f"d{number}"))
            bell.ring()
            await hears(heard)


async def test_every_relay_on_the_database_hears_a_ring(database: Database, bell: Bell) -> None:
    async with listening(database) as first, listening(database) as second:
        put(database, new())
        bell.ring()
        await hears(first)
        await hears(second)


async def test_a_ring_wakes_every_loop_of_a_relay(database: Database, bell: Bell) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    doorbell = database.doorbell(first, second)
    await doorbell.open()
    put(database, new())
    bell.ring()
    await hears(first)
    assert second.is_set()
    await doorbell.close()


def test_a_ring_that_nobody_hears_is_no_failure(bell: Bell) -> None:
    bell.ring()
