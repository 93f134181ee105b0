"""Brings a SQLite file up to date: each migration in a transaction of its own."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from relay.outbox.errors import SchemaError, StoreUnavailable
from relay.outbox.migrations import Migration, missing
from relay.outbox.sqlite.opening import connect, create
from relay.outbox.sqlite.writer import error_kind

OLDEST_SQLITE = (3, 37, 0)  # STRICT tables

_MIGRATIONS_TABLE = """
CREATE TABLE IF NOT EXISTS migrations (
    room TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at REAL NOT NULL,
    PRIMARY KEY (room, number)
) STRICT, WITHOUT ROWID
"""


def migrate(path: Path, sets: Sequence[tuple[Migration, ...]]) -> tuple[Migration, ...]:
    """Create the database if need be and apply what is missing; returns what was applied.

    Raises SchemaError for a database that is newer than this program, or whose applied files were changed since, and
    StoreUnavailable for a file that is no database, is locked for long or cannot be written.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise SchemaError(f"SQLite {sqlite3.sqlite_version} is too old: 3.37 or newer is needed")
    try:
        create(path)
        with closing(connect(path)) as connection:
            connection.execute(_MIGRATIONS_TABLE)
            return tuple(migration for known in sets for migration in _apply_missing(connection, known))
    except sqlite3.Error as error:
        if error_kind(error) == "other":
            raise
        raise StoreUnavailable(error_kind(error), f"outbox.url: {path}: {error}") from error


def _apply_missing(connection: sqlite3.Connection, known: Sequence[Migration]) -> Iterator[Migration]:
    for migration in known:
        # The lock comes before the look: an engine and a relay that start together must not both apply a file.
        connection.execute("BEGIN IMMEDIATE")
        try:
            rows = connection.execute("SELECT number, sha256 FROM migrations WHERE room = ?", (migration.room,))
            fresh = missing(migration, known, dict(rows.fetchall()))
            if fresh:
                _apply(connection, migration)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk rolls back by itself
                connection.execute("ROLLBACK")
            raise
        if fresh:
            yield migration


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    for sql in _statements(migration.sql):
        connection.execute(sql)
    connection.execute(
        "INSERT INTO migrations VALUES (?, ?, ?, ?, ?)",
        (migration.room, migration.number, migration.name, migration.sha256, time.time()),
    )


def _statements(script: str) -> Iterator[str]:
    """One by one, because `executescript` would commit the transaction that makes a migration all or nothing."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    yield statement  # the last one without its semicolon, or a comment, which SQLite runs as nothing
