"""asyncpg for work that is written as plain calls: so what is done with statements is the same code for SQLite and
PostgreSQL, and asyncpg still does the talking.

In an event loop each call stands aside until the server has answered (`greenlets`). In a thread without one it turns a
loop of its own for so long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol, TypeVar

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from relay.outbox.errors import AWAY, StoreUnavailable
from relay.outbox.postgres.clock import ServerClock
from relay.outbox.postgres.failures import error_kind, refusal
from relay.outbox.postgres.greenlets import wait_in_greenlet
from relay.outbox.postgres.placeholders import SCHEMA, numbered
from relay.outbox.postgres.sessions import REFUSALS, Session, SessionFactory, is_pooled, set_local

T = TypeVar("T")

_NOW = "SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
_MEASURE_SECONDS = 30.0
# The server gives a statement up by itself; who waits longer than that waits for a server that does not answer.
_GRACE_SECONDS = 1.0


class Rows:
    """What a statement brought: all of it, at once."""

    __slots__ = ("_at", "_rows", "rowcount")

    def __init__(self, rows: list[Any], status: str | None) -> None:
        self._rows = rows
        self._at = 0
        count = (status or "").rpartition(" ")[2]
        self.rowcount = int(count) if count.isdigit() else -1

    def fetchone(self) -> Any:
        if self._at == len(self._rows):
            return None
        self._at += 1
        return self._rows[self._at - 1]

    def fetchall(self) -> list[Any]:
        left, self._at = self._rows[self._at :], len(self._rows)
        return left

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())


class Waiter(Protocol):
    """How a call waits for the server."""

    def wait(self, coroutine: Coroutine[Any, Any, T], /) -> T:
        """What a coroutine brings."""

    def close(self) -> None:
        """Wait no more."""


class ThreadWaiter:
    """For threads without an event loop, for as long as one turns here."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self.wait = self._loop.run_until_complete

    def close(self) -> None:
        self.wait(_end_tasks())
        self._loop.close()


class LoopWaiter:
    """For work that an event loop has run in a greenlet."""

    wait = staticmethod(wait_in_greenlet)

    def close(self) -> None:
        """The loop goes on, and ends what was begun."""


class PostgresConnection:
    """One session. It connects when it is first used, and again after it was lost."""

    def __init__(
        self,
        sessions: SessionFactory,
        clock: ServerClock,
        seconds: float = 10.0,
        schema: str = SCHEMA,
        waiting: Waiter | None = None,
    ) -> None:
        """`waiting` in a thread without an event loop, unless told otherwise."""
        self.schema = schema
        self._sessions = sessions
        self._clock = clock
        self._statement_seconds = seconds
        self._settings = set_local(seconds)
        self._seconds = seconds + _GRACE_SECONDS
        self._waiting = waiting or ThreadWaiter()
        self._session: Session | None = None
        self._had_session = False
        self._pooled = False
        self._prepared: dict[str, PreparedStatement[asyncpg.Record]] = {}
        self._transacting = False

    def execute(self, sql: str, values: Mapping[str, Any] | Sequence[Any] = (), /) -> Rows:
        """Run one statement. Raises StoreUnavailable, and asyncpg's own errors for what the statement did."""
        found = numbered(sql, self.schema)
        with self._store_errors():
            return self._waiting.wait(self._run(found.text, found.arguments(values)))

    def executemany(self, sql: str, values: Iterable[Any], /) -> Rows:
        found = numbered(sql, self.schema)
        with self._store_errors():
            many = [found.arguments(one) for one in values]
            self._waiting.wait(self._run_many(found.text, many))
            return Rows([], "")

    def script(self, sql: str) -> str:
        """Run some statements, which take no values; returns what the server said of the last."""
        with self._store_errors():
            return self._waiting.wait(self._script(sql))

    async def _run(self, text: str, arguments: Sequence[Any]) -> Rows:
        async with self._session_for_statements() as session:
            prepared = self._prepared.get(text) or await self._prepare(session, text)
            rows = await prepared.fetch(*arguments, timeout=self._seconds)
            return Rows(rows, prepared.get_statusmsg())

    async def _prepare(self, session: Session, text: str) -> PreparedStatement[asyncpg.Record]:
        if self._pooled:
            return await session.prepare(text, name="", timeout=self._seconds)
        self._prepared[text] = prepared = await session.prepare(text, timeout=self._seconds)
        return prepared

    async def _run_many(self, text: str, many: Sequence[Sequence[Any]]) -> None:
        async with self._session_for_statements() as session:
            await session.executemany(text, many, timeout=self._seconds)

    async def _script(self, sql: str) -> str:
        session = await self._connected()
        return await session.execute(sql, timeout=self._seconds)

    @asynccontextmanager
    async def _session_for_statements(self) -> AsyncIterator[Session]:
        """Behind a pooler both halves of a statement reach the same session of the server in a transaction only."""
        session = await self._connected()
        if self._transacting or not self._pooled:
            yield session
            return
        async with session.transaction():
            await session.execute(self._settings)
            yield session

    async def _connected(self) -> Session:
        if self._session is None or self._session.is_closed():
            if self._transacting:
                # On another session its rest would be committed bit by bit, and without its beginning.
                raise asyncpg.ConnectionDoesNotExistError("the session was lost in the middle of a transaction")
            self._prepared.clear()
            self._session = await self._sessions.open(self._statement_seconds)
            self._pooled = await is_pooled(self._session)
            # Behind a session that was lost another server may stand, which has a clock of its own.
            if self._had_session or self._clock.age() > _MEASURE_SECONDS:
                await self._measure()
            self._had_session = True
        return self._session

    def renew_clock(self) -> None:
        """Ask the server what time it is, if that was long ago."""
        if self._clock.age() > _MEASURE_SECONDS:
            with self._store_errors():
                self._waiting.wait(self._measure())

    async def _measure(self) -> None:
        async with self._session_for_statements() as session:
            await self._ask_the_time(session)

    async def _ask_the_time(self, session: Session) -> None:
        asked_at = time.monotonic()
        now: float = await session.fetchval(_NOW, timeout=self._seconds)
        self._clock.set(now, asked_at, time.monotonic())

    @contextmanager
    def transaction(self, kind: str = "", *, durable: bool = True) -> Iterator[None]:
        """Begin, and commit at the end; roll back if the block raises. A commit that is not `durable` is seen by all at
        once, and flushed by the server within a second or so."""
        begin = f"BEGIN {kind}" if durable else f"BEGIN {kind}; SET LOCAL synchronous_commit = off"
        self.despite_a_lost_session(lambda: self._begin(begin))
        self._transacting = True
        try:
            self.renew_clock()
            yield
            self._commit()
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._transacting = False

    def _begin(self, begin: str) -> None:
        self.script(begin)
        if self._pooled:
            self.script(self._settings)

    def _commit(self) -> None:
        if self.script("COMMIT") != "COMMIT":
            raise StoreUnavailable("other", "a statement had failed, and its transaction was rolled back")

    def despite_a_lost_session(self, work: Callable[[], T]) -> T:
        """Do `work`, which changes nothing by itself; again if the session turns out to have been lost before it began:
        nobody hears of that until a statement is sent."""
        had_one = self._session is not None
        try:
            return work()
        except StoreUnavailable as error:
            if not had_one or error.kind not in AWAY or isinstance(error.__cause__, TimeoutError):
                raise
        return work()

    def _roll_back(self) -> None:
        if self._session is None or self._session.is_closed() or not self._session.is_in_transaction():
            return
        try:
            self.script("ROLLBACK")
        except StoreUnavailable:  # the server rolls back what is left of it
            self.drop()

    def drop(self) -> None:
        """Leave the session where it is; the next statement begins another."""
        if self._session is not None:
            self._session.terminate()
        self._session = None
        self._prepared.clear()

    def close(self) -> None:
        """Tell the server, if it still listens."""
        self.drop()
        self._waiting.close()

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        try:
            yield
        except asyncpg.PostgresError as error:
            kind = error_kind(error.sqlstate or "") or ("unavailable" if self._session is None else None)
            if kind is None:
                raise
            if kind in AWAY:
                self.drop()
            raise StoreUnavailable(kind) from error
        except REFUSALS as error:
            if isinstance(error, ValueError):  # a value of the wrong type, which was not even sent
                raise
            self.drop()
            raise refusal(error) from error


async def _end_tasks() -> None:
    """What asyncpg began and nobody waited for: a cancellation of a statement that was given up."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)  # a transport closes its socket in a callback
