"""How operators reach the outbox: on connections of their own, with the daemon running or stopped.

Reading happens in one snapshot that cannot write. Acts are short transactions, after which the doorbell rings.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from relay.errors import SchemaError, StoreUnavailable
from relay.outbox.database import connect, connect_read_only
from relay.outbox.doorbell import Bell
from relay.outbox.migrate import outbox_migrations
from relay.outbox.writer import error_kind

_PATIENCE_SECONDS = 10.0
_ASK_AGAIN_SECONDS = 0.001


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """One snapshot of the outbox; rows come by name. Raises StoreUnavailable or SchemaError."""
    with _in_words(path), closing(connect_read_only(path)) as connection:
        _require_schema(connection)
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")
        yield connection


@contextmanager
def acting(path: Path) -> Iterator[sqlite3.Connection]:
    """One transaction: durable once the block is left, undone if it raises. Then relays are told to look."""
    with _in_words(path):
        _require_file(path)
        with closing(connect(path)) as connection:
            _require_schema(connection)
            connection.row_factory = sqlite3.Row
            _begin(connection)
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        _ring(path)


def schema(connection: sqlite3.Connection) -> tuple[int, int]:
    """The number of the database's newest outbox migration (0: none) and of the newest that this program knows."""
    there = connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'migrations')").fetchone()[0]
    rows = "SELECT coalesce(max(number), 0) FROM migrations WHERE room = 'outbox'"
    return connection.execute(rows).fetchone()[0] if there else 0, outbox_migrations()[-1].number


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        _require_file(path)
        if error_kind(error) == "other":
            raise
        raise StoreUnavailable(f"outbox.url: {path}: {error}") from error


def _require_file(path: Path) -> None:
    if not path.exists():
        raise StoreUnavailable(f"outbox.url: {path}: no database there; `relay run` or `relay migrate` makes one")


def _require_schema(connection: sqlite3.Connection) -> None:
    found, known = schema(connection)
    if found < known:
        raise SchemaError(f"the database has outbox schema {found}, this program needs {known}: run `relay migrate`")
    if found > known:
        raise SchemaError(f"the database has outbox schema {found}, this program knows {known}: install a newer one")


def _begin(connection: sqlite3.Connection) -> None:
    # SQLite's own busy handler backs off to 100 ms and starves beside a relay that commits all the time.
    connection.execute("PRAGMA busy_timeout = 0")
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if error_kind(error) != "busy" or time.monotonic() >= give_up:
                raise
        time.sleep(_ASK_AGAIN_SECONDS)


def _ring(path: Path) -> None:
    with closing(Bell(path)) as bell:
        bell.ring()
