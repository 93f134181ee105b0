"""How operators reach the outbox: on connections of their own, with the daemon running or stopped.

Reading happens in one snapshot that cannot write. Acts are short transactions, after which relays are notified. Both
block: call them in a thread without an event loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from relay.outbox.errors import SchemaError
from relay.outbox.migrations import OUTBOX
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Connection, Database


@contextmanager
def reading(database: Database) -> Iterator[Connection]:
    """One snapshot of the outbox; rows come by name. Raises StoreUnavailable or SchemaError."""
    with database.reading() as connection:
        _require_schema(database, connection)
        yield connection


@contextmanager
def acting(database: Database) -> Iterator[Connection]:
    """One transaction: durable once the block is left, undone if it raises. Then relays are told to look."""
    with database.writing() as connection:
        _require_schema(database, connection)
        yield connection
    with closing(database.notifier()) as notifier:
        notifier.notify()


def is_missing(database: Database) -> bool:
    """Whether nobody has made the file of an outbox yet. Of one that is no file, its schema tells."""
    return isinstance(database, SqliteDatabase) and not database.path.exists()


def _require_schema(database: Database, connection: Connection) -> None:
    found, known = database.schema(connection, OUTBOX)
    if found < known:
        raise SchemaError(f"the database has outbox schema {found}, this program needs {known}: run `relay migrate`")
    if found > known:
        raise SchemaError(f"the database has outbox schema {found}, this program knows {known}: install a newer one")
