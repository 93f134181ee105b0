"""The engine as it is, with a stand-in for those who listen: `python -m tests.bench.live_engine`."""

from __future__ import annotations

import os

import uvloop

from engine.app import daemon
from engine.cli.terminal import settings
from relay.service.log import configure
from tests.acceptance.stage import ROOT
from tests.bench.live_worker import MODULE

if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(ROOT)  # where its workers find the stand-in
    chosen = settings(None)
    configure("info", "json", "engine")
    uvloop.run(daemon.run(chosen, MODULE))
