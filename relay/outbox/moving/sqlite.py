"""A SQLite file as the source or the target of a move."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from relay.outbox.moving.tables import PREFIX, Table
from relay.outbox.sqlite.liveness import living
from relay.outbox.store import Connection

_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'outspoken\\_%' ESCAPE '\\'"
_COLUMNS = "SELECT name, lower(type), pk FROM pragma_table_info(?)"
_REFERENCES = 'SELECT "table" FROM pragma_foreign_key_list(?)'
_TRIGGERS = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name LIKE 'outspoken\\_%' ESCAPE '\\'"
_NUMBERED = f"{_TABLES} AND sql LIKE '%AUTOINCREMENT%'"
_NUMBERS = "SELECT name, seq FROM sqlite_sequence"


@dataclass(frozen=True, slots=True)
class SqliteDialect:
    """The file at `path`. Its transactions have no timeout, and whoever writes is the only writer."""

    path: Path
    insertion_clause: str = ""
    keeps_nul: bool = True

    def processes(self, connection: Connection) -> int:
        """Those whose liveness lock stands beside the file."""
        del connection
        return living(self.path)

    def tables(self, connection: Connection) -> tuple[Table, ...]:
        """Ours, whatever else is in the file."""
        names = [name for (name,) in connection.execute(_TABLES).fetchall()]
        return tuple(_table(connection, name) for name in names)

    def lock(self, connection: Connection, tables: Iterable[Table]) -> None:
        """A write transaction holds the whole file."""

    def lift_timeouts(self, connection: Connection) -> None:
        """There are none."""

    def sorted_by(self, column: str, kind: str) -> str:
        """The bytes of UTF-8 sort as the code points do."""
        del kind
        return f'"{column}"'

    def size_of(self, column: str, kind: str) -> str | None:
        """Characters of a text, which is near enough: telling its bytes would copy it."""
        return f'length("{column}")' if kind in {"blob", "text"} else None

    def numbers(self, connection: Connection, tables: Iterable[Table]) -> dict[str, int]:
        """Those of tables with AUTOINCREMENT."""
        names = {table.name for table in tables}
        numbers = ((name.removeprefix(PREFIX), number) for name, number in connection.execute(_NUMBERS).fetchall())
        return {name: number for name, number in numbers if name in names}

    def set_numbers(self, connection: Connection, numbers: Mapping[str, int]) -> None:
        """An INSERT has seen to the largest that is there."""
        known = dict(connection.execute(_NUMBERS).fetchall())
        for (name,) in connection.execute(_NUMBERED).fetchall():
            number = numbers.get(name.removeprefix(PREFIX), 0)
            if number > known.get(name, 0):
                connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (name,))
                connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, number))

    def disable_triggers(self, connection: Connection, tables: Iterable[Table]) -> dict[str, str]:
        """SQLite can only drop them; returns the statements that made them."""
        del tables
        triggers = dict(connection.execute(_TRIGGERS).fetchall())
        for name in triggers:
            connection.execute(f'DROP TRIGGER "{name}"')
        return triggers

    def enable_triggers(self, connection: Connection, tables: Iterable[Table], kept: Mapping[str, str]) -> None:
        """Make them again, by the statements that made them before."""
        del tables
        for sql in kept.values():
            connection.execute(sql)


def _table(connection: Connection, name: str) -> Table:
    columns = connection.execute(_COLUMNS, (name,)).fetchall()
    key = sorted((place, column) for column, _, place in columns if place)
    others = frozenset(other.removeprefix(PREFIX) for (other,) in connection.execute(_REFERENCES, (name,)).fetchall())
    return Table(
        name.removeprefix(PREFIX),
        {column: kind for column, kind, _ in columns},
        tuple(column for _, column in key),
        others,
    )
