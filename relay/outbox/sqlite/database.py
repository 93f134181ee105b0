"""One SQLite file as a database: how each kind of work reaches it. What works in an event loop loads asyncio, for which
others need not wait."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relay.outbox.errors import StoreUnavailable
from relay.outbox.migrations import Migration, MigrationSet
from relay.outbox.sqlite.failures import error_kind, unusable
from relay.outbox.sqlite.liveness import SqliteLiveness
from relay.outbox.sqlite.migrating import migrate, migration_script
from relay.outbox.sqlite.notifications import SqliteListener, SqliteNotifier
from relay.outbox.sqlite.opening import connect, connect_read_only
from relay.outbox.sqlite.permissions import exposed
from relay.outbox.sqlite.side_files import SqliteHold, await_one_log, require_log
from relay.outbox.store import BUSY_SECONDS, Connection, Files

if TYPE_CHECKING:
    import asyncio

    from relay.outbox.sqlite.writer import SqliteBodyReader, SqliteReader, SqliteSlowReader, SqliteWriter

_PATIENCE_SECONDS = 10.0
_ASK_AGAIN_SECONDS = 0.001
_VACUUM_PAGES = 64


@dataclass(frozen=True, slots=True)
class SqliteDatabase:
    """The file at `path`; everybody on it has this host's `clock`."""

    path: Path
    clock: Callable[[], float] = time.time

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def is_distant(self) -> bool:
        return False

    def beside(self, suffix: str) -> Path:
        """A file in the same folder, of the same name."""
        return self.path.with_suffix(suffix)

    def migrate(self, rooms: Sequence[MigrationSet]) -> tuple[Migration, ...]:
        """Make the file, or bring it up to date; returns what was applied. Raises SchemaError and StoreUnavailable."""
        await_one_log(self.path)
        return migrate(self.path, [room.migrations("sqlite") for room in rooms])

    def migration_script(self, rooms: Sequence[MigrationSet]) -> str:
        return migration_script([room.migrations("sqlite") for room in rooms])

    def schema(self, connection: Connection, room: MigrationSet) -> tuple[int, int]:
        has_migrations = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'outspoken_migrations')"
        newest = "SELECT coalesce(max(number), 0) FROM outspoken_migrations WHERE room = ?"
        there = connection.execute(has_migrations).fetchone()[0]
        found: int = connection.execute(newest, (room.name,)).fetchone()[0] if there else 0
        return found, room.migrations("sqlite")[-1].number

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One snapshot; rows come by index and by name. Raises StoreUnavailable, with words."""
        require_log(self.path)
        with self._in_words(), closing(connect_read_only(self.path)) as connection:
            connection.row_factory = sqlite3.Row
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; rows come by index and by name. Raises StoreUnavailable, with words."""
        with self._in_words():
            self._require_file()
            require_log(self.path)
            with closing(connect(self.path)) as connection:
                connection.row_factory = sqlite3.Row
                _begin(connection)
                try:
                    yield connection
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self._require_file()
            if error_kind(error) == "other":
                raise
            raise unusable(self.path, error) from error

    def _require_file(self) -> None:
        if not self.path.exists():
            words = f"outbox.url: {self.path}: no database there; `relay run` or `relay migrate` makes one"
            raise StoreUnavailable("unavailable", words)

    def reader(self, *, slow: bool = False) -> SqliteReader | SqliteSlowReader:
        from relay.outbox.sqlite.writer import SqliteReader, SqliteSlowReader

        return SqliteSlowReader(self.path) if slow else SqliteReader(self.path)

    def body_reader(self) -> SqliteBodyReader:
        from relay.outbox.sqlite.writer import SqliteBodyReader

        return SqliteBodyReader(self.path)

    def writer(self, busy_seconds: float = BUSY_SECONDS) -> SqliteWriter:
        from relay.outbox.sqlite.writer import SqliteWriter

        return SqliteWriter(self.path, busy_seconds)

    def notifier(self) -> SqliteNotifier:
        return SqliteNotifier(self.path)

    def liveness(self) -> SqliteLiveness:
        return SqliteLiveness(self.path)

    def listener(self, *heard: asyncio.Event) -> SqliteListener:
        return SqliteListener(self.path, *heard)

    def now(self) -> float:
        return self.clock()

    def files(self, connection: Connection) -> Files:
        """How large it is; it need not be asked, because the file can be seen."""
        del connection
        log = self.path.with_name(self.path.name + "-wal")
        free = shutil.disk_usage(self.path.parent).free
        return Files(self.path.stat().st_size, log.stat().st_size if log.exists() else 0, free)

    def identity(self) -> tuple[int, int]:
        try:
            found = self.path.stat()
        except OSError:
            return 0, 0
        return found.st_dev, found.st_ino

    def hold(self) -> SqliteHold:
        return SqliteHold(self.path)

    def exposed(self) -> tuple[Path, ...]:
        return exposed(self.path)

    def tidy(self, connection: Connection) -> bool:
        """Give a few free pages back to the disk; returns whether there are more."""
        free: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
        # One page a call: the sqlite3 module steps such a pragma once, whatever number it is given.
        for _ in range(min(free, _VACUUM_PAGES)):
            connection.execute("PRAGMA incremental_vacuum(1)")
        left: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
        return 0 < left < free  # a file that was made without incremental vacuum keeps its free pages


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
