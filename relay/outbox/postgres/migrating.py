"""Brings a PostgreSQL database up to date: all that is missing in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from relay.outbox.migrations import TABLE, TABLE_BEFORE, Migration, MigrationStep, is_ours, missing, record, script
from relay.outbox.postgres.connection import PostgresConnection
from relay.outbox.postgres.placeholders import SCHEMA, file_in, in_schema, quoted

# Any number, as long as it is always the same: engines and relays that start together migrate one after another.
_LOCK = "SELECT pg_advisory_xact_lock(7202611)"
# By the catalogue, which everybody may read: to_regclass fails where the schema may not be used.
HAS_TABLE = """
SELECT EXISTS (SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
               WHERE nspname = 'outspoken' AND relname = 'migrations')
"""
# Where a version before the schema left it: found as that version found it. Only the schema that there is without
# anybody's saying so takes it over.
_PLACE_BEFORE = """
SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_class.oid = to_regclass('migrations') AND 5 = (
    SELECT count(*) FROM pg_attribute
    WHERE attrelid = pg_class.oid AND attname IN ('room', 'number', 'name', 'sha256', 'applied_at'))
"""
_ROWS_BEFORE = f"SELECT room, number, sha256 FROM {TABLE_BEFORE}"  # noqa: S608
_HAS_SCHEMA = f"SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = '{SCHEMA}')"  # noqa: S608
_MAKE_SCHEMA = "CREATE SCHEMA IF NOT EXISTS {};"
_MAKE_TABLE = f"""
CREATE TABLE {in_schema(TABLE)} (
    room TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL,
    applied_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (room, number)
);
"""
_MOVE_TABLE = f"ALTER TABLE {TABLE_BEFORE} SET SCHEMA {SCHEMA}"
_APPLIED = f"SELECT number, sha256 FROM {TABLE} WHERE room = ?"  # noqa: S608
_NOW = "extract(epoch FROM now())"


def migrate(connection: PostgresConnection, sets: Sequence[tuple[Migration, ...]]) -> tuple[Migration, ...]:
    """Apply what is missing; returns what was applied. One that is up to date is only read. Raises SchemaError and
    StoreUnavailable."""
    with connection.transaction():
        if _has_table(connection) and not any(_missing(connection, sets)):
            return ()
        connection.execute(_LOCK)
        if not _has_table(connection):
            _begin(connection, sets)
        return tuple(migration for step in _missing(connection, sets) for migration in _apply(connection, step))


def migration_script(sets: Sequence[tuple[Migration, ...]], schema: str) -> str:
    """What `migrate` does to a database that has nothing of it."""
    all_of_it = script(_MAKE_TABLE, in_schema(TABLE), sets, _NOW)
    begin, rest = all_of_it.split("\n\n", 1)
    return f"{begin}\n\n{_MAKE_SCHEMA.format(quoted(schema))}\n{file_in(rest, schema)}"


def _missing(connection: PostgresConnection, sets: Sequence[tuple[Migration, ...]]) -> Iterator[MigrationStep]:
    for known in sets:
        yield from missing(known, dict(connection.execute(_APPLIED, (known[0].room,))))


def _has_table(connection: PostgresConnection) -> bool:
    there: bool = connection.execute(HAS_TABLE).fetchone()[0]
    return there


def _begin(connection: PostgresConnection, sets: Sequence[tuple[Migration, ...]]) -> None:
    """Make the schema if need be, and the table of migrations, or take over that of an older version."""
    place = _place_before(connection, sets)
    if not connection.execute(_HAS_SCHEMA).fetchone()[0]:  # made for a role that may not, it is not even asked for
        connection.script(_MAKE_SCHEMA.format(quoted(connection.schema)))
    if place is None:
        connection.script(file_in(_MAKE_TABLE, connection.schema))
        return
    # The files up to the move work where their tables are, and call them by their names alone.
    connection.script(f"SET LOCAL search_path = {place}")
    connection.script(_MOVE_TABLE)


def _place_before(connection: PostgresConnection, sets: Sequence[tuple[Migration, ...]]) -> str | None:
    if connection.schema != SCHEMA:
        return None
    found = connection.execute(_PLACE_BEFORE).fetchone()
    if found is None or not is_ours(sets, [tuple(row) for row in connection.execute(_ROWS_BEFORE)]):
        return None
    name: str = found[0].replace('"', '""')
    return f'"{name}"'


def _apply(connection: PostgresConnection, step: MigrationStep) -> tuple[Migration, ...]:
    connection.script(file_in(step.sql, connection.schema))
    connection.script(record(in_schema(TABLE, connection.schema), step.migrations, _NOW))
    return step.migrations
