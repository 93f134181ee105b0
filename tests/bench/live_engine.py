"""The engine as it is, with a stand-in for those who listen: `python -m tests.bench.live_engine`."""

from __future__ import annotations

import uvloop

from engine.app import daemon
from engine.cli.terminal import settings
from relay.service.log import configure
from tests.bench.live_worker import MODULE

if __name__ == "__main__":
    chosen = settings(None)
    configure("info", "json", "engine")
    uvloop.run(daemon.run(chosen, MODULE))
