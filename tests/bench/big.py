"""relay.big: bodies of 500 KB, in MB/s and as a ratio to the bare client, which posts one that it holds already.

Signed, where the bare client hashes each body too, and once without a key: on a processor that has no instructions for
SHA-256, to hash a body takes several times as long as to send it.
"""

from __future__ import annotations

from tests.bench import stand
from tests.bench.bare import addresses
from tests.bench.stand import Load, Result, Scale


def big(scale: Scale) -> Result:
    """All to one destination, everything on."""
    ratio, mb_per_s = _measured(scale, signed=True)
    return {"relay.big.ratio": ratio, "relay.big.mb_per_s": mb_per_s}


def unsigned(scale: Scale) -> Result:
    """The same without a signing key."""
    ratio, mb_per_s = _measured(scale, signed=False)
    return {"relay.big.unsigned.ratio": ratio, "relay.big.unsigned.mb_per_s": mb_per_s}


def _measured(scale: Scale, *, signed: bool) -> tuple[float, float]:
    load = Load(scale.large_bodies, size=500_000)
    with stand.sink() as port, stand.new_outbox(signed=signed) as path:
        stand.fill(path, addresses(port, 1), load)
        floor = stand.bare(port, load, signed=signed).rate
        rate = stand.drain(path, port, load.count, **stand.AS_CONCURRENT_AS_THE_BARE_CLIENT).rate
    return rate / floor, rate * load.size / 1e6
