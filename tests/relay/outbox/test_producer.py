"""The producer's side: what is handed in is stored, whole or not at all, and what cannot be kept is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from relay import outbox
from relay.outbox.errors import DuplicateDelivery, InvalidDelivery, StreamKilled
from relay.outbox.model import Kind, Method, NewDelivery, OnDead, Stream
from tests.cases import cases
from tests.relay.deliveries import TRACE, new, rows, states
from tests.relay.outbox.producers import Producer, done, every_way

pytestmark = every_way


def test_a_delivery_exists_once_the_callers_transaction_commits(producer: Producer) -> None:
    async def add(connection: Any) -> None:
        await done(outbox.add(connection, new()))
        assert rows(producer.database, "SELECT id FROM outspoken_deliveries") == []

    producer.commit(add)
    assert rows(producer.database, "SELECT id, state FROM outspoken_deliveries") == [("d1", "pending")]


def test_nothing_is_left_of_a_delivery_whose_transaction_was_rolled_back(producer: Producer) -> None:
    producer.roll_back(new())
    for table in ("deliveries", "bodies", "destinations"):
        assert rows(producer.database, f"SELECT * FROM outspoken_{table}") == []


def test_everything_that_was_handed_in_is_stored(producer: Producer) -> None:
    body = bytes(range(256)) * 10
    producer.put(
        NewDelivery(
            "id",
            "http://u:p@h.example/x?y=1",
            body,
            Method.PUT,
            Kind.ERROR,
            "text/plain",
            {"dg-token": "k"},
            TRACE,
            "exponential",
            Stream("session-1", OnDead.KILL),
        ),
    )
    ((*fields, headers),) = rows(
        producer.database,
        "SELECT id, url, method, kind, content_type, traceparent, body_bytes, headers FROM outspoken_deliveries",
    )
    assert fields == ["id", "http://u:p@h.example/x?y=1", "PUT", "error", "text/plain", TRACE, 2560]
    assert json.loads(headers) == {"dg-token": "k"}
    assert rows(producer.database, "SELECT body FROM outspoken_bodies") == [(body,)]
    assert rows(producer.database, "SELECT schedule, stream_id, position, pointer FROM outspoken_deliveries") == [
        ("exponential", 1, 1, 0)
    ]
    assert rows(producer.database, "SELECT key, on_dead, state FROM outspoken_streams") == [
        ("session-1", "kill", "open")
    ]
    assert rows(producer.database, "SELECT due_at = created_at FROM outspoken_deliveries") == [(1,)]


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://h.example/a", "https://h.example:443"),
        ("https://user:pass@H.Example.:443/b?token=1", "https://h.example:443"),
        ("http://h.example:8080", "http://h.example:8080"),
        ("http://10.0.0.1:25/", "http://10.0.0.1:25"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
    ],
)
def test_a_delivery_belongs_to_scheme_host_and_effective_port(producer: Producer, url: str, origin: str) -> None:
    producer.put(new(url=url))
    assert rows(producer.database, "SELECT origin FROM outspoken_deliveries") == [(origin,)]


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("https://h.example", "/"),
        ("https://u:p@h.example?x=/no", "/"),
        ("https://h.example#/no", "/"),
        ("https://h.example:443/a/B?c#d", "/a/B"),
        ("https://h.example/a#b?c", "/a"),
        (f"https://h.example/{'x' * 300}", f"/{'x' * 254}"),
    ],
)
def test_it_belongs_to_the_endpoint_of_its_path(producer: Producer, url: str, endpoint: str) -> None:
    producer.put(new(url=url, owner="somebody", priority=7))
    found = rows(producer.database, "SELECT path, owner, priority FROM outspoken_deliveries")
    assert found == [(endpoint, "somebody", 7)]
    assert rows(producer.database, "SELECT origin FROM outspoken_destinations") == []


@cases(
    ("fields", "field"),
    [
        ({"owner": "x" * 129}, "owner"),
        ({"owner": 7}, "owner"),
        ({"priority": 101}, "priority"),
        ({"priority": "1"}, "priority"),
    ],
)
def test_an_owner_and_a_priority_have_their_bounds(producer: Producer, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidDelivery, match=f"^{field}: expected"):
        producer.put(new(**fields))


@cases(
    "url", ["", "no url", "ftp://h.example/", "https://", "http://h.example/\r\nX: y", "http://a@b@c/", "http://127.1/"]
)
def test_a_url_that_names_no_destination_is_refused(producer: Producer, url: str) -> None:
    with pytest.raises(InvalidDelivery, match=r"^url: "):
        producer.put(new(url=url))
    assert rows(producer.database, "SELECT * FROM outspoken_destinations") == []


def test_a_refusal_does_not_repeat_the_url(producer: Producer) -> None:
    with pytest.raises(InvalidDelivery) as refused:
        producer.put(new(url="ftp://user:canary@h.example/?key=canary"))
    assert "canary" not in str(refused.value)


@cases("id_", ["", "x" * 257])
def test_an_id_that_cannot_be_kept_is_refused(producer: Producer, id_: str) -> None:
    with pytest.raises(InvalidDelivery, match=r"^id: expected 1 to 256 characters"):
        producer.put(new(id_))


@cases("key", ["", "x" * 129])
def test_a_stream_key_that_cannot_be_kept_is_refused(producer: Producer, key: str) -> None:
    with pytest.raises(InvalidDelivery, match=r"^stream: expected 1 to 128 characters"):
        producer.put(new(stream=Stream(key)))


def test_a_schedule_that_nobody_knows_is_refused(producer: Producer) -> None:
    with pytest.raises(InvalidDelivery, match=r'^schedule: expected "fixed", "exponential" or None'):
        producer.put(new(schedule="sometimes"))


def test_an_id_names_one_result_forever(producer: Producer) -> None:
    producer.put(new("d1"))
    with pytest.raises(DuplicateDelivery, match="delivery d1 is in the outbox already"):
        producer.put(new("d1", body=b"another"))
    assert rows(producer.database, "SELECT count(*) FROM outspoken_bodies") == [(1,)]


KILLED = Stream("killed")
REFUSED = [
    (DuplicateDelivery, new("taken")),
    (StreamKilled, new(stream=KILLED)),
    (InvalidDelivery, new(url="no url")),
    (InvalidDelivery, new("")),
    (InvalidDelivery, new("a\0b")),
]


@pytest.mark.parametrize(("error", "delivery"), REFUSED)
def test_what_is_refused_leaves_the_callers_transaction_to_the_caller(
    producer: Producer, error: type[Exception], delivery: NewDelivery
) -> None:
    async def add(connection: Any) -> None:
        await done(outbox.add(connection, new("before")))
        with pytest.raises(error):
            await done(outbox.add(connection, delivery))
        await done(outbox.add(connection, new("after")))

    producer.put(new("taken"), new("first", stream=KILLED))
    rows(producer.database, "UPDATE outspoken_streams SET state = 'killed', reason = 'delivery_dead', finished_at = 1")
    producer.commit(add)
    assert set(states(producer.database)) == {"taken", "first", "before", "after"}


@cases("unfit", ["a\0b", "a\ud800b"])
@cases(
    ("field", "make"),
    [
        ("id", new),
        ("url", lambda text: new(url=f"https://h.example/{text}")),
        ("content_type", lambda text: new(content_type=text)),
        ("traceparent", lambda text: new(traceparent=text)),
        ("schedule", lambda text: new(schedule=text)),
        ("headers", lambda text: new(headers={"x": text})),
        ("headers", lambda text: new(headers={text: "x"})),
        ("stream", lambda text: new(stream=Stream(text))),
    ],
)
def test_text_that_no_database_keeps_is_refused_by_the_name_of_its_field(
    producer: Producer, field: str, make: Callable[[str], NewDelivery], unfit: str
) -> None:
    with pytest.raises(InvalidDelivery, match=rf"^{field}: U\+0000 and lone surrogates cannot be kept: leave them out"):
        producer.put(make(unfit))
    assert rows(producer.database, "SELECT * FROM outspoken_deliveries") == []


def test_text_in_any_language_is_kept(producer: Producer) -> None:
    name = "Müller 東京 \U0001f600 \\u0000 \\\\"
    producer.put(new(stream=Stream(name)))
    assert rows(producer.database, "SELECT key FROM outspoken_streams") == [(name,)]


def test_headers_are_kept_as_they_go_out_in_latin_1(producer: Producer) -> None:
    value = 'Müller "\\u0000" \\\\\tx'
    producer.put(new(headers={"x": value}))
    ((headers,),) = rows(producer.database, "SELECT headers FROM outspoken_deliveries")
    assert json.loads(headers) == {"x": value}


@pytest.mark.parametrize("body", [b"", b"\x00\xff\r\n", b"x" * 600_000])
def test_a_body_is_kept_byte_for_byte(producer: Producer, body: bytes) -> None:
    producer.put(new(body=body))
    assert rows(producer.database, "SELECT body FROM outspoken_bodies") == [(body,)]


# --- streams


def in_stream(*ids: str, key: str = "s", on_dead: OnDead = OnDead.SKIP) -> list[NewDelivery]:
    return [new(id_, stream=Stream(key, on_dead)) for id_ in ids]


def test_within_a_stream_positions_count_up_and_only_the_first_is_due(producer: Producer) -> None:
    producer.put(*in_stream("a1", "a2", key="a"), *in_stream("b1", key="b"))
    producer.put(*in_stream("a3", key="a"), new("alone"))
    assert rows(producer.database, "SELECT id, position, due_at IS NOT NULL FROM outspoken_deliveries ORDER BY id") == [
        ("a1", 1, 1),
        ("a2", 2, 0),
        ("a3", 3, 0),
        ("alone", None, 1),
        ("b1", 1, 1),
    ]


def test_a_stream_whose_deliveries_all_ended_goes_on_at_once(producer: Producer) -> None:
    producer.put(*in_stream("a1"))
    rows(producer.database, "UPDATE outspoken_deliveries SET state = 'delivered', attempts = 1, finished_at = 1.0")
    producer.put(*in_stream("a2"))
    assert rows(
        producer.database, "SELECT position, due_at = created_at FROM outspoken_deliveries WHERE id = 'a2'"
    ) == [(2, 1)]


def test_the_first_delivery_says_what_a_dead_one_does_to_its_stream(producer: Producer) -> None:
    producer.put(*in_stream("a1", on_dead=OnDead.KILL), *in_stream("a2", on_dead=OnDead.SKIP))
    assert rows(producer.database, "SELECT on_dead FROM outspoken_streams") == [("kill",)]


def test_what_was_rolled_back_leaves_no_gap(producer: Producer) -> None:
    producer.put(*in_stream("a1"))
    producer.roll_back(*in_stream("undone"))
    producer.put(*in_stream("a2"))
    assert rows(producer.database, "SELECT id, position FROM outspoken_deliveries ORDER BY seq") == [
        ("a1", 1),
        ("a2", 2),
    ]


def test_a_duplicate_leaves_no_gap_either(producer: Producer) -> None:
    async def add(connection: Any) -> None:
        await done(outbox.add(connection, new("a1", stream=Stream("s"))))
        with pytest.raises(DuplicateDelivery):
            await done(outbox.add(connection, new("a1", stream=Stream("s"))))
        await done(outbox.add(connection, new("a2", stream=Stream("s"))))

    producer.commit(add)
    assert rows(producer.database, "SELECT id, position FROM outspoken_deliveries ORDER BY seq") == [
        ("a1", 1),
        ("a2", 2),
    ]


def test_nothing_joins_a_killed_stream(producer: Producer) -> None:
    producer.put(*in_stream("a1"))
    rows(producer.database, "UPDATE outspoken_streams SET state = 'killed', reason = 'delivery_dead', finished_at = 1")
    with pytest.raises(StreamKilled, match="stream s was killed"):
        producer.put(*in_stream("a2"))
    producer.put(*in_stream("b1", key="b"), new("alone"))
    assert [id_ for (id_,) in rows(producer.database, "SELECT id FROM outspoken_deliveries ORDER BY seq")] == [
        "a1",
        "b1",
        "alone",
    ]
