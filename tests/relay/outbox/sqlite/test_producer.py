"""Producers on a connection of their own, by sqlite3 or aiosqlite, whoever begins its transactions."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import aiosqlite
import pytest

from relay import outbox
from relay.outbox.errors import DuplicateDelivery, InvalidDelivery, StreamKilled
from relay.outbox.model import NewDelivery, Stream
from relay.outbox.sqlite.database import SqliteDatabase
from tests.relay.deliveries import new, put, rows


def test_a_delivery_exists_once_the_callers_transaction_commits(database: SqliteDatabase, path: Path) -> None:
    with closing(outbox.connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        outbox.add(connection, new())
        assert rows(database, "SELECT id FROM outspoken_deliveries") == []
        connection.execute("COMMIT")
    assert rows(database, "SELECT id, state FROM outspoken_deliveries") == [("d1", "pending")]


def test_nothing_is_left_of_a_delivery_whose_transaction_was_rolled_back(database: SqliteDatabase, path: Path) -> None:
    with closing(outbox.connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        outbox.add(connection, new())
        connection.execute("ROLLBACK")
    for table in ("deliveries", "bodies", "destinations"):
        assert rows(database, f"SELECT * FROM outspoken_{table}") == []


def tables_in_between(connection: sqlite3.Connection, delivery: NewDelivery) -> list[str]:
    """The statements by which it is added, and rolled back, for which SQLite makes tables in between."""
    statements: list[str] = []
    connection.execute("BEGIN IMMEDIATE")
    connection.set_trace_callback(statements.append)
    outbox.add(connection, delivery)
    connection.set_trace_callback(None)
    plans = {sql: [row[1] for row in connection.execute(f"EXPLAIN {sql}")] for sql in statements}
    connection.execute("ROLLBACK")
    assert any("Insert" in plan for plan in plans.values())
    return [sql for sql, plan in plans.items() if "OpenEphemeral" in plan]


def test_sqlite_makes_no_table_in_between_for_what_is_added(path: Path) -> None:
    """It would for each CHECK by an IN of more than two values, for every row: that was half of what adding took."""
    with closing(outbox.connect(path)) as connection:
        assert tables_in_between(connection, new()) == []


async def test_on_aiosqlite_too_the_delivery_shares_the_callers_transaction(
    database: SqliteDatabase, path: Path
) -> None:
    connection = await outbox.connect_async(path)
    try:
        await connection.execute("BEGIN IMMEDIATE")
        await outbox.add(connection, new("undone"))
        await connection.execute("ROLLBACK")
        await connection.execute("BEGIN IMMEDIATE")
        await outbox.add(connection, new("kept"))
        assert rows(database, "SELECT id FROM outspoken_deliveries") == []
        await connection.execute("COMMIT")
    finally:
        await connection.close()
    assert rows(database, "SELECT id FROM outspoken_deliveries") == [("kept",)]


def test_a_connection_with_pythons_own_transactions_will_do_as_well(database: SqliteDatabase, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        outbox.add(connection, new("undone"))
        connection.rollback()
        outbox.add(connection, new("kept"))
        connection.commit()
    assert rows(database, "SELECT id FROM outspoken_deliveries") == [("kept",)]


IN_AUTOCOMMIT = r'^connection: in autocommit mode; execute "BEGIN IMMEDIATE" before, and commit after it$'


def test_a_connection_that_commits_every_statement_is_refused(database: SqliteDatabase, path: Path) -> None:
    with closing(outbox.connect(path)) as connection:
        with pytest.raises(InvalidDelivery, match=IN_AUTOCOMMIT):
            outbox.add(connection, new(stream=Stream("s")))
        connection.execute("BEGIN")
        outbox.add(connection, new("d2"))
        connection.execute("COMMIT")
        with pytest.raises(InvalidDelivery, match=IN_AUTOCOMMIT):
            outbox.add(connection, new("d3"))
    assert rows(database, "SELECT id FROM outspoken_deliveries") == [("d2",)]
    assert rows(database, "SELECT * FROM outspoken_streams") == []


async def test_on_aiosqlite_too_it_is_refused(database: SqliteDatabase, path: Path) -> None:
    connection = await outbox.connect_async(path)
    try:
        with pytest.raises(InvalidDelivery, match=IN_AUTOCOMMIT):
            await outbox.add(connection, new())
    finally:
        await connection.close()
    assert rows(database, "SELECT * FROM outspoken_destinations") == []


async def test_aiosqlite_with_pythons_own_transactions_will_do_as_well(database: SqliteDatabase, path: Path) -> None:
    async with aiosqlite.connect(path) as connection:
        await outbox.add(connection, new("undone"))
        await connection.rollback()
        await outbox.add(connection, new("kept"))
        await connection.commit()
    assert rows(database, "SELECT id FROM outspoken_deliveries") == [("kept",)]


class Autocommitting(sqlite3.Connection):
    """What a connection opened with autocommit=True says of itself, from Python 3.12 on."""

    autocommit = True


def test_the_newer_kind_of_autocommit_is_refused_as_well(path: Path) -> None:
    with (
        closing(sqlite3.connect(path, factory=Autocommitting)) as connection,
        pytest.raises(InvalidDelivery, match=IN_AUTOCOMMIT),
    ):
        outbox.add(connection, new())


def test_outside_a_transaction_no_stream_begins(path: Path) -> None:
    with closing(outbox.connect(path)) as connection, pytest.raises(InvalidDelivery, match=IN_AUTOCOMMIT):
        outbox.begin_stream(connection, Stream("s"), "wss://receiver.example/live")


async def test_a_duplicate_leaves_the_callers_transaction_to_the_caller(database: SqliteDatabase, path: Path) -> None:
    put(database, new("d1"))
    connection = await outbox.connect_async(path)
    try:
        await connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(DuplicateDelivery):
            await outbox.add(connection, new("d1"))
        await outbox.add(connection, new("d2"))
        await connection.execute("COMMIT")
    finally:
        await connection.close()
    assert rows(database, "SELECT id FROM outspoken_deliveries") == [("d1",), ("d2",)]


async def test_on_aiosqlite_too_a_killed_stream_is_closed(database: SqliteDatabase, path: Path) -> None:
    put(database, new("a1", stream=Stream("s")))
    rows(database, "UPDATE outspoken_streams SET state = 'killed', reason = 'delivery_dead', finished_at = 1")
    async with aiosqlite.connect(path) as connection:
        with pytest.raises(StreamKilled):
            await outbox.add(connection, new("a2", stream=Stream("s")))
