"""One PostgreSQL database: how each kind of work reaches it."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from relay.outbox.errors import StoreUnavailable
from relay.outbox.migrations import Migration, MigrationSet
from relay.outbox.postgres.clock import ServerClock
from relay.outbox.postgres.connection import LoopWaiter, PostgresConnection, ThreadWaiter, Waiter
from relay.outbox.postgres.migrating import HAS_TABLE, migrate, migration_script
from relay.outbox.postgres.notifications import PostgresListener, PostgresNotifier
from relay.outbox.postgres.placeholders import SCHEMA, check_schema
from relay.outbox.postgres.sessions import SessionFactory
from relay.outbox.postgres.writer import PostgresBodyReader, PostgresReader, PostgresWriter, SharedConnections
from relay.outbox.store import BUSY_SECONDS, Connection, Files

_APPLICATION = "outspoken"
_NOTIFY = "SELECT pg_notify('outspoken', '')"
_NEWEST = "SELECT coalesce(max(number), 0) FROM outspoken_migrations WHERE room = ?"
_GRANTS = (
    "grant its role USAGE on the schema {}, SELECT, INSERT, UPDATE and DELETE on its tables, and EXECUTE on its "
    "functions; only who owns it, or may create it, can migrate it"
)
_SIZE = "SELECT pg_database_size(current_database())"
_SIZE_SECONDS = 60.0
# An operator's list of a million rows may take its time; a relay's batch may not.
_PEOPLE_SECONDS = 60.0


class PostgresLiveness:
    """A name, and no sign of life: that a process on another machine has ended is known when it is overdue.

    A lock that the server keeps for a session would be lost with the connection, and a server that restarts would look
    like the end of every relay.
    """

    def __init__(self) -> None:
        self.name = os.urandom(8).hex()

    def close(self) -> None:
        """Holds nothing."""


class _DatabaseSize:
    """Of a database, in bytes: asked of the server once a minute at most, which has to look at each of its files."""

    def __init__(self) -> None:
        self._bytes = 0
        self._asked_at = -math.inf

    def of(self, connection: Connection) -> int:
        if time.monotonic() - self._asked_at > _SIZE_SECONDS:
            self._bytes = connection.execute(_SIZE).fetchone()[0]
            self._asked_at = time.monotonic()
        return self._bytes


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """The database behind `postgresql://user:password@host:5432/name`, which is kept as it is, secrets and all.

    Its time is the server's, unless there is a `clock`. The outbox is in its `schema`.
    """

    url: str = field(repr=False)
    clock: Callable[[], float] | None = None
    schema_name: str = SCHEMA
    _server: ServerClock = field(default_factory=ServerClock, repr=False, compare=False)
    _sessions: SessionFactory = field(init=False, repr=False, compare=False)
    _size: _DatabaseSize = field(default_factory=_DatabaseSize, repr=False, compare=False)
    _shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[float, SharedConnections]] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        check_schema(self.schema_name)
        application = _APPLICATION if self.schema_name == SCHEMA else f"{_APPLICATION} {self.schema_name}"
        object.__setattr__(self, "_sessions", SessionFactory(self.url, application))

    @property
    def name(self) -> str:
        """The URL without user, password and options, and the schema, where it is not the usual one."""
        parts = urlsplit(self.url)
        schema = "" if self.schema_name == SCHEMA else f", schema {self.schema_name}"
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{schema}"

    @property
    def is_distant(self) -> bool:
        return True

    def beside(self, suffix: str) -> Path:
        """A file in the folder where SQLite's would be."""
        return Path("var/outspoken").with_suffix(suffix)

    def migrate(self, rooms: Sequence[MigrationSet]) -> tuple[Migration, ...]:
        """Bring it up to date; returns what was applied. Raises SchemaError and StoreUnavailable."""
        # In a thread of its own: this one may have an event loop that runs.
        with ThreadPoolExecutor(1, "migrate") as thread:
            return thread.submit(self._migrate, rooms).result()

    def _migrate(self, rooms: Sequence[MigrationSet]) -> tuple[Migration, ...]:
        with self._connected() as connection:
            return migrate(connection, [room.migrations("postgres") for room in rooms])

    def migration_script(self, rooms: Sequence[MigrationSet]) -> str:
        return migration_script([room.migrations("postgres") for room in rooms], self.schema_name)

    def schema(self, connection: Connection, room: MigrationSet) -> tuple[int, int]:
        there = connection.execute(HAS_TABLE).fetchone()[0]
        found: int = connection.execute(_NEWEST, (room.name,)).fetchone()[0] if there else 0
        return found, room.migrations("postgres")[-1].number

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One snapshot. Raises StoreUnavailable, with words."""
        with self._connected() as connection, connection.transaction("ISOLATION LEVEL REPEATABLE READ READ ONLY"):
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction, after which relays are told to look. Raises StoreUnavailable, with words."""
        with self._connected() as connection, connection.transaction():
            yield connection
            connection.execute(_NOTIFY)

    @contextmanager
    def _connected(self) -> Iterator[PostgresConnection]:
        connection = self._connection(_PEOPLE_SECONDS, ThreadWaiter())
        try:
            yield connection
        except StoreUnavailable as error:
            # The text of what the server said may name a user, never a password; what a socket said names an address.
            remedy = f"; {_GRANTS.format(self.schema_name) if error.kind == 'forbidden' else error.remedy}"
            said = "it cannot be written" if error.kind == "read_only" else error.__cause__ or error
            words = f"outbox.url: {self.name}: {said}{remedy}"
            raise StoreUnavailable(error.kind, words) from error
        finally:
            connection.close()

    def _connection(self, seconds: float, waiting: Waiter) -> PostgresConnection:
        return PostgresConnection(self._sessions, self._server, seconds, self.schema_name, waiting)

    def reader(self, *, slow: bool = False) -> PostgresReader:
        del slow  # what takes long takes it on the server
        return PostgresReader(partial(self._connections, BUSY_SECONDS))

    def body_reader(self) -> PostgresBodyReader:
        return PostgresBodyReader(partial(self._connections, BUSY_SECONDS))

    def writer(self, busy_seconds: float = BUSY_SECONDS) -> PostgresWriter:
        return PostgresWriter(partial(self._connections, busy_seconds))

    def _connections(self, busy_seconds: float) -> SharedConnections:
        """Of the event loop that runs, those whose statements may wait equally long."""
        of_loop = self._shared.setdefault(asyncio.get_running_loop(), {})
        fresh = SharedConnections(lambda: self._connection(2 * busy_seconds, LoopWaiter()))
        return of_loop.setdefault(busy_seconds, fresh)

    def notifier(self) -> PostgresNotifier:
        return PostgresNotifier()

    def liveness(self) -> PostgresLiveness:
        return PostgresLiveness()

    def listener(self, *heard: asyncio.Event) -> PostgresListener:
        return PostgresListener(self._sessions, self.schema_name, *heard)

    def now(self) -> float:
        if self.clock is not None:
            return self.clock()
        if not self._server.known:
            with self._connected() as connection:
                connection.execute("SELECT 1")
        return self._server.now()

    def files(self, connection: Connection) -> Files:
        """How large it was within the last minute; of its log and its disk, the server does not tell."""
        return Files(self._size.of(connection), None, None)

    def identity(self) -> None:
        """A server keeps its files to itself."""

    def hold(self) -> None:
        """A server keeps its log itself."""

    def exposed(self) -> tuple[Path, ...]:
        """None: it keeps its files to itself."""
        return ()

    def tidy(self, connection: Connection) -> bool:
        """Nothing is left to do: the server's autovacuum does it."""
        del connection
        return False
