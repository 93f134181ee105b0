"""asyncpg for threads without an event loop: each call turns a loop of its own until the server has answered.

So what is done with statements is the same code for SQLite and PostgreSQL, and asyncpg still does the talking.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from relay.errors import StoreUnavailable
from relay.outbox.postgres.clock import ServerClock
from relay.outbox.postgres.words import words

CONNECT_SECONDS = 5.0
_SETTINGS = {
    # A relay that freezes in the middle of a transaction must not hold its locks for ever.
    "idle_in_transaction_session_timeout": "30s",
    "lock_timeout": "5s",
    "jit": "off",  # statements are small, and compiling one takes longer than running it
}
_NOW = "SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
_MEASURE_SECONDS = 30.0

_KINDS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("53100",), "full"),
    (("58030",), "io"),
    (("XX001", "XX002"), "corrupt"),
    (("55P03", "57014", "40001", "40P01"), "busy"),
    # 25006: a standby, which will be the primary or will be replaced by it.
    (("08", "53", "57", "25006", "28", "3D"), "unavailable"),
)
BUSY_AGAIN = ("40001", "40P01")
"""Two transactions stood in each other's way: the one that was given up may be tried again at once."""


class Rows:
    """What a statement brought: all of it, at once."""

    __slots__ = ("_at", "_rows", "rowcount")

    def __init__(self, rows: list[Any], status: str | None) -> None:
        self._rows = rows
        self._at = 0
        count = (status or "").rpartition(" ")[2]
        self.rowcount = int(count) if count.isdigit() else -1

    def fetchone(self) -> Any:
        """The next row, or None."""
        if self._at == len(self._rows):
            return None
        self._at += 1
        return self._rows[self._at - 1]

    def fetchall(self) -> list[Any]:
        """All that are left."""
        left, self._at = self._rows[self._at :], len(self._rows)
        return left

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())


class PostgresConnection:
    """One session. It connects when it is first used, and again after it was lost."""

    def __init__(self, url: str, application: str, clock: ServerClock, seconds: float = 10.0) -> None:
        self._url = url
        self._settings = {**_SETTINGS, "application_name": application}
        self._clock = clock
        self._seconds = seconds
        self._loop = asyncio.new_event_loop()
        self._session: asyncpg.Connection[asyncpg.Record] | None = None
        self._prepared: dict[str, PreparedStatement[asyncpg.Record]] = {}

    def execute(self, sql: str, values: Mapping[str, Any] | Sequence[Any] = (), /) -> Rows:
        """Run one statement. Raises StoreUnavailable, and asyncpg's own errors for what the statement did."""
        found = words(sql)
        with self._store_errors():
            return self._loop.run_until_complete(self._run(found.text, found.arguments(values)))

    def executemany(self, sql: str, values: Iterable[Any], /) -> Rows:
        """Run one statement for each of some values."""
        found = words(sql)
        with self._store_errors():
            many = [found.arguments(one) for one in values]
            self._loop.run_until_complete(self._run_many(found.text, many))
            return Rows([], "")

    def script(self, sql: str) -> None:
        """Run some statements, which take no values."""
        with self._store_errors():
            self._loop.run_until_complete(self._script(sql))

    async def _run(self, text: str, arguments: Sequence[Any]) -> Rows:
        prepared = self._prepared.get(text)
        if prepared is None or self._session is None or self._session.is_closed():
            session = await self._connected()
            self._prepared[text] = prepared = await session.prepare(text, timeout=self._seconds)
        rows = await prepared.fetch(*arguments, timeout=self._seconds)
        return Rows(rows, prepared.get_statusmsg())

    async def _run_many(self, text: str, many: Sequence[Sequence[Any]]) -> None:
        session = await self._connected()
        await session.executemany(text, many, timeout=self._seconds)

    async def _script(self, sql: str) -> None:
        session = await self._connected()
        await session.execute(sql, timeout=self._seconds)

    async def _connected(self) -> asyncpg.Connection[asyncpg.Record]:
        if self._session is None or self._session.is_closed():
            self._prepared.clear()
            self._session = await asyncpg.connect(
                self._url, timeout=CONNECT_SECONDS, statement_cache_size=0, server_settings=self._settings
            )
            await self._measure(self._session)
        return self._session

    async def _measure(self, session: asyncpg.Connection[asyncpg.Record]) -> None:
        asked_at = time.monotonic()
        now: float = await session.fetchval(_NOW, timeout=self._seconds)
        self._clock.set(now, asked_at, time.monotonic())

    @contextmanager
    def transaction(self, kind: str = "") -> Iterator[None]:
        """Begin, and commit at the end; roll back if the block raises."""
        self.script(f"BEGIN {kind}")
        if self._clock.age() > _MEASURE_SECONDS:
            with self._store_errors():
                assert self._session is not None
                self._loop.run_until_complete(self._measure(self._session))
        try:
            yield
            self.script("COMMIT")
        except BaseException:
            self._roll_back()
            raise

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
        """Say goodbye, if the server still listens."""
        if self._session is not None and not self._session.is_closed():
            self._session.terminate()
        self._loop.run_until_complete(asyncio.sleep(0))  # the transport closes its socket in a callback
        self._loop.close()

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        try:
            yield
        except asyncpg.PostgresError as error:
            kind = error_kind(error.sqlstate or "")
            if kind is None:
                raise
            if kind == "unavailable":
                self.drop()
            raise StoreUnavailable(kind) from error
        except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            if isinstance(error, ValueError):  # a value of the wrong type, which was not even sent
                raise
            self.drop()
            raise StoreUnavailable("unavailable") from error


def error_kind(sqlstate: str) -> str | None:
    """busy, full, io, corrupt or unavailable; None for what the statement did, and not the server."""
    return next((kind for states, kind in _KINDS if sqlstate.startswith(states)), None)
