"""Brings a SQLite file up to date: all that is missing in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from relay.outbox.errors import SchemaError
from relay.outbox.migrations import TABLE, TABLE_BEFORE, Migration, is_ours, missing, record, script
from relay.outbox.sqlite.failures import error_kind, unusable
from relay.outbox.sqlite.opening import connect, create

OLDEST_SQLITE = (3, 37, 0)  # STRICT tables

_MIGRATIONS_TABLE = f"""
CREATE TABLE {TABLE} (
    room TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at REAL NOT NULL,
    PRIMARY KEY (room, number)
) STRICT, WITHOUT ROWID;
"""
_NOW = "(julianday('now') - 2440587.5) * 86400.0"


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
            connection.execute("PRAGMA temp_store = FILE")  # the rows of a new index are sorted: there may be millions
            return _bring_up_to_date(connection, sets)
    except sqlite3.Error as error:
        if error_kind(error) == "other":
            raise
        raise unusable(path, error) from error


def migration_script(sets: Sequence[tuple[Migration, ...]]) -> str:
    """What `migrate` does to a database that has nothing of it."""
    return script(_MIGRATIONS_TABLE, TABLE, sets, _NOW)


def _bring_up_to_date(connection: sqlite3.Connection, sets: Sequence[tuple[Migration, ...]]) -> tuple[Migration, ...]:
    if _is_up_to_date(connection, sets):  # and starts while a producer is in a long transaction
        return ()
    # The lock comes before the look: an engine and a relay that start together must not both apply a file.
    connection.execute("BEGIN IMMEDIATE")
    try:
        _begin(connection, sets)
        applied = tuple(migration for known in sets for migration in _apply_missing(connection, known))
        connection.execute("COMMIT")
        return applied
    except BaseException:
        if connection.in_transaction:  # a full disk rolls back by itself
            connection.execute("ROLLBACK")
        raise


def _is_up_to_date(connection: sqlite3.Connection, sets: Sequence[tuple[Migration, ...]]) -> bool:
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (TABLE,)).fetchone():
        return False
    return not any(step for known in sets for step in missing(known, _applied(connection, known)))


def _applied(connection: sqlite3.Connection, known: Sequence[Migration]) -> dict[int, str]:
    rows = connection.execute(f"SELECT number, sha256 FROM {TABLE} WHERE room = ?", (known[0].room,))  # noqa: S608
    return dict(rows.fetchall())


def _begin(connection: sqlite3.Connection, sets: Sequence[tuple[Migration, ...]]) -> None:
    """Make the table of migrations, or take over that of an older version."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if TABLE in tables:
        return
    if TABLE_BEFORE in tables and _is_ours(connection, sets):
        connection.execute(f"ALTER TABLE {TABLE_BEFORE} RENAME TO {TABLE}")
    else:
        connection.execute(_MIGRATIONS_TABLE)


def _is_ours(connection: sqlite3.Connection, sets: Sequence[tuple[Migration, ...]]) -> bool:
    columns = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (TABLE_BEFORE,))}
    if not {"room", "number", "sha256"} <= columns:
        return False
    rows = connection.execute(f"SELECT room, number, sha256 FROM {TABLE_BEFORE}").fetchall()  # noqa: S608
    return is_ours(sets, rows)


def _apply_missing(connection: sqlite3.Connection, known: Sequence[Migration]) -> Iterator[Migration]:
    for step in missing(known, _applied(connection, known)):
        for sql in _statements(step.sql):
            connection.execute(sql)
        connection.execute(record(TABLE, step.migrations, _NOW))
        yield from step.migrations


def _statements(script: str) -> Iterator[str]:
    """One by one, because `executescript` would commit the transaction that makes it all or nothing."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    yield statement  # the last one without its semicolon, or a comment, which SQLite runs as nothing
