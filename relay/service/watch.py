"""Whether the database's file is still the one that was opened. A connection to one that was moved away or removed goes
on without an error, and nobody else sees what it writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from relay.outbox.errors import REMEDIES, StoreUnavailable
from relay.outbox.store import Database, in_step

_LOOK_SECONDS = 1.0

log = structlog.get_logger()


class FileWatch:
    """Made before the file is opened."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._opened = database.identity()

    def replaced(self) -> bool:
        """Whether another file stands in its place, or none."""
        return self._database.identity() != self._opened

    async def until_replaced(self, stop: Callable[[], None]) -> None:
        """Look, until it was replaced: then say so, and `stop`."""
        while not self.replaced():  # noqa: ASYNC110 (nobody tells of it)
            await asyncio.sleep(in_step(_LOOK_SECONDS))
        log.error("store.replaced", database=self._database.name, remedy=REMEDIES["replaced"])
        stop()

    def complain(self) -> None:
        """Raises StoreUnavailable where it was replaced."""
        if self.replaced():
            words = f"outbox.url: {self._database.name}: the file was replaced or removed; {REMEDIES['replaced']}"
            raise StoreUnavailable("replaced", words)
