"""How operators reach the outbox: on connections of their own, with the daemon running or stopped.

Reading happens in one snapshot that cannot write. Acts are short transactions, after which relays are notified. Both
block: call them in a thread without an event loop. Each kind of error has its exit code and its HTTP status.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from relay.guard.rules import ANYWHERE, Refusal
from relay.guard.url import LIVE, read
from relay.outbox.errors import RelayError, SchemaError
from relay.outbox.migrations import OUTBOX
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Connection, Database


class NotFound(RelayError):
    """There is no such delivery, destination or key."""


class NothingMatched(RelayError):
    """The filter is sound, and nothing fits it."""


class Refused(RelayError):
    """It could be done, and should not be: the message says what stands in the way."""


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


def origin_of(text: str) -> str:
    """`https://Host/path` -> `https://host:443`. Raises Refused, without repeating what may hold a password."""
    return destination_of(text)[0]


def destination_of(text: str) -> tuple[str, str]:
    """`https://Host/path?query` -> `https://host:443` and `/path`. Raises Refused as `origin_of` does."""
    target = read(text, ANYWHERE, LIVE)
    if isinstance(target, Refusal):
        raise Refused(f"destination: {target.message} Name it as scheme://host:port.")
    return target.origin, target.endpoint


def _require_schema(database: Database, connection: Connection) -> None:
    found, known = database.schema(connection, OUTBOX)
    if found < known:
        raise SchemaError(f"the database has outbox schema {found}, this program needs {known}: run `relay migrate`")
    if found > known:
        raise SchemaError(f"the database has outbox schema {found}, this program knows {known}: install a newer one")
