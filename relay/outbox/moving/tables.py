"""Tables as both databases have them: what is in them, in which order, and the statements that read and fill them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, Protocol

from relay.outbox.errors import MoveRefused
from relay.outbox.store import Connection

PREFIX = "outspoken_"
_MOST_ROWS = 1000
_MOST_BYTES = 8 * 1024 * 1024

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """One table, by its name without what all of ours begin with: the type of each column by its name, the columns of
    its key, and the tables that it refers to."""

    name: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    refers_to: frozenset[str] = frozenset()


class SqlDialect(Protocol):
    """What moving asks of a kind of database beyond what the outbox does."""

    @property
    def insertion_clause(self) -> str:
        """What lets an INSERT give numbers that the database would give by itself."""

    @property
    def keeps_nul(self) -> bool:
        """Whether U+0000 can stand in a text."""

    def processes(self, connection: Connection) -> int:
        """How many engines and relays besides this process have the database open."""

    def tables(self, connection: Connection) -> tuple[Table, ...]:
        """Every table of the outbox, of the engine's too."""

    def lock(self, connection: Connection, tables: Iterable[Table]) -> None:
        """Let nobody change these until the transaction ends."""

    def lift_timeouts(self, connection: Connection) -> None:
        """Let this transaction last as long as it takes."""

    def sorted_by(self, column: str, kind: str) -> str:
        """What orders by a column alike on all databases: texts by their code points."""

    def size_of(self, column: str, kind: str) -> str | None:
        """SQL for how many bytes a value of a column has; None for a kind that has a few."""

    def numbers(self, connection: Connection, tables: Iterable[Table]) -> dict[str, int]:
        """The number given out last, of each table that gives numbers to its rows."""

    def set_numbers(self, connection: Connection, numbers: Mapping[str, int]) -> None:
        """Go on after these, or after the largest that is there."""

    def disable_triggers(self, connection: Connection, tables: Iterable[Table]) -> dict[str, str]:
        """Have none of them fire; returns what `enable_triggers` needs to bring them back, by name."""

    def enable_triggers(self, connection: Connection, tables: Iterable[Table], kept: Mapping[str, str]) -> None:
        """Have them fire again as they did before."""


def in_order(tables: Iterable[Table]) -> tuple[Table, ...]:
    """The tables, each behind those that it refers to."""
    named = {table.name: table for table in sorted(tables, key=lambda table: table.name)}
    graph = {name: sorted(table.refers_to - {name}) for name, table in named.items()}
    return tuple(named[name] for name in TopologicalSorter(graph).static_order() if name in named)


def require_room(name: str, tables: Iterable[Table], there: Iterable[Table]) -> None:
    """Raises MoveRefused unless the target, by that name, has a place for everything."""
    places = {table.name: table for table in there}
    for table in tables:
        if not table.key:
            raise MoveRefused(f"the table {table.name} has no primary key, without which it cannot be moved")
        if table.name not in places:
            raise MoveRefused(
                f"{name} has no table {table.name}: make it there first; `engine migrate` makes the engine's"
            )
        if missing := sorted(table.columns.keys() - places[table.name].columns.keys()):
            raise MoveRefused(
                f"{name} has no column {table.name}.{missing[0]}: bring both up to date with one version first"
            )


def quoted(*names: str) -> str:
    """Names as SQL writes them, with commas between."""
    return ", ".join(f'"{name}"' for name in names)


def place(table: str) -> str:
    """A table as statements call it."""
    return PREFIX + table


def insertion(table: Table, clause: str = "") -> str:
    """Fills a table; `clause` stands before the values."""
    marks = ", ".join("?" * len(table.columns))
    return f"INSERT INTO {place(table.name)} ({quoted(*table.columns)}) {clause} VALUES ({marks})"  # noqa: S608


class TableReader:
    """Reads a table from its beginning, or from where one left off, in parts that fit into memory.

    One table of one database, in the order of its key. `kinds` has the types that this database gives to the columns.
    """

    def __init__(self, dialect: SqlDialect, connection: Connection, table: Table, kinds: Mapping[str, str]) -> None:
        self._connection = connection
        self._table = table
        self._from = place(table.name)
        self._order = ", ".join(dialect.sorted_by(column, kinds[column]) for column in table.key)
        self._marks = ", ".join("?" * len(table.key))
        sizes = filter(None, (dialect.size_of(column, kinds[column]) for column in table.columns))
        self._size = " + ".join(["0", *(f"coalesce({size}, 0)" for size in sizes)])

    def count(self) -> int:
        count: int = self._connection.execute(f"SELECT count(*) FROM {self._from}").fetchone()[0]  # noqa: S608
        return count

    def parts(self, after: Sequence[Any] = ()) -> Iterator[list[Row]]:
        """Rows after that key, or all: of a large row, one at a time."""
        while end := self._end_of_part(after):
            yield self._rows(after, end)
            after = end

    def key_of(self, row: Row) -> list[Any]:
        return [row[tuple(self._table.columns).index(column)] for column in self._table.key]

    def _end_of_part(self, after: Sequence[Any]) -> list[Any]:
        sql = f"SELECT {quoted(*self._table.key)}, {self._size} FROM {self._from} {self._beyond(after)} " + (  # noqa: S608
            f"ORDER BY {self._order} LIMIT {_MOST_ROWS}"
        )
        end: list[Any] = []
        room = _MOST_BYTES
        for *key, size in self._connection.execute(sql, tuple(after)).fetchall():
            room -= size
            if end and room < 0:
                break
            end = key
        return end

    def _rows(self, after: Sequence[Any], end: Sequence[Any]) -> list[Row]:
        until = f"({self._order}) <= ({self._marks})"
        where = f"{self._beyond(after)} AND {until}" if after else f"WHERE {until}"
        sql = f"SELECT {quoted(*self._table.columns)} FROM {self._from} {where} ORDER BY {self._order}"  # noqa: S608
        return [tuple(row) for row in self._connection.execute(sql, (*after, *end)).fetchall()]

    def _beyond(self, after: Sequence[Any]) -> str:
        return f"WHERE ({self._order}) > ({self._marks})" if after else ""
