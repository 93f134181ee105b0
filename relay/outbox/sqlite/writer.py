"""One connection that writes from an event loop: statements where they stand, and a commit that takes long in a thread.

A statement finds its pages in memory and takes microseconds; beside a busy loop a thread would lose more than that at
each of its steps, which gives the interpreter lock away and waits to get it back. What takes long is a commit that
waits for the disk: an fsync holds nobody up but its own transaction. One of a few rows that waits for none is made
where it stands: to ask the thread and to be told would take several times as long.

A locked database is asked again every fifth of a millisecond: it is free for no longer between two commits of a steady
producer, and SQLite's own busy handler, which backs off to 100 ms, starves behind one.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from relay.outbox.errors import StoreUnavailable
from relay.outbox.executor import SerialExecutor
from relay.outbox.sqlite.failures import error_kind, store_errors
from relay.outbox.sqlite.opening import connect, connect_read_only, map_afresh
from relay.outbox.sqlite.side_files import SideFiles
from relay.outbox.store import BUSY_SECONDS

T = TypeVar("T")

_ASK_AGAIN_SECONDS = 0.0002
_LONG_SECONDS = 0.05  # a lock that is held for longer than this is no steady producer's, and is asked for less often
_ASK_SELDOM_SECONDS = 0.005
_FEW_ROWS = 32
_BODY_THREADS = 2
_REMAP_BYTES = 4 * 1024 * 1024
# SQLite's own default again, or never.
_DURABLE = ("PRAGMA synchronous = FULL", "PRAGMA wal_autocheckpoint = 1000")
_SWIFT = ("PRAGMA synchronous = NORMAL", "PRAGMA wal_autocheckpoint = 0")


class SqliteWriter:
    """Serialises the transactions of one process on one connection."""

    def __init__(self, path: Path, busy_seconds: float = BUSY_SECONDS) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        # Opening may have to wait for another process that repairs the log of a killed one; only after that not.
        self._connection = connect(path, any_thread=True)
        self._connection.execute("PRAGMA busy_timeout = 0")
        self._side_files = SideFiles(path)
        self._durable = True
        self._turn = asyncio.Lock()
        self._commit = SerialExecutor("outbox-commit")

    async def execute(self, sql: str, values: Mapping[str, Any], /, *, durable: bool = True) -> list[Any]:
        """Run one statement, which is a transaction of its own; returns its rows."""
        return await self.run(lambda connection: connection.execute(sql, values).fetchall(), durable=durable)

    async def run(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """Do `work` in a write transaction, in the event loop; durable on return where it shall be, undone if it
        raises.

        For as long as `work` takes nobody else has a turn: it does best with a few hundred rows at a time. Raises
        StoreUnavailable when the database stays locked, or the disk is full or broken.
        """
        async with self._turn:
            if durable:  # who had the turn before goes on first: what a claim brought is sent meanwhile
                await asyncio.sleep(0)
            with store_errors:
                was_durable = self._durable
                self._flush_commits(durable)
                await self._begin()
                try:
                    self._require_side_files()
                    before = self._connection.total_changes
                    result = work(self._connection)
                    if durable or self._connection.total_changes - before > _FEW_ROWS:
                        await self._commit.run(lambda _: self._connection.execute("COMMIT"))
                    else:
                        self._connection.execute("COMMIT")
                    return result
                finally:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    self._flush_commits(durable and was_durable)  # now, as the next that waits for no disk is in haste

    def _flush_commits(self, durable: bool) -> None:
        """Whether commits wait for the disk. One that does flushes those before it; one that does not leaves moving the
        log into the database, which flushes both, to the next that does."""
        if durable is not self._durable:
            for pragma in _DURABLE if durable else _SWIFT:
                self._connection.execute(pragma)
            self._durable = durable

    def _require_side_files(self) -> None:
        """In the transaction: its lock counts for all who can open the log that it writes to."""
        if not self._side_files.are_there():
            raise StoreUnavailable("replaced")

    async def _begin(self) -> None:
        began = time.monotonic()
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                waited = time.monotonic() - began
                if error_kind(error) != "busy" or waited >= self._busy_seconds:
                    raise
            # In the thread, since timers of an event loop know only milliseconds. But not the next try: whoever blocks
            # the loop to wait for the lock himself would wait for one that only the loop can give back.
            pause = _ASK_AGAIN_SECONDS if waited < _LONG_SECONDS else _ASK_SELDOM_SECONDS
            await self._commit.run(partial(threading.Event.wait, timeout=pause))

    @property
    def idle_connection(self) -> sqlite3.Connection | None:
        """For whoever reads in the same event loop, and ends before it suspends; None while a transaction is under
        way, whose commit would be waited for."""
        return None if self._turn.locked() else self._connection

    def reader(self) -> SqliteReader:
        return SqliteReader(self._path, self)

    async def close(self) -> None:
        """Wait for the transaction under way, then close."""
        async with self._turn:
            await self._commit.close(self._connection.close)


class SqliteReader:
    """Reads where it stands: a look into the page cache costs less than to ask another thread for it. That of a
    `writer` which is idle has at hand what was written last; a cache of its own would be void after each commit."""

    def __init__(self, path: Path, writer: SqliteWriter | None = None) -> None:
        self._path = path
        self._writer = writer
        self._own = None if writer else self._opened()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with store_errors:
            return work((self._writer and self._writer.idle_connection) or self._own or self._opened())

    def _opened(self) -> sqlite3.Connection:
        self._own = connect_read_only(self._path, any_thread=True)
        return self._own

    async def close(self) -> None:
        if self._own is not None:
            self._own.close()


class SqliteSlowReader:
    """Reads in a thread: to count what a million rows are would hold up an event loop."""

    def __init__(self, path: Path) -> None:
        self._connection = connect_read_only(path, any_thread=True)
        self._executor = SerialExecutor("outbox-count")

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with store_errors:
            return await self._executor.run(lambda _: work(self._connection))

    async def close(self) -> None:
        """Wait for the read under way, then close."""
        await self._executor.close(self._connection.close)


class SqliteBodyReader:
    """Reads in a few threads at once, each time on a connection that nobody else has meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(_BODY_THREADS, thread_name_prefix="outbox-body")
        self._free: list[tuple[sqlite3.Connection, int]] = []

    async def read(self, sql: str, values: Mapping[str, Any], use: Callable[[bytes], T], /) -> T:
        with store_errors:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, sql, values, use)

    def _read(self, sql: str, values: Mapping[str, Any], use: Callable[[bytes], T]) -> T:
        connection, mapped = self._free.pop() if self._free else (self._connect(), 0)
        try:
            body: bytes = connection.execute(sql, values).fetchone()[0]
            mapped += len(body)
            if mapped > _REMAP_BYTES:  # all that was read would stay in this process's memory
                map_afresh(connection)
                mapped = 0
        finally:
            self._free.append((connection, mapped))
        return use(body)

    def _connect(self) -> sqlite3.Connection:
        connection = connect_read_only(self._path, any_thread=True)
        map_afresh(connection)
        return connection

    async def close(self) -> None:
        """Wait for what is being read, then close."""
        await asyncio.to_thread(self._threads.shutdown)
        for connection, _ in self._free:
            connection.close()
