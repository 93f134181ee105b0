"""relay.drain: how fast a full outbox empties, as a ratio to a bare client that posts the same bodies.

A delivery counts when its settlement is committed (synchronous=FULL).
"""

from __future__ import annotations

from tests.bench import stand
from tests.bench.bare import addresses
from tests.bench.stand import Load, Result, Scale


def one(scale: Scale) -> Result:
    """All to one destination."""
    return _drained("relay.drain.one", Load(scale.deliveries))


def hundred(scale: Scale) -> Result:
    """To a hundred destinations."""
    return _drained("relay.drain.hundred", Load(scale.deliveries, destinations=100))


def ten_thousand(scale: Scale) -> Result:
    """To ten thousand destinations, or one for each delivery: a connection for each, as for the bare client."""
    return _drained("relay.drain.ten_thousand", Load(scale.deliveries, destinations=min(10_000, scale.deliveries)))


def goals(key: str, ratio: str) -> dict[str, str]:
    """The keys of one of them, and what is wanted."""
    return {f"{key}.ratio": ratio, **{f"{key}.{name}": goal for name, goal in stand.WHY.items()}}


def _drained(key: str, load: Load) -> Result:
    with stand.sink() as port, stand.new_outbox() as path:
        stand.fill(path, addresses(port, load.destinations), load)
        drained, floor = stand.drain_beside_bare(path, port, load)
        return drained.told(key, floor)
