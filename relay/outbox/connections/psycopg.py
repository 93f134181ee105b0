"""psycopg 3, sync and async, and psycopg 2: they begin a transaction by themselves, unless told to commit every
statement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from relay.outbox.connections.adapter import AsyncAdapter, SyncAdapter, Transaction
from relay.outbox.postgres.placeholders import pyformat
from relay.outbox.producing import POSTGRES, Brought

if TYPE_CHECKING:
    import psycopg

_IDLE, _FAILED, _UNKNOWN = 0, 3, 4  # libpq's PQTRANS_IDLE, PQTRANS_INERROR and PQTRANS_UNKNOWN: no connection
_REMEDY = "call this within `with connection.transaction():`, or execute BEGIN before"


class Psycopg(SyncAdapter):
    """psycopg 3's Connection."""

    remedy = _REMEDY
    scripts = POSTGRES

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def transaction(self) -> Transaction:
        return _transaction(self._connection.info.transaction_status, autocommit=self._connection.autocommit)

    def run(self, sql: str, values: Mapping[str, Any]) -> Brought:
        from psycopg import Cursor  # the connection's own may read other placeholders, and give other rows
        from psycopg.rows import tuple_row

        with Cursor(self._connection, row_factory=tuple_row) as cursor:
            cursor.execute(pyformat(sql).encode(), values)
            return cursor.rowcount, cursor.fetchall()


class PsycopgAsync(AsyncAdapter):
    """psycopg 3's AsyncConnection."""

    remedy = f"{_REMEDY}, with `async` and `await`"
    scripts = POSTGRES

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    def transaction(self) -> Transaction:
        return _transaction(self._connection.info.transaction_status, autocommit=self._connection.autocommit)

    async def run(self, sql: str, values: Mapping[str, Any]) -> Brought:
        from psycopg import AsyncCursor
        from psycopg.rows import tuple_row

        async with AsyncCursor(self._connection, row_factory=tuple_row) as cursor:
            await cursor.execute(pyformat(sql).encode(), values)
            return cursor.rowcount, await cursor.fetchall()


class Psycopg2(SyncAdapter):
    """psycopg 2's connection."""

    remedy = "set `connection.autocommit = False` before the transaction, or execute BEGIN"
    scripts = POSTGRES

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def transaction(self) -> Transaction:
        status = _UNKNOWN if self._connection.closed else self._connection.get_transaction_status()
        return _transaction(status, autocommit=self._connection.autocommit)

    def run(self, sql: str, values: Mapping[str, Any]) -> Brought:
        from psycopg2 import extensions

        with self._connection.cursor(cursor_factory=extensions.cursor) as cursor:
            cursor.execute(pyformat(sql), values)
            return cursor.rowcount, cursor.fetchall()


def _transaction(status: int, *, autocommit: bool) -> Transaction:
    if status == _UNKNOWN:
        return Transaction.CLOSED
    if status == _FAILED:
        return Transaction.FAILED
    return Transaction.NONE if autocommit and status == _IDLE else Transaction.CALLERS
