"""A notification after a commit is heard by every relay on the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from relay.outbox.errors import StoreUnavailable
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.store import Database, Listener, Notifier
from tests.relay.deliveries import new, put
from tests.services.postgres import Server


def cut(database: Database) -> None:
    """End all other sessions."""
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    with database.reading() as connection:
        connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")


@pytest.fixture
def notifier(database: Database) -> Iterator[Notifier]:
    made = database.notifier()
    yield made
    made.close()


@asynccontextmanager
async def listening(database: Database) -> AsyncIterator[asyncio.Event]:
    heard = asyncio.Event()
    listener = database.listener(heard)
    await listener.open()
    heard.clear()  # whoever begins to listen may be told to look first
    try:
        yield heard
    finally:
        await listener.close()


async def hears(heard: asyncio.Event) -> None:
    async with asyncio.timeout(60):
        await heard.wait()
    heard.clear()


async def test_a_notification_wakes_the_relay_every_time(database: Database, notifier: Notifier) -> None:
    async with listening(database) as heard:
        for number in range(3):
            assert not heard.is_set()
            put(database, new(f"d{number}"))
            notifier.notify()
            await hears(heard)


async def test_every_relay_on_the_database_hears_a_notification(database: Database, notifier: Notifier) -> None:
    async with listening(database) as first, listening(database) as second:
        put(database, new())
        notifier.notify()
        await hears(first)
        await hears(second)


async def test_a_notification_wakes_every_loop_of_a_relay(database: Database, notifier: Notifier) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    listener = database.listener(first, second)
    await listener.open()
    put(database, new())
    notifier.notify()
    await hears(first)
    assert second.is_set()
    await listener.close()


@pytest.mark.needs("postgres")
async def test_who_listens_polls_rarely_and_often_when_it_lost_its_session(postgres_outbox: Database) -> None:
    heard = asyncio.Event()
    listener = postgres_outbox.listener(heard)
    often = listener.poll_seconds
    await listener.open()
    assert listener.poll_seconds > often
    listener.check()
    heard.clear()
    await asyncio.to_thread(cut, postgres_outbox)
    await hears(heard)
    assert listener.poll_seconds == often
    await listener.close()


@pytest.mark.needs("postgres")
async def test_why_nobody_listens_is_told_until_somebody_does(postgres: Server) -> None:
    name, heard = postgres.create(), asyncio.Event()
    postgres.sql("CREATE ROLE listening LOGIN")
    listener = PostgresDatabase(postgres.url(name).replace("postgres@", "listening@")).listener(heard)
    await listener.open()
    listener.check()
    heard.clear()
    sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'listening'"
    postgres.sql("ALTER ROLE listening CONNECTION LIMIT 0", sessions)
    await hears(heard)
    assert (await refusal(listener)).kind == "connections"
    heard.clear()
    postgres.sql("ALTER ROLE listening CONNECTION LIMIT -1")
    await hears(heard)
    listener.check()
    await listener.close()
    postgres.drop(name)
    postgres.sql("DROP ROLE listening")


async def refusal(listener: Listener) -> StoreUnavailable:
    """Once it has tried again, which nothing else tells of."""
    async with asyncio.timeout(60):
        while True:
            try:
                listener.check()
            except StoreUnavailable as refused:
                return refused
            await asyncio.sleep(0.02)


def test_a_notification_that_nobody_hears_is_no_failure(notifier: Notifier) -> None:
    notifier.notify()
