"""Producers on connections of their own, one for each kind of connection that a caller may bring."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

import aiosqlite
import asyncpg
import django
import psycopg
import psycopg2
import pytest
from django.conf import settings
from django.db import connections, transaction
from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from relay import outbox
from relay.outbox.model import NewDelivery, Stream
from relay.outbox.store import Database
from tests.relay.deliveries import apart, routed

T = TypeVar("T")

Work = Callable[[Any], Coroutine[Any, Any, None]]
"""What to do in a transaction on a connection; what is done at once and what has to be awaited look the same."""


class RolledBack(Exception):
    """What a caller's transaction ended with."""


async def done(result: Awaitable[T] | T) -> T:
    """What was done at once, or is once it is awaited."""
    return await result if isinstance(result, Awaitable) else result


class Producer:
    """One kind of caller. Each transaction has a connection, and a thread, of its own."""

    def __init__(self, kind: str, database: Database) -> None:
        self.database = database
        self._kinds = {
            "store": self._on_the_stores_own,
            "sqlite3": self._on_sqlite3,
            "aiosqlite": self._on_aiosqlite,
            "asyncpg": self._on_asyncpg,
            "asyncpg-pool": self._on_a_pool,
            "psycopg": self._on_psycopg,
            "psycopg-async": self._on_async_psycopg,
            "psycopg2": self._on_psycopg2,
            "django": self._on_django,
            "session": self._on_a_session,
            "scoped-session": self._on_a_scoped_session,
            "connection": self._on_sqlalchemys_connection,
            "async-session": self._on_an_async_session,
            "async-scoped-session": self._on_an_async_scoped_session,
            "async-connection": self._on_sqlalchemys_async_connection,
        }
        self._driver, _, name = kind.rpartition(":")
        self._transact: Callable[[Work], None] = self._kinds[name]

    def commit(self, work: Work) -> None:
        """Do `work` in a transaction, which is rolled back if it raises."""
        apart(lambda: self._transact(work))

    def do(self, call: Callable[[Any], Any]) -> Any:
        """What one call on the connection brings, in a transaction of its own."""
        brought = []

        async def work(connection: Any) -> None:
            brought.append(await done(call(connection)))

        self.commit(work)
        return brought[0]

    def put(self, *deliveries: NewDelivery) -> None:
        """Add and commit."""

        async def add(connection: Any) -> None:
            for delivery in deliveries:
                await done(outbox.add(connection, delivery))

        self.commit(add)
        routed(self.database)

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
        with self.database.writing() as connection:
            _at_once(work(connection))

    def _on_sqlite3(self, work: Work) -> None:
        with closing(sqlite3.connect(self.database.name)) as connection, connection:
            _at_once(work(connection))

    def _on_aiosqlite(self, work: Work) -> None:
        async def transact() -> None:
            async with aiosqlite.connect(self.database.name) as connection:
                await work(connection)
                await connection.commit()

        asyncio.run(transact())

    def _on_asyncpg(self, work: Work) -> None:
        async def transact() -> None:
            connection = await asyncpg.connect(self.database.url)
            try:
                async with connection.transaction():
                    await work(connection)
            finally:
                await connection.close()

        asyncio.run(transact())

    def _on_a_pool(self, work: Work) -> None:
        async def transact() -> None:
            async with (
                asyncpg.create_pool(self.database.url, min_size=1, max_size=1) as pool,
                pool.acquire() as connection,
                connection.transaction(),
            ):
                await work(connection)

        asyncio.run(transact())

    def _on_psycopg(self, work: Work) -> None:
        with psycopg.connect(self.database.url) as connection:
            _at_once(work(connection))

    def _on_async_psycopg(self, work: Work) -> None:
        async def transact() -> None:
            async with await psycopg.AsyncConnection.connect(self.database.url) as connection:
                await work(connection)

        asyncio.run(transact())

    def _on_psycopg2(self, work: Work) -> None:
        with closing(psycopg2.connect(self.database.url)) as connection, connection:
            _at_once(work(connection))

    def _on_django(self, work: Work) -> None:
        django_settings(self.database)
        connection = connections["outbox"]
        try:
            with transaction.atomic(using="outbox"):
                _at_once(work(connection))
        finally:
            connection.close()

    def _on_a_session(self, work: Work) -> None:
        with self._engine() as engine, Session(engine) as session, session.begin():
            _at_once(work(session))

    def _on_a_scoped_session(self, work: Work) -> None:
        with self._engine() as engine:
            session = scoped_session(sessionmaker(engine))
            try:
                with session.begin():
                    _at_once(work(session))
            finally:
                session.remove()

    def _on_sqlalchemys_connection(self, work: Work) -> None:
        with self._engine() as engine, engine.begin() as connection:
            _at_once(work(connection))

    def _on_an_async_session(self, work: Work) -> None:
        async def transact() -> None:
            async with self._async_engine() as engine, AsyncSession(engine) as session, session.begin():
                await work(session)

        asyncio.run(transact())

    def _on_an_async_scoped_session(self, work: Work) -> None:
        async def transact() -> None:
            async with self._async_engine() as engine:
                session = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
                try:
                    async with session.begin():
                        await work(session)
                finally:
                    await session.remove()

        asyncio.run(transact())

    def _on_sqlalchemys_async_connection(self, work: Work) -> None:
        async def transact() -> None:
            async with self._async_engine() as engine, engine.begin() as connection:
                await work(connection)

        asyncio.run(transact())

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        engine = create_engine(sqlalchemy_url(self.database, self._driver))
        try:
            yield engine
        finally:
            engine.dispose()

    @asynccontextmanager
    async def _async_engine(self) -> AsyncIterator[AsyncEngine]:
        engine = create_async_engine(sqlalchemy_url(self.database, self._driver))
        try:
            yield engine
        finally:
            await engine.dispose()


def sqlalchemy_url(database: Database, driver: str) -> str:
    """As SQLAlchemy wants it."""
    return database.url.replace("://", f"+{driver}://", 1)


def django_settings(database: Database) -> None:
    """Have Django know the database as `outbox`."""
    if not settings.configured:
        settings.configure()
        django.setup()
    url = urlsplit(database.url)
    engine = {"sqlite": "sqlite3", "postgresql": "postgresql"}[url.scheme]
    place = {"NAME": database.name} if engine == "sqlite3" else _place_of(url)
    told = {"default": {}, "outbox": {"ENGINE": f"django.db.backends.{engine}", **place}}
    connections.settings["outbox"] = connections.configure_settings(told)["outbox"]
    if "outbox" in [one.alias for one in connections.all(initialized_only=True)]:
        del connections["outbox"]


def _place_of(url: SplitResult) -> dict[str, object]:
    return {"NAME": url.path[1:], "HOST": url.hostname, "PORT": url.port, "USER": url.username}


def _at_once(work: Coroutine[Any, Any, None]) -> None:
    with suppress(StopIteration):
        work.send(None)
        raise AssertionError("it waits for something")


def _of(*producers: str) -> pytest.MarkDecorator:
    each = []
    for one in producers:
        database, _, kind = one.partition("/")
        marks = [pytest.mark.needs("postgres")] if database == "postgres" else []
        each.append(pytest.param(database, kind, id=one, marks=marks))
    return pytest.mark.parametrize(("database", "producer"), each, indirect=True)


every_way = _of("sqlite/sqlite3", "sqlite/aiosqlite", "postgres/asyncpg", "postgres/store")
"""One connection for each way in which a script is performed."""

_SQLALCHEMYS = ("session", "scoped-session", "connection")
_ASYNC_SQLALCHEMYS = ("async-session", "async-scoped-session", "async-connection")
every_kind = _of(
    "sqlite/sqlite3",
    "sqlite/aiosqlite",
    "sqlite/django",
    *(f"sqlite/pysqlite:{kind}" for kind in _SQLALCHEMYS),
    *(f"sqlite/aiosqlite:{kind}" for kind in _ASYNC_SQLALCHEMYS),
    "postgres/store",
    "postgres/asyncpg",
    "postgres/asyncpg-pool",
    "postgres/psycopg",
    "postgres/psycopg-async",
    "postgres/psycopg2",
    "postgres/django",
    *(f"postgres/{driver}:{kind}" for driver in ("psycopg", "psycopg2") for kind in _SQLALCHEMYS),
    *(f"postgres/{driver}:{kind}" for driver in ("asyncpg", "psycopg") for kind in _ASYNC_SQLALCHEMYS),
)
"""Every connection that a caller may bring."""
