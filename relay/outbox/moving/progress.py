"""How far a move has come: kept in the target, in the very transactions that fill it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relay.outbox.migrations import UNFINISHED
from relay.outbox.moving.tables import Table
from relay.outbox.store import Connection

TABLE = "moving"
_MAKE = "CREATE TABLE outspoken_moving (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)"
_SAY = "INSERT INTO outspoken_moving (name, value) VALUES (?, ?)"
_MORE = f"{_SAY} ON CONFLICT (name) DO UPDATE SET value = excluded.value"
_ALL = "SELECT name, value FROM outspoken_moving"
_FORGET = "DROP TABLE outspoken_moving"
_CLOSE = (
    "INSERT INTO outspoken_migrations (room, number, name, sha256, applied_at) "
    "VALUES ('outbox', ?, 'unfinished', '', 0)"
)
_OPEN = "DELETE FROM outspoken_migrations WHERE room = 'outbox' AND number = ?"


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """So many of a table's `rows` were copied, or compared."""

    step: str
    table: str
    done: int
    rows: int


@dataclass(frozen=True, slots=True)
class Journal:
    """What the target knows of the move: from where, what its triggers were, and the last key of each table."""

    source: str
    triggers: Mapping[str, str]
    last: Mapping[str, list[Any]]


def begin(connection: Connection, source: str, triggers: Mapping[str, str]) -> None:
    """From now on the target belongs to this move: no program starts on it until it is finished."""
    connection.execute(_CLOSE, (UNFINISHED,))
    connection.execute(_MAKE)
    connection.execute(_SAY, ("source", source))
    connection.execute(_SAY, ("triggers", json.dumps(triggers)))


def read(connection: Connection) -> Journal:
    """The journal of a move that was begun."""
    kept = dict(connection.execute(_ALL).fetchall())
    last = {name.removeprefix("last:"): json.loads(text) for name, text in kept.items() if name.startswith("last:")}
    return Journal(kept["source"], json.loads(kept["triggers"]), last)


def advance(connection: Connection, table: Table, last: list[Any]) -> None:
    """All rows of the table up to this key are in the target."""
    connection.execute(_MORE, (f"last:{table.name}", json.dumps(last)))


def end(connection: Connection) -> None:
    """Drop the journal, and let programs start on the target."""
    connection.execute(_FORGET)
    connection.execute(_OPEN, (UNFINISHED,))
