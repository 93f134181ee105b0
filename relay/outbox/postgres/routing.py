"""Gives deliveries whose origin is new their destination: see the migration `0004_routing.sql`."""

from __future__ import annotations

from relay.outbox.queries import statement
from relay.outbox.store import Connection

_MAKE_DESTINATIONS = statement("make_destinations", "relay.outbox")
_ROUTE = statement("route", "relay.outbox")
_SLICE = 1000


def route(connection: Connection) -> int:
    """Route a slice of them, the oldest first; returns how many were."""
    connection.execute(_MAKE_DESTINATIONS, {"slice": _SLICE})
    return connection.execute(_ROUTE, {"slice": _SLICE}).rowcount
