"""Connections between two exchanges: kept open for a while, within bounds, the most recent used first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import perf_counter

from relay.transports.connection import HttpConnection, Origin
from relay.transports.exchange import ExchangeBounds


class ConnectionPool:
    """Idle connections by origin. Each was dialled to a checked address, and serves its own origin only."""

    def __init__(self, bounds: ExchangeBounds) -> None:
        self._bounds = bounds
        self._idle: dict[Origin, list[HttpConnection]] = {}
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return self._count

    def take(self, origin: Origin) -> HttpConnection | None:
        """An idle connection to an origin: the caller's own until it is put back or aborted."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            self._count -= 1
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
        self._count += 1
        if self._count > self._bounds.idle_in_all:
            self._evict(min(self._connections(), key=_idle_since))
        if self._timer is None:
            self._sweep_in(self._bounds.idle_seconds)

    def forget(self, connection: HttpConnection) -> None:
        """The connection is not open any more."""
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)
            self._count -= 1

    def close(self) -> None:
        """Forget every connection."""
        self._idle.clear()
        self._count = 0
        if self._timer is not None:
            self._timer.cancel()

    def _connections(self) -> Iterable[HttpConnection]:
        return (connection for idle in self._idle.values() for connection in idle)

    def _sweep_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        """Close what has idled too long, and come back when the next will have; stop when nothing idles."""
        self._timer = None
        expired = perf_counter() - self._bounds.idle_seconds
        for connection in [connection for connection in self._connections() if connection.idle_since <= expired]:
            self._evict(connection)
        self._idle = {origin: idle for origin, idle in self._idle.items() if idle}
        if self._idle:
            self._sweep_in(min(map(_idle_since, self._connections())) - expired)

    def _evict(self, connection: HttpConnection) -> None:
        self.forget(connection)
        connection.abort()


def _idle_since(connection: HttpConnection) -> float:
    return connection.idle_since
