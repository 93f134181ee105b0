"""Reads a table from its beginning, or from where one left off, in parts that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from relay.outbox.moving.side import Side
from relay.outbox.moving.tables import Table, quoted
from relay.outbox.store import Connection

_MOST_ROWS = 1000
_MOST_BYTES = 8 * 1024 * 1024

Row = tuple[Any, ...]


class Reading:
    """One table of one side, in the order of its key. `kinds` has the types that this side gives to the columns."""

    def __init__(self, side: Side, connection: Connection, table: Table, kinds: Mapping[str, str]) -> None:
        self._connection = connection
        self._table = table
        self._from = quoted(table.name)
        self._order = ", ".join(side.sorted_by(column, kinds[column]) for column in table.key)
        self._marks = ", ".join("?" * len(table.key))
        sizes = filter(None, (side.size_of(column, kinds[column]) for column in table.columns))
        self._size = " + ".join(["0", *(f"coalesce({size}, 0)" for size in sizes)])

    def count(self) -> int:
        """All rows."""
        count: int = self._connection.execute(f"SELECT count(*) FROM {self._from}").fetchone()[0]  # noqa: S608
        return count

    def parts(self, after: Sequence[Any] = ()) -> Iterator[list[Row]]:
        """Rows after that key, or all: of a large row, one at a time."""
        while end := self._end_of_part(after):
            yield self._rows(after, end)
            after = end

    def key_of(self, row: Row) -> list[Any]:
        """Its key."""
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
