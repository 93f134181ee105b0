"""Results by id, for whoever may fetch one: read-only, and beside the relay."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from relay.outbox.database import connect_read_only
from relay.outbox.queries import statement

_RESULT = statement("result")
_SECRET = statement("secret")


@dataclass(frozen=True, slots=True)
class Result:
    """The body of a delivery, as every attempt sent it."""

    content_type: str
    body: bytes = field(repr=False)


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
