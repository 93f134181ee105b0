"""What signs callbacks, as the database has it now."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from relay.outbox.errors import StoreUnavailable
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Reader
from relay.policy.signing import SigningKey, parse_key

_SIGNING_KEYS = statement("signing_keys", __package__)
_KEYS_VERSION = statement("keys_version", __package__)

_FRESH_SECONDS = 0.05


class SigningKeys:
    """Read again when something of them has changed, which is looked at before an attempt, and after each claim."""

    def __init__(self, reader: Reader, clock: Callable[[], float]) -> None:
        self._reader = reader
        self._clock = clock
        self._written: dict[str | None, list[str]] = {}  # by whose they are
        self._keys: dict[str | None, tuple[SigningKey, ...]] = {}
        self._version: list[Any] = []
        self._read_at = 0.0

    def look(self, connection: Connection) -> None:
        """Whether they have changed, beside whatever else is read."""
        self.note_version(connection.execute(_KEYS_VERSION, {"now": self._clock()}).fetchone())

    def note_version(self, version: Sequence[Any]) -> None:
        """They are of this version now."""
        self._read_at = time.monotonic() if self._version == [tuple(version)] else 0.0

    async def of(self, origin: str) -> tuple[SigningKey, ...]:
        """What signs for a destination now, its own keys or else those for all: a rotation counts at once, give or take
        50 ms."""
        if not self._version or time.monotonic() - self._read_at > _FRESH_SECONDS:
            await self._read_changed()
        whose = origin if origin in self._written else None
        if whose not in self._keys:
            self._keys[whose] = tuple(parse_key(text) for text in self._written.get(whose, ()))
        return self._keys[whose]

    async def _read_changed(self) -> None:
        self._read_at = time.monotonic()  # whoever comes meanwhile goes on with those before
        try:
            version = [*map(tuple, await self._rows(_KEYS_VERSION))]
            if version == self._version:
                return
            written: dict[str | None, list[str]] = defaultdict(list)
            for origin, text in await self._rows(_SIGNING_KEYS):
                written[origin].append(text)
        except StoreUnavailable:
            self._read_at = 0.0
            raise
        self._version, self._written, self._keys = version, dict(written), {}

    async def _rows(self, sql: str) -> list[Any]:
        values = {"now": self._clock()}
        return await self._reader.run(lambda connection: connection.execute(sql, values).fetchall())
