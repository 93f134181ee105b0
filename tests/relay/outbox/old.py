"""Databases as earlier versions made them: tables by their plain names, beside whatever else is there."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from relay import outbox
from relay.outbox.migrations import Migration, MigrationSet, record
from relay.outbox.postgres.connection import PostgresConnection
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.sqlite.opening import create

_TABLE = """
CREATE TABLE migrations (
    room TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL,
    applied_at {} NOT NULL, PRIMARY KEY (room, number)
)"""


def before_the_schema(room: MigrationSet, dialect: str) -> tuple[Migration, ...]:
    """The files of a room that work on tables by their plain names."""
    known = room.migrations(dialect)
    move = next(one for one in known if one.baseline)
    return known[: known.index(move)]


def make_sqlite(path: Path, *applied: Sequence[Migration]) -> None:
    """A file to which these were applied."""
    create(path)
    with closing(outbox.connect(path)) as connection:
        connection.executescript(_TABLE.format("REAL") + " STRICT, WITHOUT ROWID")
        for migration in (one for room in applied for one in room):
            connection.executescript(f"BEGIN; {migration.sql}; COMMIT")
            connection.execute(record("migrations", [migration], "0"))


def make_postgres(database: PostgresDatabase, *applied: Sequence[Migration]) -> None:
    """A database to which these were applied."""
    with database.writing() as connection:
        assert isinstance(connection, PostgresConnection)
        connection.script(_TABLE.format("DOUBLE PRECISION"))
        for migration in (one for room in applied for one in room):
            connection.script(migration.sql)
            connection.script(record("migrations", [migration], "0"))


def sqlite_rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    """What a statement brings from a file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()
