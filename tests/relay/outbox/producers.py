"""Producers on connections of their own, one for each kind of connection that a caller may bring."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import closing, suppress
from typing import Any

import aiosqlite
import asyncpg
import pytest

from relay import outbox
from relay.outbox.model import NewDelivery, Stream
from relay.outbox.store import Database
from tests.relay.deliveries import apart, writing

Work = Callable[[Any], Coroutine[Any, Any, None]]
"""What to do in a transaction on a connection; what is done at once and what has to be awaited look the same."""


class RolledBack(Exception):
    """What a caller's transaction ended with."""


async def done(result: Awaitable[None] | None) -> None:
    """Whether it was done at once, or has to be awaited."""
    if result is not None:
        await result


class Producer:
    """One kind of caller. Each transaction has a connection, and a thread, of its own."""

    def __init__(self, kind: str, database: Database) -> None:
        self.database = database
        self._kinds = {
            "store": self._on_the_stores_own,
            "sqlite3": self._on_sqlite3,
            "aiosqlite": lambda work: asyncio.run(self._on_aiosqlite(work)),
            "asyncpg": lambda work: asyncio.run(self._on_asyncpg(work)),
            "pool": lambda work: asyncio.run(self._on_a_pool(work)),
        }
        self._transact: Callable[[Work], None] = self._kinds[kind]

    def commit(self, work: Work) -> None:
        """Do `work` in a transaction, which is rolled back if it raises."""
        apart(lambda: self._transact(work))

    def put(self, *deliveries: NewDelivery) -> None:
        """Add and commit."""

        async def add(connection: Any) -> None:
            for delivery in deliveries:
                await done(outbox.add(connection, delivery))

        self.commit(add)

    def roll_back(self, *deliveries: NewDelivery) -> None:
        """Add, and then change one's mind."""

        async def add(connection: Any) -> None:
            for delivery in deliveries:
                await done(outbox.add(connection, delivery))
            raise RolledBack

        with suppress(RolledBack):
            self.commit(add)

    def begin(self, stream: Stream, url: str, headers: Mapping[str, str] | None = None) -> None:
        """Begin a stream and commit."""
        self.commit(lambda connection: done(outbox.begin_stream(connection, stream, url, headers)))

    def end(self, key: str) -> None:
        """End a stream and commit."""
        self.commit(lambda connection: done(outbox.end_stream(connection, key)))

    def keep(self, keys: Iterable[str], until: float) -> None:
        """Keep streams and commit."""
        self.commit(lambda connection: done(outbox.keep_streams(connection, keys, until)))

    def _on_the_stores_own(self, work: Work) -> None:
        writing(self.database, lambda connection: _at_once(work(connection)))

    def _on_sqlite3(self, work: Work) -> None:
        with closing(sqlite3.connect(self.database.name)) as connection, connection:
            _at_once(work(connection))

    async def _on_aiosqlite(self, work: Work) -> None:
        async with aiosqlite.connect(self.database.name) as connection:
            await work(connection)
            await connection.commit()

    async def _on_asyncpg(self, work: Work) -> None:
        connection = await asyncpg.connect(self.database.url)
        try:
            async with connection.transaction():
                await work(connection)
        finally:
            await connection.close()

    async def _on_a_pool(self, work: Work) -> None:
        async with (
            asyncpg.create_pool(self.database.url, min_size=1, max_size=1) as pool,
            pool.acquire() as connection,
            connection.transaction(),
        ):
            await work(connection)


def _at_once(work: Coroutine[Any, Any, None]) -> None:
    with suppress(StopIteration):
        work.send(None)
        raise AssertionError("it waits for something")


_POSTGRES = pytest.mark.needs("postgres")

every_kind = pytest.mark.parametrize(
    ("database", "producer"),
    [
        pytest.param("sqlite", "sqlite3", id="sqlite3"),
        pytest.param("sqlite", "aiosqlite", id="aiosqlite"),
        pytest.param("postgres", "asyncpg", id="asyncpg", marks=_POSTGRES),
        pytest.param("postgres", "pool", id="pool", marks=_POSTGRES),
        pytest.param("postgres", "store", id="store", marks=_POSTGRES),
    ],
    indirect=True,
)
"""Every connection that a caller may bring."""
