"""Results by id, for whoever may fetch one, and the attempts at their deliveries: read-only, and beside the relay.

Only `erase` writes: on the connection of a producer who takes a result back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database

_RESULT = statement("result", __package__)
_SECRET = statement("secret", __package__)
_ATTEMPTS = statement("attempts", __package__)
_ERASE = statement("erase", __package__)


@dataclass(frozen=True, slots=True)
class Result:
    """The body of a delivery, as every attempt sent it."""

    content_type: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """One attempt of a delivery: when (epoch seconds), how long (seconds), and what came of it."""

    number: int
    started_at: float
    duration: float
    outcome: str
    status: int | None
    detail: str


def attempts(connection: Connection, delivery_id: str) -> tuple[PastAttempt, ...]:
    """The attempts of a delivery, as far as they are kept, from the first."""
    return tuple(PastAttempt(*row) for row in connection.execute(_ATTEMPTS, {"id": delivery_id}).fetchall())


def erase(connection: Connection, delivery_id: str) -> None:
    """Erase the body of a delivery that nobody will attempt any more; in the caller's transaction."""
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
