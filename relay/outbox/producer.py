"""The producer's side: add a delivery on the caller's own connection, inside the caller's own transaction."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Awaitable
from ipaddress import ip_network
from typing import overload

import aiosqlite

from relay.errors import DuplicateDelivery, InvalidDelivery, StreamKilled
from relay.model import NewDelivery, Refusal
from relay.outbox.queries import statement
from relay.policy import destination

# Whether a callback may be called is the guard's question; here a URL only has to name a destination.
_ANYWHERE = destination.Rules(
    ports=frozenset(range(1, 65536)), networks=(ip_network("0.0.0.0/0"), ip_network("::/0")), max_url_bytes=65536
)
_LONGEST_ID = 128


@overload
def add(connection: sqlite3.Connection, delivery: NewDelivery) -> None: ...
@overload
def add(connection: aiosqlite.Connection, delivery: NewDelivery) -> Awaitable[None]: ...
def add(connection: sqlite3.Connection | aiosqlite.Connection, delivery: NewDelivery) -> Awaitable[None] | None:
    """Put a delivery into the outbox; it exists when the caller's transaction commits, and not before.

    On sqlite3 the work is done at once; on aiosqlite the returned awaitable does it. Ring the bell after the commit;
    without the ring the relay notices within 250 ms. Raises DuplicateDelivery if the id is taken (an id names one
    result, forever) and InvalidDelivery if it is empty or too long, or if the URL names no destination; whether that
    may be called is the guard's question, which the relay asks again at every attempt. Raises StreamKilled if its
    stream was killed.
    """
    if isinstance(connection, aiosqlite.Connection):
        return _add_async(connection, delivery)
    _add(connection, delivery)
    return None


def _add(connection: sqlite3.Connection, delivery: NewDelivery) -> None:
    values = _values(delivery, time.time())
    try:
        for step in _steps(delivery):
            _check(step, connection.execute(statement(step), values).rowcount, delivery)
    except sqlite3.IntegrityError as error:
        raise _meaning(error, delivery.id) from error


async def _add_async(connection: aiosqlite.Connection, delivery: NewDelivery) -> None:
    values = _values(delivery, time.time())
    try:
        for step in _steps(delivery):
            _check(step, (await connection.execute(statement(step), values)).rowcount, delivery)
    except sqlite3.IntegrityError as error:
        raise _meaning(error, delivery.id) from error


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
    if not 1 <= len(delivery.id) <= _LONGEST_ID:
        raise InvalidDelivery(f"id: expected 1 to {_LONGEST_ID} characters, got {len(delivery.id)}")
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


def _origin(url: str) -> str:
    target = destination.read(url, _ANYWHERE, destination.LIVE)
    if isinstance(target, Refusal):
        raise InvalidDelivery(f"url: {target.message}")
    return target.origin
