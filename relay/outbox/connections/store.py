"""The store's own connection to PostgreSQL, whose transactions are begun by whoever lends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.outbox.connections.adapter import SyncAdapter, Transaction
from relay.outbox.producing import POSTGRES, Brought
from relay.outbox.store import Connection


class Store(SyncAdapter):
    """A PostgresConnection."""

    remedy = "begin a transaction before"
    scripts = POSTGRES

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def transaction(self) -> Transaction:
        return Transaction.CALLERS

    def run(self, sql: str, values: Mapping[str, Any]) -> Brought:
        cursor = self._connection.execute(sql, values)
        return cursor.rowcount, cursor.fetchall()
