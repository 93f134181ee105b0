"""asyncpg's connection, the caller's own or lent by a pool; and the one that the outbox makes of it for itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from relay.outbox.connections.adapter import AsyncAdapter, SyncAdapter, Transaction
from relay.outbox.postgres.placeholders import numbered
from relay.outbox.producing import POSTGRES, Brought
from relay.outbox.store import Connection


class AsyncpgConnection(Protocol):
    """What is used of either."""

    def is_closed(self) -> bool:
        """Whether it was closed, or lost."""

    def is_in_transaction(self) -> bool:
        """Whether there was a BEGIN. A transaction that has failed is one, until it is rolled back."""

    async def fetch(self, query: str, *args: Any) -> list[Any]: ...


class Asyncpg(AsyncAdapter):
    """Without a transaction that was begun, asyncpg has every statement committed by itself."""

    remedy = (
        "call this within `async with connection.transaction():`, or where the connection is SQLAlchemy's"
        " driver_connection, pass SQLAlchemy's own session or connection"
    )
    scripts = POSTGRES

    def __init__(self, connection: AsyncpgConnection) -> None:
        self._connection = connection

    def transaction(self) -> Transaction:
        if self._is_closed():  # it may remember a transaction all the same
            return Transaction.CLOSED
        return Transaction.CALLERS if self._connection.is_in_transaction() else Transaction.NONE

    async def run(self, sql: str, values: Mapping[str, Any]) -> Brought:
        found = numbered(sql)
        return -1, await self._connection.fetch(found.text, *found.arguments(values))

    def _is_closed(self) -> bool:
        from asyncpg import InterfaceError  # an extra, which is there if the caller has a connection of its

        try:
            return self._connection.is_closed()
        except InterfaceError:  # a pool takes back what it lent, if that is lost
            return True


class OwnPostgres(SyncAdapter):
    """A PostgresConnection, whose transactions are begun by whoever lends it."""

    remedy = "begin a transaction before"
    scripts = POSTGRES

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def transaction(self) -> Transaction:
        return Transaction.CALLERS

    def run(self, sql: str, values: Mapping[str, Any]) -> Brought:
        cursor = self._connection.execute(sql, values)
        return cursor.rowcount, cursor.fetchall()
