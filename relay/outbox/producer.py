"""The producer's side: add a delivery on the caller's own connection, inside the caller's own transaction."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Awaitable
from ipaddress import ip_network
from typing import overload

import aiosqlite

from relay.errors import DuplicateDelivery, InvalidDelivery
from relay.model import NewDelivery, Refusal
from relay.outbox.queries import statement
from relay.policy import destination

# Whether a callback may be called is the guard's question; here a URL only has to name a destination.
_ANYWHERE = destination.Rules(
    ports=frozenset(range(1, 65536)), networks=(ip_network("0.0.0.0/0"), ip_network("::/0")), max_url_bytes=65536
)
_LONGEST_ID = 128
_STEPS = tuple(statement(name) for name in ("add_destination", "add_delivery", "add_body"))


@overload
def add(connection: sqlite3.Connection, delivery: NewDelivery) -> None: ...
@overload
def add(connection: aiosqlite.Connection, delivery: NewDelivery) -> Awaitable[None]: ...
def add(connection: sqlite3.Connection | aiosqlite.Connection, delivery: NewDelivery) -> Awaitable[None] | None:
    """Put a delivery into the outbox; it exists when the caller's transaction commits, and not before.

    On sqlite3 the work is done at once; on aiosqlite the returned awaitable does it. Ring the bell after the commit;
    without the ring the relay notices within 250 ms. Raises DuplicateDelivery if the id is taken (an id names one
    result, forever) and InvalidDelivery if it is empty or too long, or if the URL names no destination; whether that
    may be called is the guard's question, which the relay asks again at every attempt.
    """
    values = _values(delivery, time.time())
    if isinstance(connection, aiosqlite.Connection):
        return _add_async(connection, delivery.id, values)
    _add(connection, delivery.id, values)
    return None


def _add(connection: sqlite3.Connection, delivery_id: str, values: dict[str, object]) -> None:
    try:
        for sql in _STEPS:
            connection.execute(sql, values)
    except sqlite3.IntegrityError as error:
        raise _meaning(error, delivery_id) from error


async def _add_async(connection: aiosqlite.Connection, delivery_id: str, values: dict[str, object]) -> None:
    try:
        for sql in _STEPS:
            await connection.execute(sql, values)
    except sqlite3.IntegrityError as error:
        raise _meaning(error, delivery_id) from error


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
        "now": now,
    }


def _origin(url: str) -> str:
    target = destination.read(url, _ANYWHERE, destination.LIVE)
    if isinstance(target, Refusal):
        raise InvalidDelivery(f"url: {target.message}")
    return target.origin
