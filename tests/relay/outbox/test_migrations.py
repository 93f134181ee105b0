"""What brings a database up to date, whichever it is."""

from __future__ import annotations

from relay.outbox import OUTBOX
from relay.outbox.store import Database
from tests.relay.deliveries import reading


def test_a_database_that_is_up_to_date_is_left_as_it_is(database: Database) -> None:
    assert database.migrate([OUTBOX]) == ()


def test_a_database_tells_what_was_applied_and_what_there_is(database: Database) -> None:
    found, newest = reading(database, lambda connection: database.schema(connection, OUTBOX))
    assert found == newest > 0
