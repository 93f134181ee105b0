"""Connections between two exchanges: kept open for a while, within bounds, the most recent used first."""

from __future__ import annotations

import asyncio
from itertools import takewhile
from time import perf_counter

from relay.transports.connection import HttpConnection, Origin
from relay.transports.exchange import ExchangeBounds


class ConnectionPool:
    """Idle connections by origin. Each was dialled to a checked address, and serves its own origin only."""

    def __init__(self, bounds: ExchangeBounds) -> None:
        self._bounds = bounds
        self._idle: dict[Origin, list[HttpConnection]] = {}
        self._order: dict[HttpConnection, None] = {}  # all of them, the longest idle first
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._order)

    def take(self, origin: Origin) -> HttpConnection | None:
        """An idle connection to an origin: the caller's own until it is put back or aborted."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            del self._order[connection]
            if connection.open:
                return connection
        return None

    def put(self, connection: HttpConnection) -> None:
        """Keep a connection for its origin's next exchange, or close it where a bound says so."""
        now = connection.idle_since = perf_counter()
        idle = self._idle.get(connection.origin)
        if idle is None:
            idle = self._idle[connection.origin] = []
        if len(idle) >= self._bounds.idle_per_origin or now - connection.born > self._bounds.age_seconds:
            connection.abort()
            return
        idle.append(connection)
        self._order[connection] = None
        if len(self._order) > self._bounds.idle_in_all:
            self._evict(next(iter(self._order)))
        if self._timer is None:
            self._sweep_in(self._bounds.idle_seconds)

    def forget(self, connection: HttpConnection) -> None:
        """The connection is not open any more."""
        if connection in self._order:
            del self._order[connection]
            self._idle[connection.origin].remove(connection)

    def close(self) -> None:
        self._idle.clear()
        self._order.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _sweep_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        """Close what has idled too long, and come back when the next will have; stop when nothing idles."""
        self._timer = None
        expired = perf_counter() - self._bounds.idle_seconds
        for connection in [*takewhile(lambda one: one.idle_since <= expired, self._order)]:
            self._evict(connection)
        self._idle = {origin: idle for origin, idle in self._idle.items() if idle}
        if self._order:
            self._sweep_in(next(iter(self._order)).idle_since - expired)

    def _evict(self, connection: HttpConnection) -> None:
        self.forget(connection)
        connection.abort()
