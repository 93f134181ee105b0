"""Whether the database's file and its log are still those that were opened. A connection to one that was moved away or
removed goes on without an error, and nobody else sees what it writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from relay.outbox.errors import REMEDIES, StoreUnavailable
from relay.outbox.store import Database, Hold, in_step

_LOOK_SECONDS = 1.0

log = structlog.get_logger()


class FileWatch:
    """Made before the file is opened. With a `hold` that is this process's own: then its log is looked after too."""

    def __init__(self, database: Database, *, holds: bool = True) -> None:
        self._database = database
        self._opened = database.identity()
        self._hold: Hold | None = database.hold() if holds else None

    def trouble(self) -> str | None:
        """What was done to it, if anything."""
        if self._database.identity() != self._opened:
            return "the file was replaced or removed"
        if self._hold and not self._hold.is_intact():
            return "its log (-wal, -shm) was deleted while it was in use"
        return None

    async def until_replaced(self, stop: Callable[[], None]) -> None:
        """Look, until something was done to it: then say so, and `stop`."""
        while not (trouble := self.trouble()):  # noqa: ASYNC110 (nobody tells of it)
            await asyncio.sleep(in_step(_LOOK_SECONDS))
        log.error("store.replaced", database=self._database.name, reason=trouble, remedy=REMEDIES["replaced"])
        stop()

    def complain(self) -> None:
        """Raises StoreUnavailable where something was done to it."""
        if trouble := self.trouble():
            words = f"outbox.url: {self._database.name}: {trouble}; {REMEDIES['replaced']}"
            raise StoreUnavailable("replaced", words)

    def close(self) -> None:
        """Once the database is closed."""
        if self._hold:
            self._hold.close()
