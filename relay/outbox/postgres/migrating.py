"""Brings a PostgreSQL database up to date: each migration in a transaction of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from relay.outbox.migrations import Migration, missing
from relay.outbox.postgres.connection import PostgresConnection

# Any number, as long as it is always the same: engines and relays that start together migrate one after another.
_LOCK = "SELECT pg_advisory_xact_lock(7202611)"
_MIGRATIONS_TABLE = """
CREATE TABLE IF NOT EXISTS migrations (
    room TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL,
    applied_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (room, number)
)
"""
_APPLIED = "SELECT number, sha256 FROM migrations WHERE room = ?"
_APPLY = "INSERT INTO migrations VALUES (?, ?, ?, ?, extract(epoch FROM now()))"


def migrate(connection: PostgresConnection, sets: Sequence[tuple[Migration, ...]]) -> tuple[Migration, ...]:
    """Apply what is missing; returns what was applied. Raises SchemaError and StoreUnavailable."""
    with connection.transaction():
        connection.execute(_LOCK)
        connection.script(_MIGRATIONS_TABLE)
    return tuple(migration for known in sets for migration in _apply_missing(connection, known))


def _apply_missing(connection: PostgresConnection, known: Sequence[Migration]) -> Iterator[Migration]:
    for migration in known:
        with connection.transaction():
            connection.execute(_LOCK)
            applied = dict(connection.execute(_APPLIED, (migration.room,)))
            fresh = missing(migration, known, applied)
            if fresh:
                connection.script(migration.sql)
                connection.execute(_APPLY, (migration.room, migration.number, migration.name, migration.sha256))
        if fresh:
            yield migration
