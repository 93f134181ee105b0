"""Results by id, for whoever may fetch one, and what became of their deliveries: read-only, and beside the relay.

Only `withdraw` writes: on the connection of a producer who takes a result back.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from relay.model import State
from relay.outbox.database import connect_read_only
from relay.outbox.queries import statement

_RESULT = statement("result")
_SECRET = statement("secret")
_STANDING = statement("standing")
_ATTEMPTS = statement("attempts")
_WITHDRAW = statement("withdraw")
_ERASE = statement("erase")


@dataclass(frozen=True, slots=True)
class Result:
    """The body of a delivery, as every attempt sent it."""

    content_type: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a delivery stands. `due_at` is when it is tried next, while it is pending; `reason` why it was given up;
    `last_status` and `last_outcome` are those of its last attempt, as far as it is kept."""

    state: State
    attempts: int
    due_at: float | None
    finished_at: float | None
    reason: str | None
    last_status: int | None
    last_outcome: str | None


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """One attempt of a delivery: when (epoch seconds), how long (seconds), and what came of it."""

    number: int
    started_at: float
    duration: float
    outcome: str
    status: int | None
    detail: str


def standing(connection: sqlite3.Connection, delivery_id: str) -> Standing | None:
    """Where a delivery stands, None when it is unknown or no longer kept."""
    row = connection.execute(_STANDING, {"id": delivery_id}).fetchone()
    return Standing(State(row[0]), *row[1:]) if row else None


def attempts(connection: sqlite3.Connection, delivery_id: str) -> tuple[PastAttempt, ...]:
    """The attempts of a delivery, as far as they are kept, from the first."""
    return tuple(PastAttempt(*row) for row in connection.execute(_ATTEMPTS, {"id": delivery_id}).fetchall())


def withdraw(connection: sqlite3.Connection, delivery_id: str, now: float) -> None:
    """Cancel a delivery that is pending, and erase its body unless it is on its way; in the caller's transaction."""
    connection.execute(_WITHDRAW, {"id": delivery_id, "now": now})
    connection.execute(_ERASE, {"id": delivery_id})


class Results:
    """The results in a database that has been migrated. `secret` signs the links to them."""

    def __init__(self, path: Path) -> None:
        self._reader = connect_read_only(path)
        self.secret: bytes = self._reader.execute(_SECRET, {"name": "pointer"}).fetchall()[0][0]

    def fetch(self, delivery_id: str) -> Result | None:
        """The result, None when it is unknown or no longer kept."""
        rows = self._reader.execute(_RESULT, {"id": delivery_id}).fetchall()
        return Result(*rows[0]) if rows else None

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()
