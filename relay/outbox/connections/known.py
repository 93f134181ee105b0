"""Tells what kind of connection a caller holds. A library that nobody has loaded is not loaded for it: no connection of
its can be there."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from relay.outbox.connections.adapter import Adapter, Begin, SyncAdapter
from relay.outbox.connections.asyncpg import Asyncpg, AsyncpgConnection, OwnPostgres
from relay.outbox.connections.django import Django
from relay.outbox.connections.psycopg import Psycopg, Psycopg2, PsycopgAsync
from relay.outbox.connections.sqlalchemy import Sqlalchemy, SqlalchemyAsync, SqlalchemySession
from relay.outbox.connections.sqlite import Aiosqlite, Sqlite
from relay.outbox.store import Connection

_ACCEPTED = (
    "a Connection of sqlite3, aiosqlite, asyncpg, psycopg or psycopg2, a Session, AsyncSession, Connection or"
    " AsyncConnection of SQLAlchemy 2, or Django's connection"
)


class CommitsAtOnce(Protocol):
    """What the sync ones have in common, for type checkers."""

    def commit(self) -> None: ...


class LooksUpItsConnection(Protocol):
    """What type checkers see of `django.db.connection`, which finds the thread's own at each use. Only both together
    tell it from what asyncpg's pools lend, and from SQLAlchemy's sessions."""

    def __contains__(self, key: Any, /) -> Any: ...

    def __getattr__(self, item: str, /) -> Any: ...


class CommitsWhenAwaited(Protocol):
    """What the async ones have in common."""

    def commit(self) -> Coroutine[Any, Any, None]: ...


SyncConnection = Connection | CommitsAtOnce | LooksUpItsConnection
AsyncConnection = AsyncpgConnection | CommitsWhenAwaited


class Performing(Protocol):
    """Who goes through a script: at once, or when what it returns is awaited."""

    def perform(self, begin: Begin[Any], /, *, only_reads: bool = False) -> Any:
        """The script's result, or an awaitable of it."""


def adapter_of(connection: object) -> Performing:
    """How to perform a script on a connection. Raises TypeError, with a list, for one of no known kind."""
    if isinstance(connection, sqlite3.Connection):
        return Sqlite(connection)
    for module, name, kind in _KINDS:
        known = getattr(sys.modules.get(module), name, None)
        if known is not None and isinstance(connection, known):
            return kind(connection)
    raise TypeError(f"connection: expected {_ACCEPTED}; got {_named(connection)}")


def _named(connection: object) -> str:
    return f"{type(connection).__module__}.{type(connection).__qualname__}"


def _driver(connection: object) -> Adapter:
    """The driver's own connection, below SQLAlchemy's."""
    found = adapter_of(connection)
    assert isinstance(found, Adapter)
    return found


def _inside(connection: object) -> SyncAdapter:
    """The sync one, inside an async one of SQLAlchemy's."""
    found = adapter_of(connection)
    assert isinstance(found, SyncAdapter)
    return found


_KINDS: tuple[tuple[str, str, Callable[[Any], Performing]], ...] = (
    ("relay.outbox.postgres.connection", "PostgresConnection", OwnPostgres),
    ("aiosqlite", "Connection", Aiosqlite),
    ("asyncpg", "Connection", Asyncpg),
    ("asyncpg.pool", "PoolConnectionProxy", Asyncpg),
    ("psycopg", "Connection", Psycopg),
    ("psycopg", "AsyncConnection", PsycopgAsync),
    ("psycopg2.extensions", "connection", Psycopg2),
    ("sqlalchemy", "Connection", lambda one: Sqlalchemy(one, _driver)),
    ("sqlalchemy.orm", "Session", lambda one: SqlalchemySession(one, _driver)),
    ("sqlalchemy.orm", "scoped_session", lambda one: SqlalchemySession(one(), _driver)),
    ("sqlalchemy.ext.asyncio", "AsyncConnection", lambda one: SqlalchemyAsync(one, _inside)),
    ("sqlalchemy.ext.asyncio", "AsyncSession", lambda one: SqlalchemyAsync(one, _inside)),
    ("sqlalchemy.ext.asyncio", "async_scoped_session", lambda one: SqlalchemyAsync(one(), _inside)),
    ("django.db.backends.base.base", "BaseDatabaseWrapper", Django),
    ("django.utils.connection", "ConnectionProxy", Django),
)
