"""What a producer's call does to the database, step by step: statements on SQLite, one function on PostgreSQL.

A script asks for one statement after another and is sent what each brought; on what kind of connection it is performed,
and whether anybody has to wait for it, is for `producer` to say.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from relay.guard.url import endpoint_of
from relay.outbox.checks import (
    CallbackTarget,
    behind,
    check,
    check_headers,
    check_many,
    check_socket,
    check_stream,
    is_storable,
    target_of,
)
from relay.outbox.errors import DuplicateDelivery, InvalidDelivery, RelayError, StreamEnded, StreamKilled
from relay.outbox.model import DeliveryState, DeliveryStatus, NewDelivery, Stream, StreamState
from relay.outbox.postgres.placeholders import statement_in
from relay.outbox.queries import Statement, statement

T = TypeVar("T")

Asked = tuple[str, Mapping[str, Any]]
"""A statement, and its values by name."""
Brought = tuple[int, list[Any]]
"""How many rows it changed, and the rows that came back."""
Script = Generator[Asked, Brought, T]

_REFUSALS: Mapping[str, type[RelayError]] = {
    "invalid_delivery": InvalidDelivery,
    "duplicate_delivery": DuplicateDelivery,
    "stream_killed": StreamKilled,
    "stream_ended": StreamEnded,
}


_OTHER_CONTENT = (
    "idempotency_key: it stands for a delivery with another url, method, content_type or body: take a key of its own"
)


# What PostgreSQL's functions take a field for that is not said; the rest is NULL.
_USUAL: Mapping[str, object] = {
    "method": "POST",
    "kind": "final",
    "content_type": "application/json",
    "headers": "{}",
    "tracked": False,
    "owner": "",
    "priority": 0,
}


class _AlikeScripts:
    """What is the same in both databases, but for its statements."""

    def placed(self, sql: Statement) -> Statement:
        """A statement, whose names are those of one outbox."""
        return sql

    def status(self, delivery_id: str) -> Script[DeliveryStatus | None]:
        """Where one delivery stands."""
        if not is_storable(delivery_id):
            return None
        _, rows = yield self._statement("delivery_status"), {"id": delivery_id}
        return status_of(rows[0]) if rows else None

    def _statement(self, name: str) -> Statement:
        return self.placed(statement(name, __package__))


class SqliteScripts(_AlikeScripts):
    """Several statements each, which only a transaction makes one."""

    def in_schema(self, schema: str) -> SqliteScripts:
        """A file has one outbox."""
        del schema
        return self

    def add(self, delivery: NewDelivery) -> Script[str]:
        """Stream, delivery and body, in this order."""
        target = check(delivery)
        values = _fields(delivery)
        values |= {**_place(delivery.url, target), "now": time.time(), "stream": None}
        if delivery.stream:
            values |= _stream_of(delivery, delivery.stream, target)
            refusal = yield from self._join(delivery.stream, values)
            if refusal is not None:
                return (yield from self._first(values, refusal))
        plain, streamed = statement("add_delivery", __package__), statement("add_to_stream", __package__)
        added, _ = yield (streamed if delivery.stream else plain), values
        if not added:
            if delivery.stream:
                yield statement("leave_stream", __package__), values
            return (yield from self._first(values, _duplicate(delivery.id)))
        yield statement("add_body", __package__), values
        if delivery.tags:
            yield statement("add_tags", __package__), {"id": delivery.id, "tags": json.dumps([*delivery.tags])}
        return delivery.id

    def add_many(self, deliveries: Sequence[NewDelivery]) -> Script[list[str]]:
        """Deliveries, bodies and tags, a statement each. Nothing is written until it is known that all can be."""
        targets = check_many(deliveries)
        if not deliveries:
            return []
        ids, fresh = yield from self._sift(deliveries)
        batch, bodies = _batch(_fields(deliveries[at]) | _place(deliveries[at].url, targets[at]) for at in fresh)
        values = {"batch": json.dumps(batch), "bodies": bodies, "now": time.time()}
        yield statement("add_deliveries", __package__), values
        yield statement("add_bodies", __package__), values
        if tags := [(deliveries[index].id, tag) for index in fresh for tag in deliveries[index].tags]:
            yield statement("tag_deliveries", __package__), {"tags": json.dumps(tags)}
        return ids

    def _sift(self, deliveries: Sequence[NewDelivery]) -> Script[tuple[list[str], list[int]]]:
        """The ids that a batch is kept under, and the indexes of those that are to be added."""
        keys = [one.idempotency_key for one in deliveries if one.idempotency_key is not None]
        asked = {"ids": json.dumps([one.id for one in deliveries]), "keys": json.dumps(keys)}
        _, rows = yield statement("taken", __package__), asked
        taken, known = {id_ for id_, _ in rows}, {key for _, key in rows if key is not None}
        firsts: dict[str, NewDelivery] = {}
        ids: list[str] = []
        fresh: list[int] = []
        with behind(ids):
            for index, one in enumerate(deliveries):
                key = one.idempotency_key
                if key is not None and key in known:
                    ids.append((yield from self._first(_fields(one), _duplicate(one.id))))
                elif key is not None and key in firsts:
                    ids.append(_same(firsts[key], one))
                elif one.id in taken:
                    raise _duplicate(one.id)
                else:
                    ids.append(one.id)
                    fresh.append(index)
                    taken.add(one.id)
                    firsts |= {} if key is None else {key: one}
        return ids, fresh

    def _first(self, values: Mapping[str, Any], refusal: RelayError) -> Script[str]:
        """The id of what was added before under this key, or else the refusal."""
        if values["idempotency_key"] is None:
            raise refusal
        _, found = yield statement("added_before", __package__), values
        if not found:
            raise refusal
        ((id_, differs),) = found
        if differs:
            raise InvalidDelivery(_OTHER_CONTENT)
        return str(id_)

    def begin_stream(self, stream: Stream, url: str, headers: Mapping[str, str]) -> Script[None]:
        """A stream, before anything is in it."""
        target = _check_stream(stream, url, headers)
        refusal = yield from self._join(stream, _stream_values(stream, url, target, headers, count=0))
        if refusal is not None:
            raise refusal

    def cancel(self, delivery_id: str) -> Script[bool]:
        """Whether it was pending, and is given up."""
        if not is_storable(delivery_id):
            return False
        values = {"id": delivery_id, "now": time.time()}
        cancelled, _ = yield statement("cancel", __package__), values
        if cancelled:
            yield statement("go_on", __package__), values
        return bool(cancelled)

    def take_ended(self, most: int) -> Script[list[DeliveryStatus]]:
        """Those whose end nobody has taken note of."""
        _, taken = yield statement("take_ended", __package__), {"most": most}
        if not taken:
            return []
        _, rows = yield statement("ended_statuses", __package__), {"seqs": json.dumps([seq for (seq,) in taken])}
        return [status_of(row) for row in rows]

    def end_stream(self, key: str) -> Script[None]:
        """Have it closed once its last message is delivered."""
        if is_storable(key):
            yield statement("end_stream", __package__), {"key": key, "now": time.time()}

    def keep_streams(self, keys: Iterable[str], until: float) -> Script[None]:
        """Push out when their producer would be taken for dead."""
        yield statement("keep_streams", __package__), {"keys": json.dumps([*filter(is_storable, keys)]), "until": until}

    def watch_streams(self, keys: Iterable[str]) -> Script[list[Any]]:
        """Key, state, reason, undelivered and holder of each."""
        values = {"keys": json.dumps([*filter(is_storable, keys)]), "now": time.time()}
        _, rows = yield statement("stream_statuses", __package__), values
        return rows

    def _join(self, stream: Stream, values: Mapping[str, object]) -> Script[RelayError | None]:
        joined, _ = yield statement("add_stream", __package__), values
        if joined:
            return None
        _, found = yield statement("stream_end", __package__), values
        return _why_not(found[0] if found else None, stream)


class PostgresScripts(_AlikeScripts):
    """One call of a function each, which checks, and tells what it refused instead of spoiling the transaction.
    `schema`: that of the outbox, or None for the one that the connection knows of."""

    def __init__(self, schema: str | None = None) -> None:
        self._schema = schema

    def in_schema(self, schema: str) -> PostgresScripts:
        """The same in another outbox of the database."""
        return _in_schema(schema)

    def placed(self, sql: Statement) -> Statement:
        return statement_in(sql, self._schema) if self._schema else sql

    def add(self, delivery: NewDelivery) -> Script[str]:
        check(delivery)
        values = _fields(delivery)
        values |= {**_stream_fields(delivery.stream), "tags": [*delivery.tags] or None}
        ((id_, refusal, message),) = (yield self._statement("try_add"), values)[1]
        _raise(refusal, message)
        return str(id_)

    def add_many(self, deliveries: Sequence[NewDelivery]) -> Script[list[str]]:
        check_many(deliveries)
        if not deliveries:
            return []
        batch, bodies = _batch(_unusual_fields(one) for one in deliveries)
        values = {"batch": json.dumps(batch), "bodies": bodies}
        ((ids, refusal, message, place),) = (yield self._statement("try_add_many"), values)[1]
        with behind(deliveries[: place or 0]):
            _raise(refusal, message)
        return list(ids)

    def begin_stream(self, stream: Stream, url: str, headers: Mapping[str, str]) -> Script[None]:
        _check_stream(stream, url, headers)
        values = {"url": url, "headers": json.dumps(dict(headers)), **_stream_fields(stream)}
        ((refusal, message),) = (yield self._statement("try_begin_stream"), values)[1]
        _raise(refusal, message)

    def cancel(self, delivery_id: str) -> Script[bool]:
        """Whether it was pending, and is given up."""
        if not is_storable(delivery_id):
            return False
        _, ((cancelled,),) = yield self._statement("cancel"), {"id": delivery_id}
        return bool(cancelled)

    def take_ended(self, most: int) -> Script[list[DeliveryStatus]]:
        """Those whose end nobody has taken note of."""
        _, rows = yield self._statement("take_ended"), {"most": most}
        return [status_of(row) for row in rows]

    def end_stream(self, key: str) -> Script[None]:
        if is_storable(key):
            yield self._statement("end_stream"), {"key": key}

    def keep_streams(self, keys: Iterable[str], until: float) -> Script[None]:
        yield self._statement("keep_streams"), {"keys": [*filter(is_storable, keys)], "until": until}

    def watch_streams(self, keys: Iterable[str]) -> Script[list[Any]]:
        """Key, state, reason, undelivered and no holder of each: an overdue one was taken into account."""
        _, rows = yield self._statement("stream_statuses"), {"keys": [*filter(is_storable, keys)]}
        return rows


SQLITE = SqliteScripts()
POSTGRES = PostgresScripts()
Scripts = SqliteScripts | PostgresScripts

_in_schema = lru_cache(maxsize=64)(PostgresScripts)


def status_of(row: Iterable[Any]) -> DeliveryStatus:
    """A row of `delivery_status`."""
    id_, state, *rest = row
    return DeliveryStatus(id_, DeliveryState(state), *rest)


def _batch(deliveries: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], bytes]:
    """Their rows, and their bodies in one: SQLite's JSON has no bytes. `start` counts from 1."""
    rows, start, bodies = [], 1, []
    for row in deliveries:
        body = row.pop("body")
        rows.append(row | {"start": start, "bytes": len(body)})
        bodies.append(body)
        start += len(body)
    return rows, b"".join(bodies)


def _place(url: str, target: CallbackTarget) -> dict[str, str]:
    return {"origin": target.origin, "path": endpoint_of(url)}


def _unusual_fields(delivery: NewDelivery) -> dict[str, Any]:
    """Without what the functions take for said where nothing is: to parse it is a tenth of what a batch takes there."""
    fields = _fields(delivery) | {"tags": json.dumps([*delivery.tags]) if delivery.tags else None}
    return {name: value for name, value in fields.items() if value != _USUAL.get(name)}


def _same(first: NewDelivery, again: NewDelivery) -> str:
    """The first one's id, where both under one key are one delivery."""
    alike = ("url", "method", "content_type", "body")
    if any(getattr(first, field) != getattr(again, field) for field in alike):
        raise InvalidDelivery(_OTHER_CONTENT)
    return first.id


def _raise(refusal: str | None, message: str) -> None:
    if refusal is not None:
        raise _REFUSALS[refusal](message)


def _duplicate(delivery_id: str) -> DuplicateDelivery:
    return DuplicateDelivery(f"delivery {delivery_id} is in the outbox already")


def _check_stream(stream: Stream, url: str, headers: Mapping[str, str]) -> CallbackTarget:
    target = target_of(url)
    check_stream(stream)
    check_headers(headers, url, traced=False)
    if target.is_socket:
        check_socket(stream)
    return target


def _why_not(found: Iterable[object] | None, stream: Stream) -> RelayError:
    """Why nothing joins this stream, by its row."""
    state, same = found or (StreamState.KILLED, True)
    if not same:
        return InvalidDelivery(f"stream: {stream.key} leads to another URL: one socket, one place")
    if state == StreamState.KILLED:
        return StreamKilled(f"stream {stream.key} was killed: nothing can be added to it")
    return StreamEnded(f"stream {stream.key} has ended: nothing can be added to it")


def _fields(delivery: NewDelivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "url": delivery.url,
        "method": delivery.method.value,
        "kind": delivery.kind.value,
        "content_type": delivery.content_type,
        "headers": json.dumps(dict(delivery.headers)) if delivery.headers else "{}",
        "traceparent": delivery.traceparent,
        "body": delivery.body,
        "schedule": delivery.schedule,
        "due_at": delivery.due_at,
        "idempotency_key": delivery.idempotency_key,
        "tracked": delivery.tracked,
        "owner": delivery.owner,
        "priority": delivery.priority,
    }


def _stream_fields(stream: Stream | None) -> dict[str, object]:
    if stream is None:
        return dict.fromkeys(("stream", "on_dead", "live_until", "producer"))
    return {
        "stream": stream.key,
        "on_dead": stream.on_dead.value,
        "live_until": stream.live_until,
        "producer": stream.producer,
    }


def _stream_of(delivery: NewDelivery, stream: Stream, target: CallbackTarget) -> dict[str, object]:
    traced = {"traceparent": delivery.traceparent} if delivery.traceparent else {}
    return _stream_values(stream, delivery.url, target, {**traced, **delivery.headers}, count=1)


def _stream_values(
    stream: Stream, url: str, target: CallbackTarget, headers: Mapping[str, str], *, count: int
) -> dict[str, object]:
    socket = target.is_socket
    return {
        **_stream_fields(stream),
        "transport": "ws" if socket else "http",
        "stream_url": url if socket else None,
        "handshake": json.dumps(dict(headers)) if socket else "{}",
        "count": count,
    }
