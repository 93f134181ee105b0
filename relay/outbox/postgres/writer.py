"""Sessions for an event loop, each in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import asyncpg

from relay.outbox.errors import StoreUnavailable
from relay.outbox.executor import SerialExecutor
from relay.outbox.postgres.connection import BUSY_AGAIN, PostgresConnection
from relay.outbox.store import Connection

T = TypeVar("T")

_MOST_TRIES = 10


class PostgresWriter:
    """Serialises the transactions of one process on one session."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection
        self._executor = SerialExecutor("outbox-commit")

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction: durable on return, undone if it raises. It runs again when it was given up for
        another's sake (a deadlock). Raises StoreUnavailable."""
        return await self._executor.run(partial(self._transact, work))

    def _transact(self, work: Callable[[Connection], T], abandoned: threading.Event) -> T:
        for _ in range(_MOST_TRIES - 1):
            try:
                return self._once(work)
            except StoreUnavailable as error:
                if abandoned.is_set() or not _in_anothers_way(error):
                    raise
        return self._once(work)

    def _once(self, work: Callable[[Connection], T]) -> T:
        with self._connection.transaction():
            return work(self._connection)

    async def close(self) -> None:
        """Wait for the transaction under way, then close."""
        await self._executor.close(self._connection.close)


class PostgresReader:
    """Reads; each statement sees what was committed when it began."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection
        self._executor = SerialExecutor("outbox-read")

    async def run(self, work: Callable[[Connection], T]) -> T:
        return await self._executor.run(lambda _: self._read(work))

    def _read(self, work: Callable[[Connection], T]) -> T:
        return self._connection.despite_a_lost_session(lambda: work(self._connection))

    async def close(self) -> None:
        """Wait for the read under way, then close."""
        await self._executor.close(self._connection.close)


def _in_anothers_way(error: StoreUnavailable) -> bool:
    cause = error.__cause__
    return isinstance(cause, asyncpg.PostgresError) and cause.sqlstate in BUSY_AGAIN
