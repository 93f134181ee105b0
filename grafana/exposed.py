"""What both daemons expose: the names that rules and dashboards may ask for, their labels and those labels' values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Metric

from engine.api import server
from engine.api.metrics import HttpMetrics
from engine.app.daemon import ProcessMetrics
from engine.jobs.observers import JobGauges, JobMetrics
from engine.live.observers import LiveGauges, LiveLagMetrics, LiveMetrics
from relay.service.log import Lines
from relay.telemetry.metrics import CurrentGauges, WorkerMetrics
from relay.telemetry.metrics import Metrics as RelayMetrics

_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "info": ("_info",), "gauge": ("",)}
# Their labels' values are found at run time: they have no series yet.
_UNTOLD = {"relay_destination_backlog_top": {"destination"}, "relay_destination_trouble": {"destination", "cause"}}
_OPEN = frozenset({"le", "version", "revision", "route", "destination"})


@dataclass(frozen=True, slots=True)
class Exposed:
    """One metric. `labels` has the values of each; those of a label whose values are not fixed here are empty."""

    name: str
    type: str
    labels: dict[str, tuple[str, ...]]

    def series(self) -> tuple[str, ...]:
        """The names that a query may use."""
        return tuple(f"{self.name}{suffix}" for suffix in _SUFFIXES[self.type])

    def __str__(self) -> str:
        labels = [f"{name}={'|'.join(values)}" if values else name for name, values in self.labels.items()]
        return " ".join((self.name + (_SUFFIXES[self.type][0] if self.type != "histogram" else ""), self.type, *labels))


def exposed() -> tuple[Exposed, ...]:
    """The daemons' own metrics, sorted by name; without those of the Python process, which differ by platform."""
    relay, engine = RelayMetrics(16), ProcessMetrics()
    CurrentGauges(relay.registry, draining=lambda: False, in_flight=lambda: 0, held=lambda: 0, lines=Lines())
    WorkerMetrics(relay.registry)
    JobMetrics(engine.registry, workers=2)
    JobGauges(engine.registry, draining=lambda: False)
    HttpMetrics(engine.registry, server.ROUTES)
    LiveMetrics(engine.registry)
    LiveLagMetrics(engine.registry)
    LiveGauges(engine.registry, sessions=lambda: 0, capacity=lambda: 0, lag=lambda: 0)
    found = [*_read(relay.registry), *_read(engine.registry)]
    return tuple(sorted(found, key=lambda one: one.name))


def _read(registry: CollectorRegistry) -> Iterable[Exposed]:
    return (_one(metric) for metric in registry.collect() if metric.name.startswith(("relay_", "engine_")))


def _one(metric: Metric) -> Exposed:
    names = {name for sample in metric.samples for name in sample.labels}
    names |= _UNTOLD.get(metric.name, set())
    labels = {name: () if name in _OPEN else _values(metric, name) for name in sorted(names - {"le"})}
    return Exposed(metric.name, metric.type, labels)


def _values(metric: Metric, label: str) -> tuple[str, ...]:
    return tuple(sorted({sample.labels[label] for sample in metric.samples if label in sample.labels}))


def listing() -> str:
    """The list as it is committed, a line each."""
    return "".join(f"{one}\n" for one in exposed())
