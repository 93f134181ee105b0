"""relay.intake: producers that commit row by row as fast as they can: does the relay keep up, and out of their way?"""

from __future__ import annotations

import json
import subprocess
import sys

from tests.bench import stand
from tests.bench.bare import addresses
from tests.bench.stand import Result, Scale


def intake(scale: Scale) -> Result:
    """One producer, then four: the longest that one of them waited for a commit, in milliseconds, and how many seconds
    after their last commit everything was delivered."""
    alone, four = _with(1, scale), _with(4, scale)
    return {
        "relay.intake.commit_max_ms": max(alone[0], four[0]),
        "relay.intake.one.commit_max_ms": alone[0],
        "relay.intake.one.rows_per_s": alone[2],
        "relay.intake.four.rows_per_s": four[2],
        "relay.intake.behind_s": max(alone[1], four[1]),
    }


def _with(producers: int, scale: Scale) -> tuple[float, float, float]:
    with stand.sink() as port, stand.new_outbox() as path, stand.relay(path, port) as relay:
        stand.wait_until_ready(path, relay)
        command = [sys.executable, "-m", "tests.bench.producer", str(path), str(scale.seconds), addresses(port, 1)[0]]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(producers)]
        told = [json.loads(producer.communicate()[0]) for producer in running]
        behind = stand.wait_until_drained(path, relay) - max(one["ended"] for one in told)
    rows = sum(one["rows"] for one in told)
    return max(one["longest"] for one in told) * 1e3, max(0.0, behind), rows / scale.seconds
