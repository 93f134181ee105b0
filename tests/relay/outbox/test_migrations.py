"""What brings a database up to date, whichever it is."""

from __future__ import annotations

import sqlite3

import asyncpg
import pytest

from relay.outbox import OUTBOX
from relay.outbox.model import Stream
from relay.outbox.store import Database
from tests.relay.deliveries import new, put, reading, rows


def test_a_database_that_is_up_to_date_is_left_as_it_is(database: Database) -> None:
    assert database.migrate([OUTBOX]) == ()


def test_a_database_tells_what_was_applied_and_what_there_is(database: Database) -> None:
    found, newest = reading(database, lambda connection: database.schema(connection, OUTBOX))
    assert found == newest > 0


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("deliveries", "kind = 'rumour'"),
        ("deliveries", "lane = 3"),
        ("deliveries", "lane = -1"),
        ("deliveries", "state = 'lost'"),
        ("deliveries", "state = 'cancelled'"),  # and has not finished
        ("streams", "state = 'paused'"),
    ],
)
def test_both_databases_refuse_what_is_none_of_the_values_that_there_are(
    database: Database, table: str, change: str
) -> None:
    put(database, new(stream=Stream("s")))
    with pytest.raises((sqlite3.IntegrityError, asyncpg.CheckViolationError)):
        rows(database, f"UPDATE outspoken_{table} SET {change} RETURNING 1")
