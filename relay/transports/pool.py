"""Connections between two exchanges: kept open for a while, within bounds, the most recent used first."""

from __future__ import annotations

from collections import defaultdict
from time import perf_counter

from relay.transports.bounds import Bounds
from relay.transports.connection import Connection, Origin
from relay.transports.deadline import Deadlines


class Pool:
    """Idle connections by origin. Each was dialled to a checked address, and serves its own origin only."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._idle: defaultdict[Origin, list[Connection]] = defaultdict(list)
        self._expiry: Deadlines[Connection] = Deadlines(self._evict)

    def __len__(self) -> int:
        return len(self._expiry)

    def take(self, origin: Origin) -> Connection | None:
        """An idle connection to an origin: the caller's own until it is put back or aborted."""
        idle = self._idle.get(origin, [])
        while idle:
            connection = idle.pop()
            self._expiry.forget(connection)
            if not idle:
                del self._idle[origin]
            if connection.open:
                return connection
        return None

    def put(self, connection: Connection) -> None:
        """Keep a connection for its origin's next exchange, or close it where a bound says so."""
        now = perf_counter()
        idle = self._idle[connection.origin]
        if len(idle) >= self._bounds.idle_per_origin or now - connection.born > self._bounds.age_seconds:
            connection.abort()
            return
        idle.append(connection)
        self._expiry.watch(connection, now + self._bounds.idle_seconds)
        if len(self._expiry) > self._bounds.idle_in_all:
            self._evict(self._expiry.oldest())

    def forget(self, connection: Connection) -> None:
        """The connection is not idle any more, or not open."""
        self._expiry.forget(connection)
        idle = self._idle.get(connection.origin)
        if idle is None or connection not in idle:
            return
        idle.remove(connection)
        if not idle:
            del self._idle[connection.origin]

    def close(self) -> None:
        """Forget every connection."""
        self._idle.clear()
        self._expiry.close()

    def _evict(self, connection: Connection) -> None:
        self.forget(connection)
        connection.abort()
