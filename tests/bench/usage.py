"""relay.memory and relay.idle: what a relay takes with a million pending rows, and with a million delivered ones."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

from tests.acceptance.stage import free_port
from tests.bench import stand
from tests.bench.bare import addresses
from tests.bench.stand import Result, Scale

HANGING = 10


def memory(scale: Scale) -> Result:
    """Resident memory with many due rows of ten destinations that hang, less that of an idle relay, in MiB."""
    port = _port()
    hosts = [url.split("/")[2].split(":")[0] for url in addresses(port, HANGING)]
    with stand.sink(*hosts, port=port):
        idle = _resident(port, scale, None)
        burdened = _resident(port, scale, stand.pending(scale.history, port, HANGING))
    return {"relay.memory_growth_mib": (burdened - idle) / 1024}


@cache
def _port() -> int:
    """One for all runs: it stands in the rows."""
    return free_port()


def _resident(port: int, scale: Scale, copy_of: Path | None) -> float:
    with stand.new_outbox(copy_of) as path, stand.relay(path, port) as relay:
        stand.wait_until_ready(path, relay)
        time.sleep(scale.seconds)
        status = Path(f"/proc/{relay.pid}/status").read_text().splitlines()
        return float(next(line for line in status if line.startswith("VmRSS")).split()[1])


def idle(scale: Scale) -> Result:
    """Percent of a core, with nothing to do and many delivered rows in the file."""
    with stand.new_outbox(stand.delivered(scale.history)) as path, stand.relay(path, 8080) as relay:
        stand.wait_until_ready(path, relay)
        time.sleep(scale.seconds / 2)
        before, began = stand.burnt(relay.pid), time.perf_counter()
        time.sleep(scale.seconds * 2)
        return {"relay.idle.cpu_percent": 100 * (stand.burnt(relay.pid) - before) / (time.perf_counter() - began)}
