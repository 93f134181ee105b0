"""Brings a database up to date: numbered SQL files, forward only, each applied once in a transaction of its own.

The engine keeps its jobs in the same file; it brings its own set of migrations, under its own room name.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from relay.errors import SchemaError, StoreUnavailable
from relay.outbox.database import connect, create
from relay.outbox.writer import error_kind

OLDEST_SQLITE = (3, 37, 0)  # STRICT tables

_LEDGER = """
CREATE TABLE IF NOT EXISTS migrations (
    room TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at REAL NOT NULL,
    PRIMARY KEY (room, number)
) STRICT, WITHOUT ROWID
"""
_FILE_NAME = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of a room."""

    room: str
    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The fingerprint by which a file changed after its release is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations_of(package: str, room: str) -> tuple[Migration, ...]:
    """The files `sql/migrations/NNNN_name.sql` of a package, in order."""
    folder = files(package).joinpath("sql", "migrations")
    named = ((_FILE_NAME.fullmatch(entry.name), entry) for entry in folder.iterdir())
    found = (Migration(room, int(m[1]), m[2], entry.read_text("utf-8")) for m, entry in named if m)
    return tuple(sorted(found, key=lambda migration: migration.number))


def outbox_migrations() -> tuple[Migration, ...]:
    """The outbox's own set."""
    return migrations_of("relay.outbox", "outbox")


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
            connection.execute(_LEDGER)
            return tuple(migration for known in sets for migration in _apply_missing(connection, known))
    except sqlite3.Error as error:
        if error_kind(error) == "other":
            raise
        raise StoreUnavailable(f"outbox.url: {path}: {error}") from error


def _apply_missing(connection: sqlite3.Connection, known: Sequence[Migration]) -> Iterator[Migration]:
    for migration in known:
        # The lock comes before the look: an engine and a relay that start together must not both apply a file.
        connection.execute("BEGIN IMMEDIATE")
        try:
            fresh = _missing(connection, migration, known[-1].number)
            if fresh:
                _apply(connection, migration)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk rolls back by itself
                connection.execute("ROLLBACK")
            raise
        if fresh:
            yield migration


def _missing(connection: sqlite3.Connection, migration: Migration, newest: int) -> bool:
    rows = connection.execute("SELECT number, sha256 FROM migrations WHERE room = ?", (migration.room,)).fetchall()
    applied = dict(rows)
    if max(applied, default=0) > newest:
        raise SchemaError(
            f"the database has {migration.room} schema {max(applied)}, this program knows {newest}: install a newer one"
        )
    if migration.number in applied and applied[migration.number] != migration.sha256:
        raise SchemaError(f"{migration.room} migration {migration.number:04} was changed after it had been applied")
    return migration.number not in applied


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
