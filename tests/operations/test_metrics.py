"""The metrics are a promise to whoever built a dashboard on them."""

from __future__ import annotations

from grafana.exposed import Exposed, exposed, listing
from tests.acceptance.stage import ROOT
from tests.cases import cases

BASE_UNITS = ("_seconds", "_bytes")
OTHER_UNITS = ("_ms", "_milliseconds", "_minutes", "_kb", "_mb", "_percent")


def test_the_list_of_metrics_is_the_one_that_is_committed() -> None:
    committed = (ROOT / "grafana" / "metrics.txt").read_text("utf-8")
    assert committed == listing(), "metrics have changed: run python -m grafana.generate, and commit what it writes"


@cases("metric", exposed())
def test_a_metric_is_named_as_prometheus_expects(metric: Exposed) -> None:
    assert not metric.name.endswith("_total")  # a counter's suffix is not part of its name, and nothing else has it
    assert not metric.name.endswith(OTHER_UNITS)
    if metric.type == "histogram" and metric.name != "relay_delivery_attempts_per_delivery":
        assert metric.name.endswith(BASE_UNITS)


def test_only_the_worst_destinations_are_told_apart() -> None:
    apart = [metric.name for metric in exposed() if "destination" in metric.labels]
    assert apart == ["relay_destination_backlog_top", "relay_destination_trouble"]
