"""What a producer handed in, in the types that both databases keep: taken for what it plainly is, or refused by the
name of its field. Pure.

Whoever hands in what the types ask for pays for one look at each field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from enum import StrEnum
from math import isfinite
from types import NoneType
from typing import Any, TypeVar

from relay.outbox.checks import behind
from relay.outbox.errors import InvalidDelivery
from relay.outbox.model import Kind, Method, NewDelivery, OnDead, Stream

E = TypeVar("E", bound=StrEnum)

_TEXTS = frozenset({str})
_OPTIONAL_TEXT = frozenset({str, NoneType})
_OPTIONAL_MOMENT = frozenset({float, NoneType})
_SHOWN = 20  # letters of a word that is none of a few


def delivery_of(given: NewDelivery, now: float) -> NewDelivery:
    """The same delivery, each field of the type that it is declared with, and times in epoch seconds. Raises
    InvalidDelivery."""
    if type(given) is NewDelivery and _fits(given):
        return given
    if not isinstance(given, NewDelivery):
        raise _unexpected("delivery", "NewDelivery", given)
    return NewDelivery(
        id=name("id", given.id),
        url=text("url", given.url),
        body=_body(given.body),
        method=_member("method", Method, given.method),
        kind=_member("kind", Kind, given.kind),
        content_type=text("content_type", given.content_type),
        headers=headers_of(given.headers),
        traceparent=_text_or_none("traceparent", given.traceparent),
        schedule=_text_or_none("schedule", given.schedule),
        stream=None if given.stream is None else stream_of(given.stream),
        due_at=None if given.due_at is None else _due_at(given.due_at, now),
        idempotency_key=None if given.idempotency_key is None else name("idempotency_key", given.idempotency_key),
        tags=_tags(given.tags),
        tracked=_flag("tracked", given.tracked),
        owner=name("owner", given.owner),
        priority=_whole("priority", given.priority),
    )


def deliveries_of(given: Iterable[NewDelivery], now: float) -> list[NewDelivery]:
    """Those of a batch. Raises InvalidDelivery, which says at which place what is unfit."""
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise _unexpected("deliveries", "several NewDelivery", given)
    taken: list[NewDelivery] = []
    with behind(taken):
        for one in given:
            taken.append(delivery_of(one, now))
    return taken


def stream_of(given: Stream) -> Stream:
    """The same stream, each field of the type that it is declared with. Raises InvalidDelivery."""
    if type(given) is Stream and _stream_fits(given):
        return given
    if not isinstance(given, Stream):
        raise _unexpected("stream", "Stream", given)
    return Stream(
        key=name("stream", given.key),
        on_dead=_member("on_dead", OnDead, given.on_dead),
        live_until=None if given.live_until is None else moment("live_until", given.live_until),
        producer=_text_or_none("producer", given.producer),
    )


def headers_of(given: Mapping[str, str]) -> Mapping[str, str]:
    """Headers whose names and values are texts. Raises InvalidDelivery."""
    if not isinstance(given, Mapping):
        raise _unexpected("headers", "a mapping of str to str", given)
    return {text("headers", header): text("headers", value) for header, value in given.items()}


def keys_of(given: Iterable[str]) -> list[str]:
    """Several keys of streams. Raises InvalidDelivery, for a single one too: it would be taken for its letters."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise _unexpected("keys", "several keys", given)
    return [name("keys", key) for key in given]


def text(field: str, given: object) -> str:
    """A text, which may come as a subclass of str or as a member of an enumeration of such. Raises InvalidDelivery."""
    if not isinstance(given, str):
        raise _unexpected(field, "str", given)
    return str.__str__(given)


def name(field: str, given: object) -> str:
    """A text or a UUID, as what has a name is often called by. Raises InvalidDelivery."""
    if isinstance(given, str):
        return str.__str__(given)
    from uuid import UUID  # here alone: nobody who hands in texts need wait for it

    if not isinstance(given, UUID):
        raise _unexpected(field, "str or UUID", given)
    return str(given)


def count(field: str, given: object) -> int:
    """A number from 1 on. Raises InvalidDelivery."""
    if isinstance(given, bool) or not isinstance(given, int):
        raise _unexpected(field, "int", given)
    if not 1 <= given < 2**31:
        raise InvalidDelivery(f"{field}: expected a number from 1 on, got {given}")
    return given


def moment(field: str, given: object) -> float:
    """Epoch seconds, which may come as a datetime that knows its time zone. Raises InvalidDelivery."""
    from datetime import datetime

    if isinstance(given, datetime):
        if given.utcoffset() is None:
            raise InvalidDelivery(f"{field}: expected epoch seconds or a datetime with a time zone, got one without")
        return given.timestamp()
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise _unexpected(field, "epoch seconds", given)
    if not isfinite(given):
        raise InvalidDelivery(f"{field}: expected epoch seconds, got {given}")
    return float(given)


def _fits(given: NewDelivery) -> bool:
    headers = given.headers
    return (
        type(given.id) is str
        and type(given.url) is str
        and type(given.body) is bytes
        and type(given.method) is Method
        and type(given.kind) is Kind
        and type(given.content_type) is str
        and type(headers) is dict
        and (not headers or _TEXTS.issuperset({*map(type, headers), *map(type, headers.values())}))
        and type(given.traceparent) in _OPTIONAL_TEXT
        and type(given.schedule) in _OPTIONAL_TEXT
        and (given.stream is None or (type(given.stream) is Stream and _stream_fits(given.stream)))
        and given.due_at is None
        and type(given.idempotency_key) in _OPTIONAL_TEXT
        and not given.tags
        and type(given.tracked) is bool
        and type(given.owner) is str
        and type(given.priority) is int
    )


def _stream_fits(given: Stream) -> bool:
    return (
        type(given.key) is str
        and type(given.on_dead) is OnDead
        and type(given.live_until) in _OPTIONAL_MOMENT
        and (given.live_until is None or isfinite(given.live_until))
        and type(given.producer) in _OPTIONAL_TEXT
    )


def _due_at(given: object, now: float) -> float:
    from datetime import timedelta

    return now + given.total_seconds() if isinstance(given, timedelta) else moment("due_at", given)


def _tags(given: object) -> Set[str]:
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise _unexpected("tags", "several texts", given)
    return frozenset(text("tags", one) for one in given)


def _flag(field: str, given: object) -> bool:
    if not isinstance(given, bool):
        raise _unexpected(field, "bool", given)
    return given


def _body(given: object) -> bytes:
    if isinstance(given, str):
        try:
            return given.encode()
        except UnicodeEncodeError as error:
            raise InvalidDelivery("body: lone surrogates cannot be kept: leave them out") from error
    if not isinstance(given, bytes | bytearray | memoryview):
        raise _unexpected("body", "bytes or str", given)
    return bytes(given)


def _whole(field: str, given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int):
        raise _unexpected(field, "int", given)
    return int(given)


def _text_or_none(field: str, given: object) -> str | None:
    return None if given is None else text(field, given)


def _member(field: str, of: type[E], given: Any) -> E:
    try:
        return of(given)
    except ValueError as error:
        expected = " or ".join(f'"{member.value}"' for member in of)
        came = f'"{given[:_SHOWN]}"' if isinstance(given, str) else _named(given)
        raise InvalidDelivery(f"{field}: expected {expected}, got {came}") from error


def _unexpected(field: str, expected: str, given: object) -> InvalidDelivery:
    return InvalidDelivery(f"{field}: expected {expected}, got {_named(given)}")


def _named(given: object) -> str:
    """What came, without what it holds, which may be secret."""
    if given is None:
        return "None"
    kind = type(given)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
