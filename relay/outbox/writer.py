"""One connection that writes without holding up the event loop.

Statements run inline (microseconds, and no other thread to fight for the interpreter lock), the commit with its
fsync runs in a thread. A locked database is asked again every millisecond: SQLite's own busy handler backs off to
100 ms and starves behind a steady producer.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from relay.errors import StoreUnavailable
from relay.outbox.database import BUSY_SECONDS, connect

_ASK_AGAIN_SECONDS = 0.001


class Writer:
    """Serialises the transactions of one process on one connection."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path, busy_seconds=0, any_thread=True)
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox-commit")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[sqlite3.Connection]:
        """A write transaction: durable once the block is left, undone if it raises. The block must not await.

        Raises StoreUnavailable when the database stays locked, or the disk is full or broken.
        """
        async with self._turn:
            try:
                await self._begin()
                yield self._connection
                await self._run("COMMIT")
            except sqlite3.Error as error:
                raise StoreUnavailable(error_kind(error)) from error
            finally:
                if self._connection.in_transaction:
                    await self._run("ROLLBACK")

    async def _begin(self) -> None:
        give_up = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error_kind(error) != "busy" or time.monotonic() >= give_up:
                    raise
            await asyncio.sleep(_ASK_AGAIN_SECONDS)

    async def _run(self, sql: str) -> None:
        # Shielded: a commit that was begun ends before anybody else may touch the connection.
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._connection.execute, sql)
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            await work
            raise

    async def close(self) -> None:
        """Wait for the transaction under way, then close."""
        async with self._turn:
            self._thread.shutdown()
            self._connection.close()


def error_kind(error: sqlite3.Error) -> str:
    """busy, full, io, corrupt, unavailable or other: SQLite's primary result code, never its text."""
    name: str = getattr(error, "sqlite_errorname", "") or ""
    primary = "_".join(name.split("_")[:2])
    kinds = {
        "SQLITE_BUSY": "busy",
        "SQLITE_LOCKED": "busy",
        "SQLITE_FULL": "full",
        "SQLITE_IOERR": "io",
        "SQLITE_CORRUPT": "corrupt",
        "SQLITE_NOTADB": "corrupt",
        "SQLITE_CANTOPEN": "unavailable",
        "SQLITE_READONLY": "unavailable",
    }
    return kinds.get(primary, "other")
