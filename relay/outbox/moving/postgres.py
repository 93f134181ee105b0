"""The outbox's schema of a PostgreSQL database, as the source or the target of a move."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from relay.outbox.moving.tables import Table, place, quoted
from relay.outbox.store import Connection

_PROCESSES = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND application_name = current_setting('application_name')
"""
_COLUMNS = """
SELECT pg_class.relname, attname, format_type(atttypid, NULL)
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
WHERE relkind = 'r' AND relpersistence = 'p'
  AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'outspoken')
ORDER BY relname, attnum
"""
_KEYS = """
SELECT relname, attname
FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid, unnest(conkey) WITH ORDINALITY AS part (number, place)
JOIN pg_attribute ON attnum = number
WHERE attrelid = conrelid AND contype = 'p'
  AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'outspoken')
ORDER BY place
"""
_REFERENCES = """
SELECT one.relname, other.relname
FROM pg_constraint JOIN pg_class AS one ON one.oid = conrelid JOIN pg_class AS other ON other.oid = confrelid
WHERE contype = 'f' AND one.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'outspoken')
"""
_SEQUENCES = """
SELECT relname, attname, pg_get_serial_sequence(format('%I.%I', 'outspoken', relname), attname)
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attidentity <> ''
WHERE relkind = 'r' AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'outspoken') ORDER BY relname
"""
_LAST_NUMBER = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {}"
_SET_NUMBER = """
SELECT setval('{sequence}', greatest(number, 1), number > 0)
FROM (SELECT greatest(max({column}), CAST(? AS bigint)) AS number FROM {table}) AS last
"""


@dataclass(frozen=True, slots=True)
class PostgresDialect:
    """The outbox's schema of the database that a connection leads to."""

    insertion_clause: str = "OVERRIDING SYSTEM VALUE"
    keeps_nul: bool = False

    def processes(self, connection: Connection) -> int:
        """Sessions under the name that engines and relays go by."""
        count: int = connection.execute(_PROCESSES).fetchone()[0]
        return count

    def tables(self, connection: Connection) -> tuple[Table, ...]:
        columns: dict[str, dict[str, str]] = {}
        for table, column, kind in connection.execute(_COLUMNS):
            columns.setdefault(table, {})[column] = kind
        keys: dict[str, tuple[str, ...]] = {}
        for table, column in connection.execute(_KEYS):
            keys[table] = (*keys.get(table, ()), column)
        refers_to = dict.fromkeys(("attempts", "bodies"), frozenset({"deliveries"}))  # which nothing checks here
        for table, other in connection.execute(_REFERENCES):
            refers_to[table] = refers_to.get(table, frozenset()) | {other}
        return tuple(
            Table(name, of, keys.get(name, ()), refers_to.get(name, frozenset())) for name, of in columns.items()
        )

    def lock(self, connection: Connection, tables: Iterable[Table]) -> None:
        """Others may read them still."""
        connection.execute(f"LOCK TABLE {', '.join(place(table.name) for table in tables)} IN SHARE MODE")

    def lift_timeouts(self, connection: Connection) -> None:
        """It idles while it waits for the other database, and reads every row."""
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        connection.execute("SET LOCAL statement_timeout = 0")

    def sorted_by(self, column: str, kind: str) -> str:
        """By code points, whatever the language of the database."""
        return f'"{column}" COLLATE "C"' if kind == "text" else f'"{column}"'

    def size_of(self, column: str, kind: str) -> str | None:
        """Bytes before compression."""
        texts = {"bytea": f'octet_length("{column}")', "text": f'octet_length("{column}")'}
        return texts.get(kind, f'octet_length(CAST("{column}" AS text))' if kind in {"json", "jsonb"} else None)

    def numbers(self, connection: Connection, tables: Iterable[Table]) -> dict[str, int]:
        """Those of identity columns."""
        names = {table.name for table in tables}
        sequences = [(table, one) for table, _, one in connection.execute(_SEQUENCES) if table in names]
        return {table: connection.execute(_LAST_NUMBER.format(one)).fetchone()[0] for table, one in sequences}

    def set_numbers(self, connection: Connection, numbers: Mapping[str, int]) -> None:
        """Rows that came with their numbers have not moved the sequences."""
        for table, column, sequence in connection.execute(_SEQUENCES):
            sql = _SET_NUMBER.format(sequence=sequence, column=quoted(column), table=place(table))
            connection.execute(sql, (numbers.get(table, 0),))

    def disable_triggers(self, connection: Connection, tables: Iterable[Table]) -> dict[str, str]:
        """All but those of foreign keys, which are checked all the same."""
        for table in tables:
            connection.execute(f"ALTER TABLE {place(table.name)} DISABLE TRIGGER USER")
        return {}

    def enable_triggers(self, connection: Connection, tables: Iterable[Table], kept: Mapping[str, str]) -> None:
        del kept
        for table in tables:
            connection.execute(f"ALTER TABLE {place(table.name)} ENABLE TRIGGER USER")
