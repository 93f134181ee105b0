"""relay.big: bodies of 500 KB, in MB/s and as a ratio to the bare client, which posts one that it holds already."""

from __future__ import annotations

from tests.bench import stand
from tests.bench.bare import addresses
from tests.bench.stand import Load, Result, Scale


def big(scale: Scale) -> Result:
    """All to one destination."""
    load = Load(scale.large_bodies, size=500_000)
    with stand.sink() as port, stand.new_outbox() as path:
        stand.fill(path, addresses(port, 1), load)
        floor = stand.bare(port, load)
        rate = stand.drain(path, port, load.count, **stand.AS_CONCURRENT_AS_THE_BARE_CLIENT)
    return {"relay.big.ratio": rate / floor, "relay.big.mb_per_s": rate * load.size / 1e6}
