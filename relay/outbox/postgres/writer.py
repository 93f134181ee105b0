"""Sessions for an event loop, shared by several rooms: each works on one that nobody else has meanwhile.

What is asked one after another needs one session, however many ask. Under load there are as many as work at once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import asyncpg

from relay.outbox.errors import StoreUnavailable
from relay.outbox.executor import SerialTasks
from relay.outbox.postgres.connection import PostgresConnection
from relay.outbox.postgres.failures import BUSY_AGAIN
from relay.outbox.postgres.greenlets import run_in_greenlet
from relay.outbox.store import Connection

T = TypeVar("T")

_MOST_TRIES = 10
_WAIT_SECONDS = 0.1  # for a session that somebody is about to give back, before another one is opened
_IDLE_SECONDS = 10.0  # after which it is closed


class SharedConnections:
    """Of one process, for one event loop. They are closed when nobody needs them any more."""

    def __init__(self, connect: Callable[[], PostgresConnection]) -> None:
        self._connect = connect
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._free: list[tuple[PostgresConnection, float]] = []  # the one that was used last at the end
        self._taken = 0
        self._users = 0

    def join(self) -> None:
        """One more needs them, until it leaves."""
        self._users += 1

    def leave(self) -> None:
        """Who leaves last closes them."""
        self._users -= 1
        if not self._users:
            for connection, _ in self._free:
                connection.close()
            self._free = []

    @asynccontextmanager
    async def one(self, *, swift: bool = False) -> AsyncIterator[PostgresConnection]:
        """Nobody else has it until the block is left. Who is `swift` does not wait for one that is given back soon."""
        if not swift and not self._free and self._taken:
            await self._wait()
        self._taken += 1
        connection = self._free.pop()[0] if self._free else self._connect()
        try:
            yield connection
        finally:
            self._give_back(connection)

    async def _wait(self) -> None:
        given_back = asyncio.get_running_loop().create_future()
        self._waiting.append(given_back)
        await asyncio.wait([given_back], timeout=_WAIT_SECONDS)
        given_back.cancel()

    def _give_back(self, connection: PostgresConnection) -> None:
        now = time.monotonic()
        self._taken -= 1
        for one, since in self._free:
            if now - since > _IDLE_SECONDS:
                one.close()
        self._free = [(one, since) for one, since in self._free if now - since <= _IDLE_SECONDS]
        self._free.append((connection, now))
        while self._waiting:
            if not (waiting := self._waiting.popleft()).done():
                waiting.set_result(None)
                break


class _Room:
    """What one room does with the sessions of the event loop that it runs in. They are looked up when they are first
    needed: a room may be made before its loop turns."""

    def __init__(self, shared: Callable[[], SharedConnections]) -> None:
        self._shared = shared
        self._connections: SharedConnections | None = None

    async def do(self, work: Callable[[PostgresConnection], T], *, swift: bool = False) -> T:
        if self._connections is None:
            self._connections = self._shared()
            self._connections.join()
        async with self._connections.one(swift=swift) as connection:
            return await run_in_greenlet(partial(work, connection))

    async def leave(self) -> None:
        if self._connections is not None:
            self._connections.leave()
            self._connections = None
            await asyncio.sleep(0)  # a transport closes its socket in a callback


class PostgresWriter:
    """Serialises the transactions of one room: those that wait for the disk, and beside them those that do not. So no
    end of an attempt waits until something was claimed, nor a claim until that is flushed."""

    def __init__(self, shared: Callable[[], SharedConnections]) -> None:
        self._shared = shared
        self._room = _Room(shared)
        self._durable, self._swift = SerialTasks(), SerialTasks()

    async def execute(self, sql: str, values: Mapping[str, Any], /, *, durable: bool = True) -> list[Any]:
        """Run one statement, which is a transaction of its own; returns its rows. A durable one may be run twice; one
        that is not says so itself (`synchronous_commit`). Raises StoreUnavailable."""

        def work(connection: PostgresConnection) -> list[Any]:
            def once() -> list[Any]:
                return connection.execute(sql, values).fetchall()

            return connection.despite_a_lost_session(once) if durable else once()

        return await self._turn(work, durable)

    async def run(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Do `work` in a transaction: durable on return where it shall be, undone if it raises. It runs again when it
        was given up for another's sake (a deadlock). Raises StoreUnavailable."""
        return await self._turn(partial(_in_transaction, work, durable), durable)

    async def _turn(self, work: Callable[[PostgresConnection], T], durable: bool) -> T:
        turns = self._durable if durable else self._swift
        return await turns.run(
            lambda abandoned: self._room.do(partial(_despite_others, work, abandoned), swift=not durable)
        )

    def reader(self) -> PostgresReader:
        return PostgresReader(self._shared)

    async def close(self) -> None:
        """Wait for the transactions under way, then close."""
        await self._swift.close()
        await self._durable.close()
        await self._room.leave()


class PostgresReader:
    """Reads; each statement sees what was committed when it began."""

    def __init__(self, shared: Callable[[], SharedConnections]) -> None:
        self._room = _Room(shared)
        self._turns = SerialTasks()

    async def run(self, work: Callable[[Connection], T]) -> T:
        return await self._turns.run(lambda _: self._room.do(partial(_read, work)))

    async def close(self) -> None:
        """Wait for the read under way, then close."""
        await self._turns.close()
        await self._room.leave()


class PostgresBodyReader:
    """Reads beside whoever claims, and has it used in a thread."""

    def __init__(self, shared: Callable[[], SharedConnections]) -> None:
        self._reader = PostgresReader(shared)

    async def read(self, sql: str, values: Mapping[str, Any], use: Callable[[bytes], T], /) -> T:
        body = await self._reader.run(lambda connection: connection.execute(sql, values).fetchone()[0])
        return await asyncio.to_thread(use, body)

    async def close(self) -> None:
        await self._reader.close()


def _despite_others(
    work: Callable[[PostgresConnection], T], abandoned: threading.Event, connection: PostgresConnection
) -> T:
    for _ in range(_MOST_TRIES - 1):
        try:
            return work(connection)
        except StoreUnavailable as error:
            if abandoned.is_set() or not _in_anothers_way(error):
                raise
    return work(connection)


def _in_transaction(work: Callable[[Connection], T], durable: bool, connection: PostgresConnection) -> T:
    with connection.transaction(durable=durable):
        return work(connection)


def _read(work: Callable[[Connection], T], connection: PostgresConnection) -> T:
    return connection.despite_a_lost_session(partial(_in_time, work, connection))


def _in_time(work: Callable[[Connection], T], connection: PostgresConnection) -> T:
    connection.renew_clock()
    return work(connection)


def _in_anothers_way(error: StoreUnavailable) -> bool:
    cause = error.__cause__
    return isinstance(cause, asyncpg.PostgresError) and cause.sqlstate in BUSY_AGAIN
