"""What grafana/README.md asks Prometheus for, the daemons do serve."""

from __future__ import annotations

import re

from prometheus_client.exposition import generate_latest

from engine.jobs.observers import Metrics as EngineMetrics
from relay.telemetry.metrics import Metrics as RelayMetrics
from tests.acceptance.stage import ROOT

ASKED = re.compile(r"\b(?:relay|engine)_[a-z0-9_]+")


def test_every_metric_that_is_asked_for_is_served() -> None:
    served = (generate_latest(RelayMetrics(16).registry) + generate_latest(EngineMetrics(2).registry)).decode()
    names = set(ASKED.findall(served))
    asked = set(ASKED.findall((ROOT / "grafana" / "README.md").read_text("utf-8")))
    assert asked - names == set()
    assert len(asked) >= 9
