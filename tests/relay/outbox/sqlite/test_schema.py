"""What the tables of a SQLite file refuse, whoever writes to it."""

from __future__ import annotations

import sqlite3

import pytest

from relay.outbox.model import Stream
from relay.outbox.sqlite.database import SqliteDatabase
from tests.relay.deliveries import new, put, rows

IMPOSSIBLE = [
    "state = 'lost'",
    "state = 'leased'",
    "state = 'leased', lease_token = 't'",
    "state = 'leased', lease_until = 1.0",
    "lease_token = 't', lease_until = 1.0",
    "state = 'delivered', attempts = 1",
    "state = 'delivered', finished_at = 1.0",
    "state = 'dead', finished_at = 1.0",
    "state = 'dead', reason = 'exhausted'",
    "state = 'cancelled'",
    "state = 'cancelled', finished_at = 1.0, reason = 'operator'",
    "finished_at = 1.0",
    "reason = 'exhausted'",
    "attempts = -1",
    "lapses = -1",
    "body_bytes = -1",
    "method = 'DELETE'",
    "kind = 'rumour'",
    "headers = '[]'",
    "id = ''",
    "path = ''",
    "lane = 3",
    "due_at = NULL",
    "due_at = 'tomorrow'",
    "url = NULL",
]


@pytest.mark.parametrize("change", IMPOSSIBLE)
def test_the_database_refuses_an_impossible_delivery(database: SqliteDatabase, change: str) -> None:
    put(database, new())
    with pytest.raises(sqlite3.IntegrityError):
        rows(database, f"UPDATE outspoken_deliveries SET {change}")


POSSIBLE = [
    "state = 'leased', lease_token = 't', lease_until = 1.0",
    "state = 'delivered', attempts = 1, finished_at = 1.0",
    "state = 'dead', finished_at = 1.0, reason = 'operator'",
    "state = 'cancelled', finished_at = 1.0",
]


@pytest.mark.parametrize("change", POSSIBLE)
def test_the_database_accepts_every_state_that_there_is(database: SqliteDatabase, change: str) -> None:
    put(database, new())
    assert rows(database, f"UPDATE outspoken_deliveries SET {change} RETURNING id") == [("d1",)]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO outspoken_deliveries (id, origin, path, url, body_bytes, created_at, due_at) "
        "SELECT id, origin, path, '', 0, 0, 0"
        " FROM outspoken_deliveries",
        "INSERT INTO outspoken_bodies VALUES (99, x'00')",
        "INSERT INTO outspoken_bodies VALUES (1, x'00')",
        "DELETE FROM outspoken_deliveries",
        "INSERT INTO outspoken_destinations (origin) SELECT 'http://a:80' FROM (VALUES (1), (2))",
        "INSERT INTO outspoken_destinations (origin) VALUES ('receiver.example')",
        "INSERT INTO outspoken_destinations (origin, smallest_refused) VALUES ('http://a:80', -1)",
        "INSERT INTO outspoken_attempts (seq, number, started_at, lag, duration, outcome) "
        "VALUES (1, 0, 0, 0, 0, 'success')",
        "INSERT INTO outspoken_attempts (seq, number, started_at, lag, duration, outcome) "
        "VALUES (1, 1, 0, -1, 0, 'success')",
        "INSERT INTO outspoken_attempts (seq, number, started_at, lag, duration, outcome) "
        "VALUES (9, 1, 0, 0, 0, 'success')",
    ],
)
def test_the_database_refuses_rows_that_contradict_others(database: SqliteDatabase, sql: str) -> None:
    put(database, new())
    with pytest.raises(sqlite3.IntegrityError):
        rows(database, sql)


def test_the_number_of_a_deleted_delivery_is_not_handed_out_again(database: SqliteDatabase) -> None:
    put(database, new("d1"))
    rows(database, "DELETE FROM outspoken_bodies")
    rows(database, "DELETE FROM outspoken_deliveries")
    put(database, new("d2"))
    assert rows(database, "SELECT seq FROM outspoken_deliveries") == [(2,)]


IMPOSSIBLE_STREAMS = [
    "state = 'killed'",
    "state = 'killed', finished_at = 1.0",
    "state = 'closed'",
    "reason = 'connection_lost'",
    "finished_at = 1.0",
    "transport = 'http'",
    "transport = 'carrier pigeon'",
    "url = NULL",
    "holder = 'h'",
    "holder_until = 1.0",
    "state = 'closed', finished_at = 1.0, holder = 'h', holder_until = 1.0",
    "headers = '[]'",
    "state = 'paused'",
]


@pytest.mark.parametrize("change", IMPOSSIBLE_STREAMS)
def test_the_database_refuses_an_impossible_stream(database: SqliteDatabase, change: str) -> None:
    put(database, new(url="wss://receiver.example/live", stream=Stream("s")))
    with pytest.raises(sqlite3.IntegrityError):
        rows(database, f"UPDATE outspoken_streams SET {change}")
