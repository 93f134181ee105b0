"""Python's own sqlite3, and aiosqlite."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from relay.outbox.connections.adapter import AsyncAdapter, SyncAdapter, Transaction
from relay.outbox.producing import SQLITE, Brought

if TYPE_CHECKING:
    import aiosqlite

_REMEDY = 'execute "BEGIN IMMEDIATE" before, and commit after it'


class Sqlite(SyncAdapter):
    remedy = _REMEDY
    scripts = SQLITE

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def transaction(self) -> Transaction:
        return _transaction(self._connection)

    def run(self, sql: str, values: Mapping[str, Any]) -> Brought:
        cursor = self._connection.execute(sql, values)
        return cursor.rowcount, cursor.fetchall()


class Aiosqlite(AsyncAdapter):
    remedy = _REMEDY
    scripts = SQLITE

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    def transaction(self) -> Transaction:
        return _transaction(self._connection)

    async def run(self, sql: str, values: Mapping[str, Any]) -> Brought:
        async with self._connection.execute(sql, values) as cursor:
            return cursor.rowcount, list(await cursor.fetchall())


def _transaction(connection: sqlite3.Connection | aiosqlite.Connection) -> Transaction:
    """Where Python opens transactions by itself, the first statement will open one."""
    try:
        begun = connection.in_transaction
    except (sqlite3.ProgrammingError, ValueError):
        return Transaction.CLOSED
    commits_by_itself = connection.isolation_level is None or getattr(connection, "autocommit", False) is True
    return Transaction.NONE if commits_by_itself and not begun else Transaction.CALLERS
