"""What a producer's call does to the database, step by step: statements on SQLite, one function on PostgreSQL.

A script asks for one statement after another and is sent what each brought; on what kind of connection it is performed,
and whether anybody has to wait for it, is for `producer` to say.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterable, Mapping
from typing import Any, TypeVar

from relay.guard.rules import ANYWHERE, Refusal
from relay.guard.url import LIVE, PRE_RECORDED, Target, read
from relay.outbox.errors import DuplicateDelivery, InvalidDelivery, RelayError, StreamEnded, StreamKilled
from relay.outbox.model import NewDelivery, Stream, StreamState
from relay.outbox.queries import statement

T = TypeVar("T")

Asked = tuple[str, Mapping[str, Any]]
"""A statement, and its values by name."""
Brought = tuple[int, list[Any]]
"""How many rows it changed, and the rows that came back."""
Script = Generator[Asked, Brought, T]

_LONGEST_NAME = 128
_HIGHEST_PRIORITY = 100
_SCHEDULES = (None, "fixed", "exponential")
_SOCKETS = LIVE - PRE_RECORDED

_REFUSALS: Mapping[str, type[RelayError]] = {
    "invalid_delivery": InvalidDelivery,
    "duplicate_delivery": DuplicateDelivery,
    "stream_killed": StreamKilled,
    "stream_ended": StreamEnded,
}


class SqliteScripts:
    """Several statements each, which only a transaction makes one."""

    def add(self, delivery: NewDelivery) -> Script[None]:
        """Stream, delivery and body, in this order."""
        values = _values(delivery, time.time())
        if delivery.stream:
            yield from self._join(delivery.stream, values)
        added, _ = yield statement("add_delivery", __package__), values
        if not added:
            if delivery.stream:
                yield statement("leave_stream", __package__), values
            raise DuplicateDelivery(f"delivery {delivery.id} is in the outbox already")
        yield statement("add_body", __package__), values

    def begin_stream(self, stream: Stream, url: str, headers: Mapping[str, str]) -> Script[None]:
        """A stream, before anything is in it."""
        _check_texts({"url": url, **_stream_texts(stream), **_header_texts(headers)})
        target = _target(url)
        _check_name("stream", stream.key)
        yield from self._join(stream, _stream_values(stream, url, target, headers, count=0))

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

    def _join(self, stream: Stream, values: Mapping[str, object]) -> Script[None]:
        joined, _ = yield statement("add_stream", __package__), values
        if not joined:
            _, found = yield statement("stream_end", __package__), values
            raise _why_not(found[0] if found else None, stream)


class PostgresScripts:
    """One call of a function each, which checks, and tells what it refused instead of spoiling the transaction."""

    def add(self, delivery: NewDelivery) -> Script[None]:
        _check_delivery_texts(delivery)
        values = {
            **_fields(delivery),
            "headers": json.dumps(dict(delivery.headers)),
            **_stream_fields(delivery.stream),
        }
        yield from self._try(statement("try_add", __package__), values)

    def begin_stream(self, stream: Stream, url: str, headers: Mapping[str, str]) -> Script[None]:
        _check_texts({"url": url, **_stream_texts(stream), **_header_texts(headers)})
        values = {"url": url, "headers": json.dumps(dict(headers)), **_stream_fields(stream)}
        yield from self._try(statement("try_begin_stream", __package__), values)

    def end_stream(self, key: str) -> Script[None]:
        if is_storable(key):
            yield statement("end_stream", __package__), {"key": key}

    def keep_streams(self, keys: Iterable[str], until: float) -> Script[None]:
        yield statement("keep_streams", __package__), {"keys": [*filter(is_storable, keys)], "until": until}

    def watch_streams(self, keys: Iterable[str]) -> Script[list[Any]]:
        """Key, state, reason, undelivered and no holder of each: an overdue one was taken into account."""
        _, rows = yield statement("stream_statuses", __package__), {"keys": [*filter(is_storable, keys)]}
        return rows

    def _try(self, sql: str, values: Mapping[str, object]) -> Script[None]:
        _, ((refusal, message),) = yield sql, values
        if refusal is not None:
            raise _REFUSALS[refusal](message)


SQLITE = SqliteScripts()
POSTGRES = PostgresScripts()
Scripts = SqliteScripts | PostgresScripts


def is_storable(text: str) -> bool:
    """Whether both databases can keep a text: no U+0000, and no half of a surrogate pair."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_delivery_texts(delivery: NewDelivery) -> None:
    texts = {"id": delivery.id, "url": delivery.url, "content_type": delivery.content_type, "owner": delivery.owner}
    optional = {"traceparent": delivery.traceparent, "schedule": delivery.schedule}
    _check_texts({**texts, **{field: text for field, text in optional.items() if text is not None}})
    _check_texts(_header_texts(delivery.headers))
    if delivery.stream:
        _check_texts(_stream_texts(delivery.stream))


def _stream_texts(stream: Stream) -> dict[str, str]:
    return {"stream": stream.key}


def _header_texts(headers: Mapping[str, str]) -> dict[str, str]:
    return {"headers": "".join([*headers.keys(), *headers.values()])}


def _check_texts(texts: Mapping[str, str]) -> None:
    for field, text in texts.items():
        if not is_storable(text):
            raise InvalidDelivery(f"{field}: U+0000 and lone surrogates cannot be kept: leave them out")


def _why_not(found: Iterable[object] | None, stream: Stream) -> RelayError:
    """Why nothing joins this stream, by its row."""
    state, same = found or (StreamState.KILLED, True)
    if not same:
        return InvalidDelivery(f"stream: {stream.key} leads to another URL: one socket, one place")
    if state == StreamState.KILLED:
        return StreamKilled(f"stream {stream.key} was killed: nothing can be added to it")
    return StreamEnded(f"stream {stream.key} has ended: nothing can be added to it")


def _values(delivery: NewDelivery, now: float) -> dict[str, object]:
    _check_delivery_texts(delivery)
    target = _target(delivery.url)
    _check_fields(delivery, target)
    headers = json.dumps(dict(delivery.headers))
    return {
        **_fields(delivery),
        "origin": target.origin,
        "path": target.endpoint,
        "headers": headers,
        "now": now,
        **_stream_of(delivery, target),
    }


def _fields(delivery: NewDelivery) -> dict[str, object]:
    return {
        "id": delivery.id,
        "url": delivery.url,
        "method": delivery.method.value,
        "kind": delivery.kind.value,
        "content_type": delivery.content_type,
        "traceparent": delivery.traceparent,
        "body": delivery.body,
        "schedule": delivery.schedule,
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
        **_stream_fields(stream),
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
    if len(delivery.owner) > _LONGEST_NAME:
        raise InvalidDelivery(f"owner: expected 0 to {_LONGEST_NAME} characters, got {len(delivery.owner)}")
    if abs(delivery.priority) > _HIGHEST_PRIORITY:
        raise InvalidDelivery(f"priority: expected -100 to 100, got {delivery.priority}")
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
