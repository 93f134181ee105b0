"""The producer's side: add a delivery on the caller's own connection, inside the caller's own transaction."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Awaitable
from typing import overload

import aiosqlite

from relay.errors import DuplicateDelivery, InvalidDelivery, StreamKilled
from relay.model import NewDelivery, Refusal
from relay.outbox.queries import statement
from relay.policy.destination import ANYWHERE, LIVE, read

_LONGEST_NAME = 128
_SCHEDULES = (None, "fixed", "exponential")


@overload
def add(connection: sqlite3.Connection, delivery: NewDelivery) -> None: ...
@overload
def add(connection: aiosqlite.Connection, delivery: NewDelivery) -> Awaitable[None]: ...
def add(connection: sqlite3.Connection | aiosqlite.Connection, delivery: NewDelivery) -> Awaitable[None] | None:
    """Put a delivery into the outbox; it exists when the caller's transaction commits, and not before.

    On sqlite3 the work is done at once; on aiosqlite the returned awaitable does it. Ring the bell after the commit;
    without the ring the relay notices within 250 ms. Raises DuplicateDelivery if the id is taken (an id names one
    result, forever), StreamKilled if its stream was killed, and InvalidDelivery if a field cannot be kept, the URL
    names no destination, or the connection is in autocommit mode and was told no BEGIN. Whether the URL may be called
    is the guard's question, which the relay asks again at every attempt.
    """
    if isinstance(connection, aiosqlite.Connection):
        return _add_async(connection, delivery)
    _add(connection, delivery)
    return None


def _add(connection: sqlite3.Connection, delivery: NewDelivery) -> None:
    values = _values(delivery, time.time())
    _require_transaction(connection)
    try:
        for step in _steps(delivery):
            _check(step, connection.execute(statement(step), values).rowcount, delivery)
    except sqlite3.IntegrityError as error:
        raise _meaning(error, delivery.id) from error


async def _add_async(connection: aiosqlite.Connection, delivery: NewDelivery) -> None:
    values = _values(delivery, time.time())
    _require_transaction(connection)
    try:
        for step in _steps(delivery):
            _check(step, (await connection.execute(statement(step), values)).rowcount, delivery)
    except sqlite3.IntegrityError as error:
        raise _meaning(error, delivery.id) from error


def _require_transaction(connection: sqlite3.Connection | aiosqlite.Connection) -> None:
    # Each statement would be a commit of its own, and a relay could claim a delivery whose body is yet to come. Where
    # Python opens transactions by itself, the first statement will open one.
    commits_by_itself = connection.isolation_level is None or getattr(connection, "autocommit", False) is True
    if commits_by_itself and not connection.in_transaction:
        raise InvalidDelivery('connection: in autocommit mode; execute "BEGIN IMMEDIATE" before add, commit after it')


def _steps(delivery: NewDelivery) -> tuple[str, ...]:
    stream = ("add_stream",) if delivery.stream else ()
    return (*stream, "add_destination", "add_delivery", "add_body")


def _check(step: str, changed: int, delivery: NewDelivery) -> None:
    if step == "add_stream" and changed == 0 and delivery.stream:
        raise StreamKilled(f"stream {delivery.stream.key} was killed: nothing can be added to it")


def _meaning(error: sqlite3.IntegrityError, delivery_id: str) -> Exception:
    taken = error.sqlite_errorname == "SQLITE_CONSTRAINT_UNIQUE"
    return DuplicateDelivery(f"delivery {delivery_id} is in the outbox already") if taken else error


def _values(delivery: NewDelivery, now: float) -> dict[str, object]:
    _check_fields(delivery)
    return {
        "id": delivery.id,
        "origin": _origin(delivery.url),
        "url": delivery.url,
        "method": delivery.method.value,
        "kind": delivery.kind.value,
        "content_type": delivery.content_type,
        "headers": json.dumps(dict(delivery.headers)),
        "traceparent": delivery.traceparent,
        "body": delivery.body,
        "schedule": delivery.schedule,
        "stream": delivery.stream.key if delivery.stream else None,
        "on_dead": delivery.stream.on_dead.value if delivery.stream else None,
        "now": now,
    }


def _check_fields(delivery: NewDelivery) -> None:
    for field, text in (("id", delivery.id), ("stream", delivery.stream.key if delivery.stream else None)):
        if text is not None and not 1 <= len(text) <= _LONGEST_NAME:
            raise InvalidDelivery(f"{field}: expected 1 to {_LONGEST_NAME} characters, got {len(text)}")
    if delivery.schedule not in _SCHEDULES:
        raise InvalidDelivery('schedule: expected "fixed", "exponential" or None')


def _origin(url: str) -> str:
    target = read(url, ANYWHERE, LIVE)
    if isinstance(target, Refusal):
        raise InvalidDelivery(f"url: {target.message}")
    return target.origin
