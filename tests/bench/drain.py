"""relay.drain: how fast a full outbox empties, as a ratio to a bare client that posts the same bodies.

A delivery counts when its settlement is committed (synchronous=FULL).
"""

from __future__ import annotations

from tests.bench import stand
from tests.bench.bare import addresses
from tests.bench.stand import Load, Result, Scale


def one(scale: Scale) -> Result:
    """All to one destination."""
    return {"relay.drain.one.ratio": _ratio(Load(scale.deliveries))}


def hundred(scale: Scale) -> Result:
    """To a hundred destinations."""
    return {"relay.drain.hundred.ratio": _ratio(Load(scale.deliveries, destinations=100))}


def _ratio(load: Load) -> float:
    with stand.sink() as port, stand.new_outbox() as path:
        stand.fill(path, addresses(port, load.destinations), load)
        floor = stand.bare(port, load)
        rate = stand.drain(path, port, load.count, **stand.AS_CONCURRENT_AS_THE_BARE_CLIENT)
        return rate / floor
