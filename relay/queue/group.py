"""The relays that are at work on one database: each checks in, and counts the others."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from relay.outbox.queries import statement
from relay.outbox.store import Connection, Reader, Writer

_HEARTBEAT = statement("heartbeat", __package__)
_RELAYS = statement("relays", __package__)
_LEAVE = statement("leave", __package__)
_NOTE_STOP = statement("note_stop", __package__)

GONE_SECONDS = 15.0
"""A relay that has not checked in for so long is at work no more."""

_ALONE_SECONDS = 5.0  # between two heartbeats, where nobody counts on them


@dataclass(frozen=True, slots=True)
class Membership:
    """One relay's, among those at work on a database: its rank, from 0 on, and how many there are."""

    rank: int
    relays: int


class RelayGroup:
    """As one of them sees it, by the name under which it holds leases."""

    def __init__(self, writer: Writer, reader: Reader, clock: Callable[[], float], holder: str) -> None:
        self._writer = writer
        self._reader = reader
        self._clock = clock
        self._holder = holder
        self._relays = 0
        self._seen_at = -math.inf

    async def check_in(self) -> Membership:
        """Say that this relay is at work, unless it is alone and that was said a moment ago; returns its place."""
        now, began = self._clock(), time.monotonic()
        values = {"holder": self._holder, "now": now, "since": now - GONE_SECONDS}
        if self._relays == 1 and began - self._seen_at < _ALONE_SECONDS:
            others, before = await self._reader.run(lambda connection: connection.execute(_RELAYS, values).fetchone())
        else:
            ((others, before),) = await self._writer.execute(_HEARTBEAT, values)
            self._seen_at = began
        self._relays = 1 + others
        return Membership(before, self._relays)

    async def leave(self) -> None:
        """Say that this relay is at work no more, and if it was the last one, that none is."""
        await self._writer.run(self._leave)

    def _leave(self, connection: Connection) -> None:
        now = self._clock()
        connection.execute(_LEAVE, {"holder": self._holder})
        connection.execute(_NOTE_STOP, {"now": now, "since": now - GONE_SECONDS})
