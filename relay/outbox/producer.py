"""The producer's side: add deliveries on the caller's own connection, inside the caller's own transaction.

On sqlite3, and on the store's own connections, the work is done at once; on aiosqlite and asyncpg the awaitable that is
returned does it. On PostgreSQL a call is one round trip, to a function that other languages call as well; on asyncpg
every call, even that of a single statement, needs a transaction that was begun.

A live stream (one with `live_until`) takes four calls: `add` for every message, `keep_streams` from time to time,
`end_stream` after the last one, and `watch_streams` to hear that it was killed. `begin_stream` before the first message
opens a WebSocket early, so that a callback which cannot be reached is known before anything was said.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, overload, runtime_checkable

from relay.outbox.errors import InvalidDelivery
from relay.outbox.model import KillReason, NewDelivery, Stream, StreamState, StreamStatus
from relay.outbox.postgres.placeholders import numbered
from relay.outbox.producing import POSTGRES, SQLITE, Script, Scripts
from relay.outbox.sqlite.liveness import gone
from relay.outbox.store import Connection

if TYPE_CHECKING:
    import aiosqlite

T = TypeVar("T")

# What the server says to every statement after one that failed.
_IN_FAILED_TRANSACTION = "25P02"


@runtime_checkable
class Session(Protocol):
    """asyncpg's connection, whether it is the caller's own or lent by a pool."""

    def is_closed(self) -> bool:
        """Whether it was closed, or lost."""

    def is_in_transaction(self) -> bool:
        """Whether there was a BEGIN. A transaction that has failed is one, until it is rolled back."""

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Run one statement."""


@overload
def add(connection: Connection, delivery: NewDelivery) -> None: ...
@overload
def add(connection: aiosqlite.Connection | Session, delivery: NewDelivery) -> Awaitable[None]: ...
def add(connection: Connection | aiosqlite.Connection | Session, delivery: NewDelivery) -> Awaitable[None] | None:
    """Put a delivery into the outbox; it exists when the caller's transaction commits, and not before.

    On SQLite, notify after the commit; without it the relay notices within 250 ms. Raises
    DuplicateDelivery if the id is taken (an id names one result, forever), StreamKilled or StreamEnded if nothing can
    join its stream any more, and InvalidDelivery if a field cannot be kept, the URL names no destination, or the
    connection is in autocommit mode and was told no BEGIN; on asyncpg also if it is closed, or its transaction has
    failed. None of them spoils the caller's transaction. Whether the URL may be called is the guard's question, which
    the relay asks again at every attempt.

    SQLAlchemy's driver connection has no transaction before SQLAlchemy's first statement: flush, or execute one, first.

    A delivery to ws:// or wss:// is one message of its stream's WebSocket: it needs a stream, all of whose deliveries
    go to the same URL, and its body is text. The handshake carries the headers of the first.
    """
    return _perform(connection, lambda scripts: scripts.add(delivery))


@overload
def begin_stream(
    connection: Connection, stream: Stream, url: str, headers: Mapping[str, str] | None = None
) -> None: ...
@overload
def begin_stream(
    connection: aiosqlite.Connection | Session, stream: Stream, url: str, headers: Mapping[str, str] | None = None
) -> Awaitable[None]: ...
def begin_stream(
    connection: Connection | aiosqlite.Connection | Session,
    stream: Stream,
    url: str,
    headers: Mapping[str, str] | None = None,
) -> Awaitable[None] | None:
    """Make a stream before its first delivery: to ws and wss its socket is opened as soon as this is committed.

    `headers` go with the handshake. Raises StreamKilled, StreamEnded and InvalidDelivery as `add` does.
    """
    return _perform(connection, lambda scripts: scripts.begin_stream(stream, url, headers or {}))


@overload
def end_stream(connection: Connection, key: str) -> None: ...
@overload
def end_stream(connection: aiosqlite.Connection | Session, key: str) -> Awaitable[None]: ...
def end_stream(connection: Connection | aiosqlite.Connection | Session, key: str) -> Awaitable[None] | None:
    """The last message is in: what waits is delivered, then the stream is closed, its WebSocket with 1000.

    Does nothing to a stream that has come to its end already, or that there never was. Notify after the commit.
    Raises InvalidDelivery on asyncpg, outside of a transaction as `add` does.
    """
    return _perform(connection, lambda scripts: scripts.end_stream(key), several=False)


@overload
def keep_streams(connection: Connection, keys: Iterable[str], until: float) -> None: ...
@overload
def keep_streams(connection: aiosqlite.Connection | Session, keys: Iterable[str], until: float) -> Awaitable[None]: ...
def keep_streams(
    connection: Connection | aiosqlite.Connection | Session, keys: Iterable[str], until: float
) -> Awaitable[None] | None:
    """Push out, to `until` in epoch seconds, when the producer of these open live streams would be taken for dead.

    Raises InvalidDelivery on asyncpg, outside of a transaction as `add` does.
    """
    return _perform(connection, lambda scripts: scripts.keep_streams(keys, until), several=False)


def watch_streams(connection: Connection, keys: Iterable[str]) -> dict[str, StreamStatus]:
    """How these streams stand, by key, in one read; those that never had a delivery, or are forgotten, are left out.

    Cheap enough to be asked every 250 ms for a hundred streams.
    """
    rows = _perform_now(connection, _scripts(connection).watch_streams(keys))
    lost = gone(connection, {holder for *_, holder in rows if holder})
    return {key: _status(*row, lost=holder in lost) for key, *row, holder in rows}


def _status(state: str, reason: str | None, count: int, *, lost: bool) -> StreamStatus:
    """Whoever held its socket may be `lost` before anybody was there to write that down."""
    if lost:
        return StreamStatus(StreamState.KILLED, KillReason.RELAY, count)
    return StreamStatus(StreamState(state), KillReason(reason) if reason else None, count)


def _perform(
    connection: Connection | aiosqlite.Connection | Session,
    begin: Callable[[Scripts], Script[None]],
    *,
    several: bool = True,
) -> Awaitable[None] | None:
    """Go through a script, at once or once it is awaited. One of `several` statements needs a transaction on SQLite
    too."""
    script = begin(_scripts(connection))
    if isinstance(connection, _aiosqlite()):
        return _perform_on_aiosqlite(connection, script, several=several)
    if not isinstance(connection, sqlite3.Connection) and isinstance(connection, Session):
        return _perform_on_asyncpg(connection, script)
    _perform_now(cast("Connection", connection), script, several=several)
    return None


def _scripts(connection: Connection | aiosqlite.Connection | Session) -> Scripts:
    return SQLITE if isinstance(connection, (sqlite3.Connection, _aiosqlite())) else POSTGRES


class _NotLoaded:
    """Stands for aiosqlite's connection where nobody has loaded it: nobody can have one."""


def _aiosqlite() -> type[aiosqlite.Connection]:
    """Its connections. Others do not wait for it, and for the asyncio that it needs."""
    connection = getattr(sys.modules.get("aiosqlite"), "Connection", _NotLoaded)
    return cast("type[aiosqlite.Connection]", connection)


def _perform_now(connection: Connection, script: Script[T], *, several: bool = False) -> T:
    try:
        sql, values = next(script)
        if several:
            _require_transaction(connection)
        while True:
            cursor = connection.execute(sql, values)
            sql, values = script.send((cursor.rowcount, cursor.fetchall()))
    except StopIteration as end:
        result: T = end.value
        return result


async def _perform_on_aiosqlite(connection: aiosqlite.Connection, script: Script[None], *, several: bool) -> None:
    try:
        sql, values = next(script)
        if several:
            _require_transaction(connection)
        while True:
            async with connection.execute(sql, values) as cursor:
                sql, values = script.send((cursor.rowcount, list(await cursor.fetchall())))
    except StopIteration:
        return


async def _perform_on_asyncpg(session: Session, script: Script[None]) -> None:
    try:
        sql, values = next(script)
        while True:
            sql, values = script.send((-1, await _fetch(session, sql, values)))
    except StopIteration:
        return


async def _fetch(session: Session, sql: str, values: Mapping[str, Any]) -> list[Any]:
    _require_begun(session)
    found = numbered(sql)
    try:
        return await session.fetch(found.text, *found.arguments(values))
    except Exception as error:
        if getattr(error, "sqlstate", None) == _IN_FAILED_TRANSACTION:
            raise InvalidDelivery(
                "connection: its transaction has failed; roll it back, to a savepoint at least, and begin again"
            ) from error
        raise


def _require_begun(session: Session) -> None:
    # It would be committed by itself, and stay if what the caller takes for its transaction is rolled back: SQLAlchemy
    # begins one on the driver's connection no earlier than with its own first statement.
    if _is_closed(session):  # it may remember a transaction all the same
        raise InvalidDelivery(
            "connection: closed, or back in its pool; pass an open one, in the transaction that the delivery belongs to"
        )
    if not session.is_in_transaction():
        raise InvalidDelivery(
            "connection: in autocommit mode; call this within `async with connection.transaction():`, or where the"
            " connection is the driver_connection of SQLAlchemy, flush or execute a statement there before"
        )


def _require_transaction(connection: Connection | aiosqlite.Connection) -> None:
    # Each statement would be a commit of its own, and a relay could claim a delivery whose body is yet to come. Where
    # Python opens transactions by itself, the first statement will open one.
    if not isinstance(connection, (sqlite3.Connection, _aiosqlite())):
        return  # a function is one statement
    commits_by_itself = connection.isolation_level is None or getattr(connection, "autocommit", False) is True
    if commits_by_itself and not connection.in_transaction:
        raise InvalidDelivery('connection: in autocommit mode; execute "BEGIN IMMEDIATE" before add, commit after it')


def _is_closed(session: Session) -> bool:
    from asyncpg import InterfaceError  # an extra, which is there if the caller has a connection of its

    try:
        return session.is_closed()
    except InterfaceError:  # a pool takes back what it lent, if that is lost
        return True
