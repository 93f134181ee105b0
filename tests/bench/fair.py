"""relay.fair: a hundred healthy destinations behind the backlog of one that hangs, as a ratio to them alone."""

from __future__ import annotations

from tests.bench import stand
from tests.bench.bare import addresses
from tests.bench.stand import Load, Result, Scale

HANGING = "127.0.9.9"


def fair(scale: Scale) -> Result:
    """With the limits that a relay has by default: 256 in flight, 16 of them to one destination."""
    with stand.sink(HANGING) as port:
        alone = _rate(port, scale, behind=0)
        behind = _rate(port, scale, behind=scale.deliveries)
    return {"relay.fair.ratio": behind / alone}


def _rate(port: int, scale: Scale, behind: int) -> float:
    """Of the healthy ones only."""
    load = Load(scale.deliveries, destinations=100)
    with stand.new_outbox() as path:
        stand.fill(path, [f"http://{HANGING}:{port}/callback"], Load(behind))
        stand.fill(path, addresses(port, load.destinations), load)
        return stand.drain(path, port, load.count, but=f"http://{HANGING}:{port}").rate
