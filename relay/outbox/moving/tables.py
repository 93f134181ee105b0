"""Tables as both databases have them: what is in them, in which order, and the statements that read and fill them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter

from relay.outbox.errors import MoveRefused


@dataclass(frozen=True, slots=True)
class Table:
    """One table: the type of each column by its name, the columns of its key, and the tables that it refers to."""

    name: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    refers_to: frozenset[str] = frozenset()


def in_order(tables: Iterable[Table]) -> tuple[Table, ...]:
    """Those that others refer to first."""
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
    """Names as a statement has them."""
    return ", ".join(f'"{name}"' for name in names)


def insertion(table: Table, clause: str = "") -> str:
    """Fills a table; `clause` stands before the values."""
    marks = ", ".join("?" * len(table.columns))
    return f"INSERT INTO {quoted(table.name)} ({quoted(*table.columns)}) {clause} VALUES ({marks})"  # noqa: S608
