"""relay.growth: the same drain with a million delivered rows already in the file, as a ratio to an empty one."""

from __future__ import annotations

from pathlib import Path

from tests.bench import stand
from tests.bench.bare import addresses
from tests.bench.stand import Load, Result, Scale


def growth(scale: Scale) -> Result:
    """To a hundred destinations."""
    with stand.sink() as port:
        empty = _rate(port, scale, None)
        grown = _rate(port, scale, stand.delivered(scale.history))
    return {"relay.growth.ratio": grown / empty}


def _rate(port: int, scale: Scale, copy_of: Path | None) -> float:
    load = Load(scale.deliveries, destinations=100)
    with stand.new_outbox(copy_of) as path:
        stand.fill(path, addresses(port, load.destinations), load)
        return stand.drain(path, port, load.count, **stand.AS_CONCURRENT_AS_THE_BARE_CLIENT).rate
