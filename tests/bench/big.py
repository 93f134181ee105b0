"""relay.big: bodies of 500 KB, in MB/s and as a ratio to the bare client, which posts one that it holds already.

Signed, where the bare client hashes each body too, and once without a key: on a processor that has no instructions for
SHA-256, to hash a body takes several times as long as to send it.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path

from tests.bench import stand
from tests.bench.bare import addresses
from tests.bench.stand import Load, Result, Scale

_CALM_SECONDS = 0.5


def big(scale: Scale) -> Result:
    """All to one destination, everything on."""
    return _drained("relay.big", scale, signed=True)


def unsigned(scale: Scale) -> Result:
    """The same without a signing key."""
    return _drained("relay.big.unsigned", scale, signed=False)


def goals(key: str, ratio: str) -> dict[str, str]:
    """The keys of one of them, and what is wanted."""
    return {f"{key}.ratio": ratio, f"{key}.mb_per_s": "", **{f"{key}.{name}": "" for name in stand.WHY}}


def _drained(key: str, scale: Scale, *, signed: bool) -> Result:
    load = Load(scale.large_bodies, size=500_000)
    with stand.sink() as port, stand.new_outbox(signed=signed) as path:
        stand.fill(path, addresses(port, 1), load)
        drained, floor = stand.drain_beside_bare(path, port, load, signed=signed)
    speed = drained.rate * load.size / 1e6
    return {**drained.told(key, floor), f"{key}.mb_per_s": speed}


def held(scale: Scale) -> Result:
    """How much more memory a relay takes at its peak while bodies of 2 MB are on their way to a receiver that does not
    read, in parts of their size."""
    load = Load(min(stand.CONCURRENCY, scale.large_bodies), size=2_000_000)
    # Connections stand, because the kernel takes them; nobody accepts any but the first.
    with socket.create_server(("0.0.0.0", 0), backlog=2 * stand.CONCURRENCY) as server, stand.new_outbox() as path:
        port = server.getsockname()[1]
        with stand.relay(path, port, **stand.AS_CONCURRENT_AS_THE_BARE_CLIENT) as process:
            stand.wait_until_ready(path, process)
            stand.fill(path, addresses(port, 1), Load(1, size=1))
            _answer_once(server)  # from its first answer on an origin has more than a few slots
            stand.wait_until_drained(path, process)
            calm = min(_CALM_SECONDS, scale.seconds)
            time.sleep(calm)
            before = _peak(process)
            # An endpoint that never answered has a quarter of its origin's slots.
            stand.fill(path, [f"{addresses(port, 1)[0]}/{number}" for number in range(8)], load)
            return {"relay.big.memory": 1024 * (_settled_peak(process, 2 * calm) - before) / (load.count * load.size)}


def _answer_once(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")


def _settled_peak(process: stand.Program, seconds: float) -> int:
    """The peak, once it has not grown for so long."""
    peak, seen_at = _peak(process), time.monotonic()
    while time.monotonic() - seen_at < seconds:
        time.sleep(0.05)
        if (now := _peak(process)) > peak:
            peak, seen_at = now, time.monotonic()
    return peak


def _peak(process: stand.Program) -> int:
    """The most that was resident, in KiB."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
