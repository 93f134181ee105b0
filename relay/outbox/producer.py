"""The producer's side: add deliveries on the caller's own connection, inside the caller's own transaction.

The connection is whatever the caller holds: sqlite3's, psycopg's, psycopg2's, SQLAlchemy's Session or Connection, or
Django's, on which the work is done at once; or aiosqlite's, asyncpg's, psycopg's AsyncConnection, SQLAlchemy's
AsyncSession or AsyncConnection, where the coroutine that is returned does it. Every call needs a transaction, which is
open or begins with the call's first statement. On PostgreSQL a call is one round trip, to a function that other
languages call as well.

A live stream (one with `live_until`) takes four calls: `add` for every message, `keep_streams` from time to time,
`end_stream` after the last one, and `watch_streams` to hear that it was killed. `begin_stream` before the first message
opens a WebSocket early, so that a callback which cannot be reached is known before anything was said.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar, cast, overload

from relay.outbox.connections.adapter import Begin, SyncAdapter
from relay.outbox.connections.known import AsyncConnection, SyncConnection, adapter_of
from relay.outbox.fields import count, deliveries_of, delivery_of, headers_of, keys_of, moment, name, stream_of, text
from relay.outbox.model import DeliveryStatus, KillReason, NewDelivery, Stream, StreamState, StreamStatus
from relay.outbox.postgres.placeholders import SCHEMA, check_schema
from relay.outbox.sqlite.liveness import gone
from relay.outbox.store import Connection

T = TypeVar("T")

Done: TypeAlias = Coroutine[Any, Any, T] | T
"""Done at once, or once it is awaited."""


class Outbox:
    """One outbox of a database: on PostgreSQL the one in the schema of that name, on SQLite the only one of its file.
    The functions of this module are those of an outbox by the usual name. Raises ConfigError for what no schema is
    called.
    """

    def __init__(self, schema: str = SCHEMA) -> None:
        check_schema(schema)
        self._schema = schema

    @overload
    def add(self, connection: SyncConnection, delivery: NewDelivery) -> str: ...
    @overload
    def add(self, connection: AsyncConnection, delivery: NewDelivery) -> Coroutine[Any, Any, str]: ...
    def add(self, connection: SyncConnection | AsyncConnection, delivery: NewDelivery) -> Done[str]:
        """Put a delivery into the outbox; it exists when the caller's transaction commits, and not before. Returns the
        id that it is kept under: its own, or under an `idempotency_key` that was used before that of the first, and
        then nothing is added.

        On SQLite, notify after the commit; without it the relay notices within 250 ms. SQLAlchemy's sessions and
        Django's connections do so by themselves.

        Raises DuplicateDelivery if the id is taken, which it is as long as its delivery is kept (`[relay.retention]`:
        seven days after it was delivered); StreamKilled or StreamEnded if nothing can join its stream any more;
        InvalidDelivery if a field cannot be kept or sent, the URL names no destination, or the connection is in
        autocommit mode without a transaction, closed, in a transaction that has failed, or to a database without an
        outbox. None of them adds anything, and all but the last leave the caller's transaction as good as it was.
        Raises TypeError for a connection of another kind. Whether the URL may be called is the guard's question, which
        the relay asks again at every attempt.

        A field of another type is taken for what it plainly is, such as "PUT", a UUID as an id, or a text as a body,
        and is an InvalidDelivery otherwise.

        A delivery to ws:// or wss:// is one message of its stream's WebSocket: it needs a stream, all of whose
        deliveries go to the same URL, and its body is text. The handshake carries the headers of the first.
        """
        return self._perform(connection, lambda scripts: scripts.add(delivery_of(delivery, time.time())))

    @overload
    def add_many(self, connection: SyncConnection, deliveries: Iterable[NewDelivery]) -> list[str]: ...
    @overload
    def add_many(
        self, connection: AsyncConnection, deliveries: Iterable[NewDelivery]
    ) -> Coroutine[Any, Any, list[str]]: ...
    def add_many(
        self, connection: SyncConnection | AsyncConnection, deliveries: Iterable[NewDelivery]
    ) -> Done[list[str]]:
        """Put a batch into the outbox, all of it or nothing, in a few statements however many they are. Returns the ids
        that they are kept under, in the same order.

        Raises what `add` does: an InvalidDelivery or a DuplicateDelivery says at which place of the batch what is
        wrong, as `deliveries[3].url: ...`. Deliveries of a stream are added one by one.
        """
        return self._perform(connection, lambda scripts: scripts.add_many(deliveries_of(deliveries, time.time())))

    @overload
    def begin_stream(
        self, connection: SyncConnection, stream: Stream, url: str, headers: Mapping[str, str] | None = None
    ) -> None: ...
    @overload
    def begin_stream(
        self, connection: AsyncConnection, stream: Stream, url: str, headers: Mapping[str, str] | None = None
    ) -> Coroutine[Any, Any, None]: ...
    def begin_stream(
        self,
        connection: SyncConnection | AsyncConnection,
        stream: Stream,
        url: str,
        headers: Mapping[str, str] | None = None,
    ) -> Done[None]:
        """Make a stream before its first delivery: to ws and wss its socket is opened as soon as this is committed.

        `headers` go with the handshake. Raises what `add` does, but for DuplicateDelivery.
        """
        given = {} if headers is None else headers
        return self._perform(
            connection, lambda scripts: scripts.begin_stream(stream_of(stream), text("url", url), headers_of(given))
        )

    @overload
    def end_stream(self, connection: SyncConnection, key: str) -> None: ...
    @overload
    def end_stream(self, connection: AsyncConnection, key: str) -> Coroutine[Any, Any, None]: ...
    def end_stream(self, connection: SyncConnection | AsyncConnection, key: str) -> Done[None]:
        """The last message is in: what waits is delivered, then the stream is closed, its WebSocket with 1000.

        Does nothing to a stream that has come to its end already, or that there never was. Notify after the commit.
        Raises InvalidDelivery, and TypeError, for a connection that `add` would not take either.
        """
        return self._perform(connection, lambda scripts: scripts.end_stream(name("key", key)))

    @overload
    def keep_streams(self, connection: SyncConnection, keys: Iterable[str], until: float) -> None: ...
    @overload
    def keep_streams(
        self, connection: AsyncConnection, keys: Iterable[str], until: float
    ) -> Coroutine[Any, Any, None]: ...
    def keep_streams(
        self, connection: SyncConnection | AsyncConnection, keys: Iterable[str], until: float
    ) -> Done[None]:
        """Push out, to `until` in epoch seconds, when the producer of these open live streams would be taken for dead.

        Raises InvalidDelivery for keys or a time that are none, and for a connection what `add` does.
        """
        return self._perform(connection, lambda scripts: scripts.keep_streams(keys_of(keys), moment("until", until)))

    @overload
    def cancel(self, connection: SyncConnection, delivery_id: str) -> bool: ...
    @overload
    def cancel(self, connection: AsyncConnection, delivery_id: str) -> Coroutine[Any, Any, bool]: ...
    def cancel(self, connection: SyncConnection | AsyncConnection, delivery_id: str) -> Done[bool]:
        """Give a delivery up that is pending, in the caller's transaction; whether it was. In a stream the next one may
        go.

        One that is being attempted at this moment is left to that attempt. Raises what `add` does for a connection.
        """
        return self._perform(connection, lambda scripts: scripts.cancel(name("id", delivery_id)))

    @overload
    def status(self, connection: SyncConnection, delivery_id: str) -> DeliveryStatus | None: ...
    @overload
    def status(self, connection: AsyncConnection, delivery_id: str) -> Coroutine[Any, Any, DeliveryStatus | None]: ...
    def status(self, connection: SyncConnection | AsyncConnection, delivery_id: str) -> Done[DeliveryStatus | None]:
        """Where a delivery stands, None when it is unknown or no longer kept. Autocommit does not matter."""
        return self._perform(connection, lambda scripts: scripts.status(name("id", delivery_id)), only_reads=True)

    @overload
    def take_ended(self, connection: SyncConnection, most: int = 100) -> list[DeliveryStatus]: ...
    @overload
    def take_ended(self, connection: AsyncConnection, most: int = 100) -> Coroutine[Any, Any, list[DeliveryStatus]]: ...
    def take_ended(self, connection: SyncConnection | AsyncConnection, most: int = 100) -> Done[list[DeliveryStatus]]:
        """Some of the tracked deliveries that have ended since they were asked for last, in the order of their ends.

        Each is told once to whoever commits: what is done with it in the same transaction is done exactly once, and
        what is rolled back is told again. On PostgreSQL several may take at the same time; each gets others. What
        nobody takes is forgotten with its delivery. Raises what `add` does for a connection.
        """
        return self._perform(connection, lambda scripts: scripts.take_ended(count("most", most)))

    def watch_streams(self, connection: Connection, keys: Iterable[str]) -> dict[str, StreamStatus]:
        """How these streams stand, by key, in one read; those that never had a delivery, or are forgotten, are left
        out.

        Cheap enough to be asked every 250 ms for a hundred streams.
        """
        found = adapter_of(connection)
        assert isinstance(found, SyncAdapter), "an async connection cannot be read at once"
        watch = self._begin(lambda scripts: scripts.watch_streams(keys_of(keys)))
        rows: list[Any] = found.perform(watch, only_reads=True)
        lost = gone(connection, {holder for *_, holder in rows if holder})
        return {key: _status(*row, lost=holder in lost) for key, *row, holder in rows}

    def _perform(
        self, connection: SyncConnection | AsyncConnection, begin: Begin[T], *, only_reads: bool = False
    ) -> Done[T]:
        return cast("Done[T]", adapter_of(connection).perform(self._begin(begin), only_reads=only_reads))

    def _begin(self, begin: Begin[T]) -> Begin[T]:
        """The usual outbox is the one that a connection of ours knows of, which may be in another schema."""
        return begin if self._schema == SCHEMA else lambda scripts: begin(scripts.in_schema(self._schema))


def _status(state: str, reason: str | None, count: int, *, lost: bool) -> StreamStatus:
    """Whoever held its socket may be `lost` before anybody was there to write that down."""
    if lost:
        return StreamStatus(StreamState.KILLED, KillReason.RELAY, count)
    return StreamStatus(StreamState(state), KillReason(reason) if reason else None, count)


_USUAL = Outbox()
add = _USUAL.add
add_many = _USUAL.add_many
begin_stream = _USUAL.begin_stream
end_stream = _USUAL.end_stream
keep_streams = _USUAL.keep_streams
cancel = _USUAL.cancel
status = _USUAL.status
take_ended = _USUAL.take_ended
watch_streams = _USUAL.watch_streams
