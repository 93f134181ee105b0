"""What moving asks of a kind of database beyond what the outbox does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from relay.outbox.moving.postgres import PostgresSide
from relay.outbox.moving.sqlite import SqliteSide
from relay.outbox.moving.tables import Table
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Connection, Database


class Side(Protocol):
    """A source or a target."""

    @property
    def insertion_clause(self) -> str:
        """What lets an INSERT give numbers that the database would give by itself."""

    @property
    def keeps_nul(self) -> bool:
        """Whether U+0000 can stand in a text."""

    def processes(self, connection: Connection) -> int:
        """How many others are at work on it."""

    def tables(self, connection: Connection) -> tuple[Table, ...]:
        """All there are."""

    def hold(self, connection: Connection, tables: Iterable[Table]) -> None:
        """Let nobody change them until the transaction ends."""

    def take_time(self, connection: Connection) -> None:
        """Let this transaction last."""

    def sorted_by(self, column: str, kind: str) -> str:
        """What orders by a column alike on all databases: texts by their code points."""

    def size_of(self, column: str, kind: str) -> str | None:
        """What tells the bytes of a column; None: a few."""

    def numbers(self, connection: Connection, tables: Iterable[Table]) -> dict[str, int]:
        """The number given out last, of each table that gives numbers to its rows."""

    def set_numbers(self, connection: Connection, numbers: Mapping[str, int]) -> None:
        """Go on after these, or after the largest that is there."""

    def rest_triggers(self, connection: Connection, tables: Iterable[Table]) -> dict[str, str]:
        """Until they are woken, none does anything. What has to be kept meanwhile to wake them, by names."""

    def wake_triggers(self, connection: Connection, tables: Iterable[Table], kept: Mapping[str, str]) -> None:
        """As they were."""


def side_of(database: Database) -> Side:
    """How this one is moved."""
    return SqliteSide(database.path) if isinstance(database, SqliteDatabase) else PostgresSide()
