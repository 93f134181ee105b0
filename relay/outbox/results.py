"""Results by id, for whoever may fetch one, and what became of their deliveries: read-only, and beside the relay.

Only `withdraw` writes: on the connection of a producer who takes a result back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.outbox.model import State
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database

_RESULT = statement("result", __package__)
_SECRET = statement("secret", __package__)
_DELIVERY_STATUS = statement("delivery_status", __package__)
_ATTEMPTS = statement("attempts", __package__)
_WITHDRAW = statement("withdraw", __package__)
_ERASE = statement("erase", __package__)


@dataclass(frozen=True, slots=True)
class Result:
    """The body of a delivery, as every attempt sent it."""

    content_type: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
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


def delivery_status(connection: Connection, delivery_id: str) -> DeliveryStatus | None:
    """Where a delivery stands, None when it is unknown or no longer kept."""
    row = connection.execute(_DELIVERY_STATUS, {"id": delivery_id}).fetchone()
    return DeliveryStatus(State(row[0]), *row[1:]) if row else None


def attempts(connection: Connection, delivery_id: str) -> tuple[PastAttempt, ...]:
    """The attempts of a delivery, as far as they are kept, from the first."""
    return tuple(PastAttempt(*row) for row in connection.execute(_ATTEMPTS, {"id": delivery_id}).fetchall())


def withdraw(connection: Connection, delivery_id: str, now: float) -> None:
    """Cancel a delivery that is pending, and erase its body unless it is on its way; in the caller's transaction."""
    connection.execute(_WITHDRAW, {"id": delivery_id, "now": now})
    connection.execute(_ERASE, {"id": delivery_id})


def secret(connection: Connection) -> bytes:
    """What only engine and relay know, and signs the links to results. It never changes."""
    found: bytes = connection.execute(_SECRET, {"name": "pointer"}).fetchone()[0]
    return found


class Results:
    """The results in a database that has been migrated. Raises StoreUnavailable when it cannot be asked."""

    def __init__(self, database: Database) -> None:
        self._reader = database.reader()
        self._secret: bytes | None = None

    async def secret(self) -> bytes:
        """What signs the links; read once, because it never changes."""
        if self._secret is None:
            self._secret = await self._reader.run(secret)
        return self._secret

    async def fetch(self, delivery_id: str) -> Result | None:
        """The result, None when it is unknown or no longer kept."""
        row = await self._reader.run(lambda connection: connection.execute(_RESULT, {"id": delivery_id}).fetchone())
        return Result(*row) if row else None

    async def close(self) -> None:
        await self._reader.close()
