"""What is handed in is taken for what it plainly is, or refused by the name of its field: no driver ever sees it."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from http import HTTPMethod
from typing import Any
from uuid import UUID

import pytest

from relay import outbox
from relay.outbox.errors import InvalidDelivery
from relay.outbox.fields import delivery_of, stream_of
from relay.outbox.model import Kind, Method, NewDelivery, OnDead, Stream
from tests.cases import cases
from tests.relay.deliveries import new, rows
from tests.relay.outbox.producers import Producer, done, every_way

ID = UUID("01a1fc0a-5b5d-7384-8988-4a874b072f9e")
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
NOW = 1000.0
Fields = dict[str, Any]


def untyped(given: object) -> Any:
    """What no type checker would let pass."""
    return given


class Colour(StrEnum):
    """A text by another name."""

    RED = "red"


@cases(
    ("given", "kept"),
    [
        ({"id": ID}, {"id": str(ID)}),
        ({"id": Colour.RED}, {"id": "red"}),
        ({"body": "grüß Gott\0"}, {"body": "grüß Gott\0".encode()}),
        ({"body": bytearray(b"a")}, {"body": b"a"}),
        ({"body": memoryview(b"abc")[1:]}, {"body": b"bc"}),
        ({"method": "PUT"}, {"method": Method.PUT}),
        ({"method": HTTPMethod.PUT}, {"method": Method.PUT}),
        ({"kind": "error"}, {"kind": Kind.ERROR}),
        ({"schedule": Colour.RED}, {"schedule": "red"}),
        ({"headers": OrderedDict(a=Colour.RED)}, {"headers": {"a": "red"}}),
        ({"due_at": 17}, {"due_at": 17.0}),
        ({"due_at": NOON}, {"due_at": NOON.timestamp()}),
        ({"due_at": timedelta(minutes=1)}, {"due_at": NOW + 60.0}),
        ({"idempotency_key": ID}, {"idempotency_key": str(ID)}),
        ({"tags": ["a", Colour.RED, "a"]}, {"tags": frozenset({"a", "red"})}),
        ({"tags": {"a"}}, {"tags": frozenset({"a"})}),
    ],
)
def test_what_is_plain_is_taken_for_what_it_is(given: Fields, kept: Fields) -> None:
    taken = delivery_of(new(**({"id_": given["id"]} if "id" in given else given)), NOW)
    assert {field: getattr(taken, field) for field in kept} == kept
    assert {type(getattr(taken, field)) for field in kept} == {type(one) for one in kept.values()}


@cases(
    ("given", "kept"),
    [
        ({"key": ID}, {"key": str(ID)}),
        ({"on_dead": "kill"}, {"on_dead": OnDead.KILL}),
        ({"live_until": 17}, {"live_until": 17.0}),
        ({"live_until": NOON}, {"live_until": NOON.timestamp()}),
        ({"producer": Colour.RED}, {"producer": "red"}),
    ],
)
def test_so_it_is_of_a_stream(given: Fields, kept: Fields) -> None:
    taken = stream_of(Stream(**{"key": "s", **given}))
    assert {field: getattr(taken, field) for field in kept} == kept
    assert delivery_of(new(stream=Stream(**{"key": "s", **given})), NOW).stream == taken


def test_what_fits_is_handed_on_as_it_is() -> None:
    given = new(headers={"a": "b"}, stream=Stream("s", live_until=1.0))
    assert delivery_of(given, NOW) is given


REFUSED: list[tuple[str, Any, str]] = [
    ("id", 17, "id: expected str or UUID, got int"),
    ("id", None, "id: expected str or UUID, got None"),
    ("id", b"d1", "id: expected str or UUID, got bytes"),
    ("url", None, "url: expected str, got None"),
    ("url", ID, "url: expected str, got uuid.UUID"),
    ("body", None, "body: expected bytes or str, got None"),
    ("body", {"text": "secret"}, "body: expected bytes or str, got dict"),
    ("body", 3, "body: expected bytes or str, got int"),
    ("body", "\ud800", "body: lone surrogates cannot be kept: leave them out"),
    ("method", "PATCH", 'method: expected "POST" or "PUT", got "PATCH"'),
    ("method", "x" * 50, f'method: expected "POST" or "PUT", got "{"x" * 20}"'),
    ("method", None, 'method: expected "POST" or "PUT", got None'),
    ("method", [], 'method: expected "POST" or "PUT", got list'),
    ("kind", "done", 'kind: expected "final" or "partial" or "error", got "done"'),
    ("content_type", None, "content_type: expected str, got None"),
    ("content_type", b"text/plain", "content_type: expected str, got bytes"),
    ("headers", None, "headers: expected a mapping of str to str, got None"),
    ("headers", [("a", "b")], "headers: expected a mapping of str to str, got list"),
    ("headers", {"a": 1}, "headers: expected str, got int"),
    ("headers", {b"a": "b"}, "headers: expected str, got bytes"),
    ("traceparent", b"00-ab-cd-01", "traceparent: expected str, got bytes"),
    ("schedule", 30, "schedule: expected str, got int"),
    ("schedule", "weekly", 'schedule: expected "fixed", "exponential" or None'),
    ("stream", "s", "stream: expected Stream, got str"),
    ("stream", Stream(untyped(None)), "stream: expected str or UUID, got None"),
    ("stream", Stream("s", untyped("stop")), 'on_dead: expected "skip" or "kill", got "stop"'),
    ("stream", Stream("s", live_until=True), "live_until: expected epoch seconds, got bool"),
    ("stream", Stream("s", live_until=float("nan")), "live_until: expected epoch seconds, got nan"),
    ("stream", Stream("s", live_until=float("inf")), "live_until: expected epoch seconds, got inf"),
    ("stream", Stream("s", live_until=untyped(Decimal(1))), "live_until: expected epoch seconds, got decimal.Decimal"),
    (
        "stream",
        Stream("s", live_until=untyped(date(2026, 1, 1))),
        "live_until: expected epoch seconds, got datetime.date",
    ),
    (
        "stream",
        Stream("s", live_until=untyped(datetime(2026, 1, 1))),
        "live_until: expected epoch seconds or a datetime with a time zone, got one without",
    ),
    ("stream", Stream("s", producer=untyped(1)), "producer: expected str, got int"),
    ("due_at", "noon", "due_at: expected epoch seconds, got str"),
    ("due_at", float("inf"), "due_at: expected epoch seconds, got inf"),
    ("due_at", datetime(2026, 1, 1), "due_at: expected epoch seconds or a datetime with a time zone, got one without"),
    ("idempotency_key", b"k", "idempotency_key: expected str or UUID, got bytes"),
    ("tags", "one", "tags: expected several texts, got str"),
    ("tags", {"a": "b"}, "tags: expected several texts, got dict"),
    ("tags", [1], "tags: expected str, got int"),
    ("tracked", 1, "tracked: expected bool, got int"),
]


@every_way
def test_anything_else_is_refused_by_the_name_of_its_field(producer: Producer) -> None:
    async def add(connection: Any) -> None:
        for field, value, message in REFUSED:
            with pytest.raises(InvalidDelivery) as refusal:
                await done(outbox.add(connection, dataclasses.replace(new(), **{field: value})))
            assert str(refusal.value) == message
        with pytest.raises(InvalidDelivery, match=r"^delivery: expected NewDelivery, got dict$"):
            await done(outbox.add(connection, untyped({"id": "d1"})))
        await done(outbox.add(connection, new("good")))

    producer.commit(add)
    assert rows(producer.database, "SELECT id FROM outspoken_deliveries") == [("good",)]


Call = Callable[[Any], Any]
CALLS: list[tuple[Call, str]] = [
    (lambda one: outbox.begin_stream(one, untyped("s"), "https://h.example/x"), "stream: expected Stream, got str"),
    (lambda one: outbox.begin_stream(one, Stream("s"), untyped(None)), "url: expected str, got None"),
    (
        lambda one: outbox.begin_stream(one, Stream("s"), "https://h.example/x", untyped({"a": None})),
        "headers: expected str, got None",
    ),
    (lambda one: outbox.end_stream(one, untyped(17)), "key: expected str or UUID, got int"),
    (lambda one: outbox.keep_streams(one, "abc", 1e10), "keys: expected several keys, got str"),
    (lambda one: outbox.keep_streams(one, untyped([17]), 1e10), "keys: expected str or UUID, got int"),
    (lambda one: outbox.keep_streams(one, ["s"], untyped("soon")), "until: expected epoch seconds, got str"),
]


@every_way
def test_so_it_is_of_what_is_said_about_streams(producer: Producer) -> None:
    async def say(connection: Any) -> None:
        for call, message in CALLS:
            with pytest.raises(InvalidDelivery) as refusal:
                await done(call(connection))
            assert str(refusal.value) == message

    producer.commit(say)


@every_way
def test_a_stream_goes_by_a_uuid_and_lives_until_a_datetime(producer: Producer) -> None:
    key, until, later = untyped(ID), untyped(NOON), untyped(NOON.replace(hour=13))

    async def begin_and_keep(connection: Any) -> None:
        stream = Stream(key, untyped("kill"), until)
        words = untyped("text"), untyped("PUT"), untyped("partial")
        await done(outbox.add(connection, NewDelivery(key, "https://h.example/x", *words, stream=stream)))
        await done(outbox.keep_streams(connection, [key], later))

    producer.commit(begin_and_keep)
    found = "SELECT outspoken_streams.key, on_dead, producer_until, outspoken_deliveries.id, method, kind, body"
    joined = (
        "FROM outspoken_deliveries JOIN outspoken_bodies USING (seq) "
        "JOIN outspoken_streams ON outspoken_streams.id = stream_id"
    )
    assert rows(producer.database, f"{found} {joined}") == [
        (str(ID), "kill", later.timestamp(), str(ID), "PUT", "partial", b"text")
    ]
    producer.commit(lambda connection: done(outbox.end_stream(connection, key)))
    assert rows(producer.database, "SELECT state FROM outspoken_streams") == [("ended",)]


def keys(count: int) -> Iterable[str]:
    """Keys that can be gone through once."""
    return (f"s{number}" for number in range(count))


@every_way
def test_keys_may_come_as_they_are_made(producer: Producer) -> None:
    producer.begin(Stream("s1", live_until=1e10), "https://h.example/x")
    producer.keep(keys(3), 2e10)
    assert rows(producer.database, "SELECT producer_until FROM outspoken_streams") == [(2e10,)]
