"""The producer's side: what is handed in is stored, whole or not at all, and what cannot be kept is refused."""

from __future__ import annotations

import json

import pytest

from relay import outbox
from relay.errors import DuplicateDelivery, InvalidDelivery, StreamKilled
from relay.model import Kind, Method, NewDelivery, OnDead, Stream
from relay.outbox.store import Connection, Database
from tests.relay.deliveries import new, put, rows, states, writing


class RolledBack(Exception):
    """What a caller's transaction ended with."""


def roll_back(database: Database, *deliveries: NewDelivery) -> None:
    """Add, and then change one's mind."""

    def add(connection: Connection) -> None:
        for delivery in deliveries:
            outbox.add(connection, delivery)
        raise RolledBack

    with pytest.raises(RolledBack):
        writing(database, add)


def test_a_delivery_exists_once_the_callers_transaction_commits(database: Database) -> None:
    def add(connection: Connection) -> None:
        outbox.add(connection, new())
        assert rows(database, "SELECT id FROM deliveries") == []

    writing(database, add)
    assert rows(database, "SELECT id, state FROM deliveries") == [("d1", "pending")]


def test_nothing_is_left_of_a_delivery_whose_transaction_was_rolled_back(database: Database) -> None:
    roll_back(database, new())
    for table in ("deliveries", "bodies", "destinations"):
        assert rows(database, f"SELECT * FROM {table}") == []


def test_everything_that_was_handed_in_is_stored(database: Database) -> None:
    body = bytes(range(256)) * 10
    put(
        database,
        NewDelivery(
            "id",
            "http://u:p@h.example/x?y=1",
            body,
            Method.PUT,
            Kind.ERROR,
            "text/plain",
            {"dg-token": "k"},
            "00-ab-cd-01",
            "exponential",
            Stream("session-1", OnDead.KILL),
        ),
    )
    ((*fields, headers),) = rows(
        database, "SELECT id, url, method, kind, content_type, traceparent, body_bytes, headers FROM deliveries"
    )
    assert fields == ["id", "http://u:p@h.example/x?y=1", "PUT", "error", "text/plain", "00-ab-cd-01", 2560]
    assert json.loads(headers) == {"dg-token": "k"}
    assert rows(database, "SELECT body FROM bodies") == [(body,)]
    assert rows(database, "SELECT schedule, stream_id, position, pointer FROM deliveries") == [("exponential", 1, 1, 0)]
    assert rows(database, "SELECT key, on_dead, state FROM streams") == [("session-1", "kill", "open")]
    assert rows(database, "SELECT due_at = created_at FROM deliveries") == [(1,)]


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
def test_a_delivery_belongs_to_scheme_host_and_effective_port(database: Database, url: str, origin: str) -> None:
    put(database, new(url=url))
    assert rows(database, "SELECT origin FROM destinations") == [(origin,)]


def test_deliveries_to_one_origin_share_its_destination(database: Database) -> None:
    put(
        database, new("d1", "https://h.example/a"), new("d2", "https://h.example:443/b"), new("d3", "http://h.example/")
    )
    shared = dict(rows(database, "SELECT id, destination_id FROM deliveries"))
    assert shared["d1"] == shared["d2"] != shared["d3"]


@pytest.mark.parametrize(
    "url", ["", "no url", "ftp://h.example/", "https://", "http://h.example/\r\nX: y", "http://a@b@c/", "http://127.1/"]
)
def test_a_url_that_names_no_destination_is_refused(database: Database, url: str) -> None:
    with pytest.raises(InvalidDelivery, match=r"^url: "):
        put(database, new(url=url))
    assert rows(database, "SELECT * FROM destinations") == []


def test_a_refusal_does_not_repeat_the_url(database: Database) -> None:
    with pytest.raises(InvalidDelivery) as refused:
        put(database, new(url="ftp://user:canary@h.example/?key=canary"))
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("id_", ["", "x" * 129])
def test_an_id_that_cannot_be_kept_is_refused(database: Database, id_: str) -> None:
    with pytest.raises(InvalidDelivery, match=r"^id: expected 1 to 128 characters"):
        put(database, new(id_))


@pytest.mark.parametrize("key", ["", "x" * 129])
def test_a_stream_key_that_cannot_be_kept_is_refused(database: Database, key: str) -> None:
    with pytest.raises(InvalidDelivery, match=r"^stream: expected 1 to 128 characters"):
        put(database, new(stream=Stream(key)))


def test_a_schedule_that_nobody_knows_is_refused(database: Database) -> None:
    with pytest.raises(InvalidDelivery, match=r'^schedule: expected "fixed", "exponential" or None'):
        put(database, new(schedule="sometimes"))


def test_an_id_names_one_result_forever(database: Database) -> None:
    put(database, new("d1"))
    with pytest.raises(DuplicateDelivery, match="delivery d1 is in the outbox already"):
        put(database, new("d1", body=b"another"))
    assert rows(database, "SELECT count(*) FROM bodies") == [(1,)]


def test_a_duplicate_leaves_the_callers_transaction_to_the_caller(database: Database) -> None:
    def add(connection: Connection) -> None:
        with pytest.raises(DuplicateDelivery):
            outbox.add(connection, new("d1"))
        outbox.add(connection, new("d2"))

    put(database, new("d1"))
    writing(database, add)
    assert set(states(database)) == {"d1", "d2"}


@pytest.mark.parametrize("body", [b"", b"\x00\xff\r\n", b"x" * 600_000])
def test_a_body_is_kept_byte_for_byte(database: Database, body: bytes) -> None:
    put(database, new(body=body))
    assert rows(database, "SELECT body FROM bodies") == [(body,)]


# --- streams


def in_stream(*ids: str, key: str = "s", on_dead: OnDead = OnDead.SKIP) -> list[NewDelivery]:
    return [new(id_, stream=Stream(key, on_dead)) for id_ in ids]


def test_within_a_stream_positions_count_up_and_only_the_first_is_due(database: Database) -> None:
    put(database, *in_stream("a1", "a2", key="a"), *in_stream("b1", key="b"))
    put(database, *in_stream("a3", key="a"), new("alone"))
    assert rows(database, "SELECT id, position, due_at IS NOT NULL FROM deliveries ORDER BY id") == [
        ("a1", 1, 1),
        ("a2", 2, 0),
        ("a3", 3, 0),
        ("alone", None, 1),
        ("b1", 1, 1),
    ]


def test_a_stream_whose_deliveries_all_ended_goes_on_at_once(database: Database) -> None:
    put(database, *in_stream("a1"))
    rows(database, "UPDATE deliveries SET state = 'delivered', attempts = 1, finished_at = 1.0")
    put(database, *in_stream("a2"))
    assert rows(database, "SELECT position, due_at = created_at FROM deliveries WHERE id = 'a2'") == [(2, 1)]


def test_the_first_delivery_says_what_a_dead_one_does_to_its_stream(database: Database) -> None:
    put(database, *in_stream("a1", on_dead=OnDead.KILL), *in_stream("a2", on_dead=OnDead.SKIP))
    assert rows(database, "SELECT on_dead FROM streams") == [("kill",)]


def test_what_was_rolled_back_leaves_no_gap(database: Database) -> None:
    put(database, *in_stream("a1"))
    roll_back(database, *in_stream("undone"))
    put(database, *in_stream("a2"))
    assert rows(database, "SELECT id, position FROM deliveries ORDER BY seq") == [("a1", 1), ("a2", 2)]


def test_nothing_joins_a_killed_stream(database: Database) -> None:
    put(database, *in_stream("a1"))
    rows(database, "UPDATE streams SET state = 'killed', reason = 'delivery_dead', finished_at = 1")
    with pytest.raises(StreamKilled, match="stream s was killed"):
        put(database, *in_stream("a2"))
    put(database, *in_stream("b1", key="b"), new("alone"))
    assert [id_ for (id_,) in rows(database, "SELECT id FROM deliveries ORDER BY seq")] == ["a1", "b1", "alone"]
