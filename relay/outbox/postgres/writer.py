"""Sessions for an event loop, shared by several rooms: each works in a thread, on one that nobody else has meanwhile.

What is asked one after another needs one session, however many ask. Under load there are as many as work at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import asyncpg

from relay.outbox.errors import StoreUnavailable
from relay.outbox.executor import SerialExecutor
from relay.outbox.postgres.connection import BUSY_AGAIN, PostgresConnection
from relay.outbox.store import Connection

T = TypeVar("T")

_MOST_TRIES = 10
_WAIT_SECONDS = 0.1  # for a session that somebody is about to give back, before another one is opened
_IDLE_SECONDS = 10.0  # after which it is closed


class SharedConnections:
    """Of one process, for its threads. They are closed when nobody needs them any more."""

    def __init__(self, connect: Callable[[], PostgresConnection]) -> None:
        self._connect = connect
        self._changed = threading.Condition()
        self._free: list[tuple[PostgresConnection, float]] = []  # the one that was used last at the end
        self._taken = 0
        self._users = 0

    def join(self) -> None:
        """One more needs them, until it leaves."""
        with self._changed:
            self._users += 1

    def leave(self) -> None:
        """Who leaves last closes them."""
        with self._changed:
            self._users -= 1
            left = [] if self._users else self._free
            self._free = self._free if self._users else []
        for connection, _ in left:
            connection.close()

    @contextmanager
    def one(self) -> Iterator[PostgresConnection]:
        """Nobody else has it until the block is left."""
        connection = self._take() or self._connect()
        try:
            yield connection
        finally:
            self._give_back(connection)

    def _take(self) -> PostgresConnection | None:
        with self._changed:
            if not self._free and self._taken:
                self._changed.wait(_WAIT_SECONDS)
            self._taken += 1
            return self._free.pop()[0] if self._free else None

    def _give_back(self, connection: PostgresConnection) -> None:
        now = time.monotonic()
        with self._changed:
            self._taken -= 1
            idle = [one for one, since in self._free if now - since > _IDLE_SECONDS]
            self._free = [(one, since) for one, since in self._free if now - since <= _IDLE_SECONDS]
            self._free.append((connection, now))
            self._changed.notify()
        for one in idle:
            one.close()


class PostgresWriter:
    """Serialises the transactions of one room: those that wait for the disk, and beside them those that do not. So no
    end of an attempt waits until something was claimed, nor a claim until that is flushed."""

    def __init__(self, connections: SharedConnections) -> None:
        self._connections = connections
        self._executor, self._swift = SerialExecutor("outbox-commit"), SerialExecutor("outbox-claim")
        connections.join()

    async def execute(self, sql: str, values: Mapping[str, Any], /) -> list[Any]:
        """Run one statement, which is a transaction of its own and may be run twice; returns its rows. Raises
        StoreUnavailable."""

        def work(connection: PostgresConnection) -> list[Any]:
            return connection.despite_a_lost_session(lambda: connection.execute(sql, values).fetchall())

        return await self._executor.run(partial(self._try, work))

    async def run(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Do `work` in a transaction: durable on return where it shall be, undone if it raises. It runs again when it
        was given up for another's sake (a deadlock). Raises StoreUnavailable."""
        executor = self._executor if durable else self._swift
        return await executor.run(partial(self._try, partial(_in_transaction, work, durable)))

    def _try(self, work: Callable[[PostgresConnection], T], abandoned: threading.Event) -> T:
        with self._connections.one() as connection:
            for _ in range(_MOST_TRIES - 1):
                try:
                    return work(connection)
                except StoreUnavailable as error:
                    if abandoned.is_set() or not _in_anothers_way(error):
                        raise
            return work(connection)

    async def close(self) -> None:
        """Wait for the transactions under way, then close."""
        await self._swift.close(lambda: None)
        await self._executor.close(self._connections.leave)


class PostgresReader:
    """Reads; each statement sees what was committed when it began."""

    def __init__(self, connections: SharedConnections) -> None:
        self._connections = connections
        self._executor = SerialExecutor("outbox-read")
        connections.join()

    async def run(self, work: Callable[[Connection], T]) -> T:
        return await self._executor.run(lambda _: self._read(work))

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self._connections.one() as connection:
            return connection.despite_a_lost_session(partial(_in_time, work, connection))

    async def close(self) -> None:
        """Wait for the read under way, then close."""
        await self._executor.close(self._connections.leave)


class PostgresBodyReader:
    """Reads in a thread of its own, beside whoever claims."""

    def __init__(self, connections: SharedConnections) -> None:
        self._reader = PostgresReader(connections)

    async def read(self, sql: str, values: Mapping[str, Any], use: Callable[[bytes], T], /) -> T:
        return await self._reader.run(lambda connection: use(connection.execute(sql, values).fetchone()[0]))

    async def close(self) -> None:
        await self._reader.close()


def _in_transaction(work: Callable[[Connection], T], durable: bool, connection: PostgresConnection) -> T:
    with connection.transaction(durable=durable):
        return work(connection)


def _in_time(work: Callable[[Connection], T], connection: PostgresConnection) -> T:
    connection.renew_clock()
    return work(connection)


def _in_anothers_way(error: StoreUnavailable) -> bool:
    cause = error.__cause__
    return isinstance(cause, asyncpg.PostgresError) and cause.sqlstate in BUSY_AGAIN
