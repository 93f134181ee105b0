"""The producer's side: add deliveries on the caller's own connection, inside the caller's own transaction.

A live stream (one with `live_until`) takes four calls: `add` for every message, `keep_streams` from time to time,
`end_stream` after the last one, and `watch_streams` to hear that it was killed. `begin_stream` before the first message
opens a WebSocket early, so that a callback which cannot be reached is known before anything was said.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Awaitable, Iterable, Mapping
from typing import overload

import aiosqlite

from relay.errors import DuplicateDelivery, InvalidDelivery, RelayError, StreamEnded, StreamKilled
from relay.model import KillReason, NewDelivery, Refusal, Stream, StreamState, StreamStatus, Target
from relay.outbox.queries import statement
from relay.outbox.sqlite.alive import gone
from relay.outbox.store import Connection
from relay.policy.destination import ANYWHERE, LIVE, PRE_RECORDED, read

_LONGEST_NAME = 128
_SCHEDULES = (None, "fixed", "exponential")
_SOCKETS = LIVE - PRE_RECORDED


@overload
def add(connection: Connection, delivery: NewDelivery) -> None: ...
@overload
def add(connection: aiosqlite.Connection, delivery: NewDelivery) -> Awaitable[None]: ...
def add(connection: Connection | aiosqlite.Connection, delivery: NewDelivery) -> Awaitable[None] | None:
    """Put a delivery into the outbox; it exists when the caller's transaction commits, and not before.

    On sqlite3 the work is done at once; on aiosqlite the returned awaitable does it. Ring the bell after the commit;
    without the ring the relay notices within 250 ms. Raises DuplicateDelivery if the id is taken (an id names one
    result, forever), StreamKilled or StreamEnded if nothing can join its stream any more, and InvalidDelivery if a
    field cannot be kept, the URL names no destination, or the connection is in autocommit mode and was told no BEGIN.
    Whether the URL may be called is the guard's question, which the relay asks again at every attempt.

    A delivery to ws:// or wss:// is one message of its stream's WebSocket: it needs a stream, all of whose deliveries
    go to the same URL, and its body is text. The handshake carries the headers of the first.
    """
    if isinstance(connection, aiosqlite.Connection):
        return _add_async(connection, delivery)
    _add(connection, delivery)
    return None


def begin_stream(connection: Connection, stream: Stream, url: str, headers: Mapping[str, str] | None = None) -> None:
    """Make a stream before its first delivery: to ws and wss its socket is opened as soon as this is committed.

    `headers` go with the handshake. Raises StreamKilled, StreamEnded and InvalidDelivery as `add` does.
    """
    target = _target(url)
    _check_name("stream", stream.key)
    _require_transaction(connection)
    connection.execute(statement("add_destination"), {"origin": target.origin})
    values = _stream_values(stream, url, target, headers or {}, count=0)
    if connection.execute(statement("add_stream"), values).rowcount == 0:
        raise _why_not(connection.execute(statement("stream_end"), values).fetchone(), stream)


def end_stream(connection: Connection, key: str) -> None:
    """The last message is in: what waits is delivered, then the stream is closed, its WebSocket with 1000.

    Does nothing to a stream that has come to its end already, or that there never was. Ring the bell after the commit.
    """
    connection.execute(statement("end_stream"), {"key": key, "now": time.time()})


def keep_streams(connection: Connection, keys: Iterable[str], until: float) -> None:
    """Push out, to `until` in epoch seconds, when the producer of these open live streams would be taken for dead."""
    connection.execute(statement("keep_streams"), {"keys": json.dumps(list(keys)), "until": until})


def watch_streams(connection: Connection, keys: Iterable[str]) -> dict[str, StreamStatus]:
    """How these streams stand, by key, in one read; those that never had a delivery, or are forgotten, are left out.

    Cheap enough to be asked every 250 ms for a hundred streams.
    """
    values = {"keys": json.dumps(list(keys)), "now": time.time()}
    rows = connection.execute(statement("stream_statuses"), values).fetchall()
    lost = gone(connection, {holder for *_, holder in rows if holder})
    return {key: _status(*row, lost=holder in lost) for key, *row, holder in rows}


def _status(state: str, reason: str | None, count: int, *, lost: bool) -> StreamStatus:
    """Whoever held its socket may be `lost` before anybody was there to write that down."""
    if lost:
        return StreamStatus(StreamState.KILLED, KillReason.RELAY, count)
    return StreamStatus(StreamState(state), KillReason(reason) if reason else None, count)


def _add(connection: Connection, delivery: NewDelivery) -> None:
    values = _values(delivery, time.time())
    _require_transaction(connection)
    if delivery.stream and connection.execute(statement("add_stream"), values).rowcount == 0:
        raise _why_not(connection.execute(statement("stream_end"), values).fetchone(), delivery.stream)
    connection.execute(statement("add_destination"), values)
    if connection.execute(statement("add_delivery"), values).rowcount == 0:
        raise _taken(delivery)
    connection.execute(statement("add_body"), values)


async def _add_async(connection: aiosqlite.Connection, delivery: NewDelivery) -> None:
    values = _values(delivery, time.time())
    _require_transaction(connection)
    if delivery.stream and (await connection.execute(statement("add_stream"), values)).rowcount == 0:
        found = await connection.execute(statement("stream_end"), values)
        raise _why_not(await found.fetchone(), delivery.stream)
    await connection.execute(statement("add_destination"), values)
    if (await connection.execute(statement("add_delivery"), values)).rowcount == 0:
        raise _taken(delivery)
    await connection.execute(statement("add_body"), values)


def _require_transaction(connection: Connection | aiosqlite.Connection) -> None:
    # Each statement would be a commit of its own, and a relay could claim a delivery whose body is yet to come. Where
    # Python opens transactions by itself, the first statement will open one.
    if not isinstance(connection, sqlite3.Connection | aiosqlite.Connection):
        return  # the store's own, which has begun one
    commits_by_itself = connection.isolation_level is None or getattr(connection, "autocommit", False) is True
    if commits_by_itself and not connection.in_transaction:
        raise InvalidDelivery('connection: in autocommit mode; execute "BEGIN IMMEDIATE" before add, commit after it')


def _why_not(found: Iterable[object] | None, stream: Stream) -> RelayError:
    """Why nothing joins this stream, by its row."""
    state, same = found or (StreamState.KILLED, True)
    if not same:
        return InvalidDelivery(f"stream: {stream.key} leads to another URL: one socket, one place")
    if state == StreamState.KILLED:
        return StreamKilled(f"stream {stream.key} was killed: nothing can be added to it")
    return StreamEnded(f"stream {stream.key} has ended: nothing can be added to it")


def _taken(delivery: NewDelivery) -> DuplicateDelivery:
    return DuplicateDelivery(f"delivery {delivery.id} is in the outbox already")


def _values(delivery: NewDelivery, now: float) -> dict[str, object]:
    target = _target(delivery.url)
    _check_fields(delivery, target)
    return {
        "id": delivery.id,
        "origin": target.origin,
        "url": delivery.url,
        "method": delivery.method.value,
        "kind": delivery.kind.value,
        "content_type": delivery.content_type,
        "headers": json.dumps(dict(delivery.headers)),
        "traceparent": delivery.traceparent,
        "body": delivery.body,
        "schedule": delivery.schedule,
        "now": now,
        **_stream_of(delivery, target),
    }


def _stream_of(delivery: NewDelivery, target: Target) -> dict[str, object]:
    if delivery.stream is None:
        return {"stream": None}
    traced = {"traceparent": delivery.traceparent} if delivery.traceparent else {}
    return _stream_values(delivery.stream, delivery.url, target, {**traced, **delivery.headers}, count=1)


def _stream_values(
    stream: Stream, url: str, target: Target, headers: Mapping[str, str], *, count: int
) -> dict[str, object]:
    socket = target.scheme in _SOCKETS
    return {
        "stream": stream.key,
        "on_dead": stream.on_dead.value,
        "live_until": stream.live_until,
        "producer": stream.producer,
        "transport": "ws" if socket else "http",
        "stream_url": url if socket else None,
        "handshake": json.dumps(dict(headers)) if socket else "{}",
        "count": count,
    }


def _check_fields(delivery: NewDelivery, target: Target) -> None:
    _check_name("id", delivery.id)
    if delivery.stream:
        _check_name("stream", delivery.stream.key)
    if delivery.schedule not in _SCHEDULES:
        raise InvalidDelivery('schedule: expected "fixed", "exponential" or None')
    if target.scheme in _SOCKETS:
        _check_message(delivery)


def _check_name(field: str, text: str) -> None:
    if not 1 <= len(text) <= _LONGEST_NAME:
        raise InvalidDelivery(f"{field}: expected 1 to {_LONGEST_NAME} characters, got {len(text)}")


def _check_message(delivery: NewDelivery) -> None:
    if delivery.stream is None:
        raise InvalidDelivery("stream: a delivery to a WebSocket is one message of a stream: name it")
    try:
        delivery.body.decode()
    except UnicodeDecodeError as error:
        raise InvalidDelivery("body: a WebSocket's message is text: it has to be UTF-8") from error


def _target(url: str) -> Target:
    target = read(url, ANYWHERE, LIVE)
    if isinstance(target, Refusal):
        raise InvalidDelivery(f"url: {target.message}")
    return target
