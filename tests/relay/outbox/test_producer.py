from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from relay import outbox
from relay.errors import DuplicateDelivery, InvalidDelivery
from relay.model import Kind, Method, NewDelivery
from tests.relay.deliveries import new, put, rows


def test_a_delivery_exists_once_the_callers_transaction_commits(database: Path) -> None:
    with closing(outbox.connect(database)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        outbox.add(connection, new())
        assert rows(database, "SELECT id FROM deliveries") == []
        connection.execute("COMMIT")
    assert rows(database, "SELECT id, state FROM deliveries") == [("d1", "pending")]


def test_nothing_is_left_of_a_delivery_whose_transaction_was_rolled_back(database: Path) -> None:
    with closing(outbox.connect(database)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        outbox.add(connection, new())
        connection.execute("ROLLBACK")
    for table in ("deliveries", "bodies", "destinations"):
        assert rows(database, f"SELECT * FROM {table}") == []


async def test_on_aiosqlite_too_the_delivery_shares_the_callers_transaction(database: Path) -> None:
    connection = await outbox.connect_async(database)
    try:
        await connection.execute("BEGIN IMMEDIATE")
        await outbox.add(connection, new("undone"))
        await connection.execute("ROLLBACK")
        await connection.execute("BEGIN IMMEDIATE")
        await outbox.add(connection, new("kept"))
        assert rows(database, "SELECT id FROM deliveries") == []
        await connection.execute("COMMIT")
    finally:
        await connection.close()
    assert rows(database, "SELECT id FROM deliveries") == [("kept",)]


def test_a_connection_with_pythons_own_transactions_will_do_as_well(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        outbox.add(connection, new("undone"))
        connection.rollback()
        outbox.add(connection, new("kept"))
        connection.commit()
    assert rows(database, "SELECT id FROM deliveries") == [("kept",)]


def test_everything_that_was_handed_in_is_stored(database: Path) -> None:
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
        ),
    )
    ((*fields, headers),) = rows(
        database, "SELECT id, url, method, kind, content_type, traceparent, body_bytes, headers FROM deliveries"
    )
    assert fields == ["id", "http://u:p@h.example/x?y=1", "PUT", "error", "text/plain", "00-ab-cd-01", 2560]
    assert json.loads(headers) == {"dg-token": "k"}
    assert rows(database, "SELECT body FROM bodies") == [(body,)]
    assert rows(database, "SELECT due_at = created_at FROM deliveries") == [(1,)]


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://h.example/a", "https://h.example:443"),
        ("https://user:pass@H.Example.:443/b?token=1", "https://h.example:443"),
        ("http://h.example:8080", "http://h.example:8080"),
        ("ws://h.example/", "ws://h.example:80"),
        ("wss://h.example/", "wss://h.example:443"),
        ("http://10.0.0.1:25/", "http://10.0.0.1:25"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
    ],
)
def test_a_delivery_belongs_to_scheme_host_and_effective_port(database: Path, url: str, origin: str) -> None:
    put(database, new(url=url))
    assert rows(database, "SELECT origin FROM destinations") == [(origin,)]


def test_deliveries_to_one_origin_share_its_destination(database: Path) -> None:
    put(
        database, new("d1", "https://h.example/a"), new("d2", "https://h.example:443/b"), new("d3", "http://h.example/")
    )
    shared = dict(rows(database, "SELECT id, destination_id FROM deliveries"))
    assert shared["d1"] == shared["d2"] != shared["d3"]


@pytest.mark.parametrize(
    "url", ["", "no url", "ftp://h.example/", "https://", "http://h.example/\r\nX: y", "http://a@b@c/", "http://127.1/"]
)
def test_a_url_that_names_no_destination_is_refused(database: Path, url: str) -> None:
    with pytest.raises(InvalidDelivery, match=r"^url: "):
        put(database, new(url=url))
    assert rows(database, "SELECT * FROM destinations") == []


def test_a_refusal_does_not_repeat_the_url(database: Path) -> None:
    with pytest.raises(InvalidDelivery) as refused:
        put(database, new(url="ftp://user:canary@h.example/?key=canary"))
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("id_", ["", "x" * 129])
def test_an_id_that_cannot_be_kept_is_refused(database: Path, id_: str) -> None:
    with pytest.raises(InvalidDelivery, match=r"^id: expected 1 to 128 characters"):
        put(database, new(id_))


def test_an_id_names_one_result_forever(database: Path) -> None:
    put(database, new("d1"))
    with pytest.raises(DuplicateDelivery, match="delivery d1 is in the outbox already"):
        put(database, new("d1", body=b"another"))
    assert rows(database, "SELECT count(*) FROM bodies") == [(1,)]


async def test_a_duplicate_leaves_the_callers_transaction_to_the_caller(database: Path) -> None:
    put(database, new("d1"))
    connection = await outbox.connect_async(database)
    try:
        await connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(DuplicateDelivery):
            await outbox.add(connection, new("d1"))
        await outbox.add(connection, new("d2"))
        await connection.execute("COMMIT")
    finally:
        await connection.close()
    assert rows(database, "SELECT id FROM deliveries") == [("d1",), ("d2",)]


@pytest.mark.parametrize("body", [b"", b"\x00\xff\r\n", b"x" * 600_000])
def test_a_body_is_kept_byte_for_byte(database: Path, body: bytes) -> None:
    put(database, new(body=body))
    assert rows(database, "SELECT body FROM bodies") == [(body,)]
