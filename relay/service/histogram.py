"""A histogram that takes a batch at a time: prometheus-client's costs more per value than all else that is counted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

Bucket = tuple[str, float] | tuple[str, float, Exemplar]


class Series:
    """The values under one combination of labels. To be used by one thread."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._exemplars: dict[int, Exemplar] = {}

    def observe(self, values: Sequence[float]) -> None:
        """Count a batch of values."""
        for value in values:
            self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += sum(values)

    def exemplify(self, value: float, trace_id: str, at: float) -> None:
        """Let a trace stand for the values near this one, which was counted at `at`."""
        self._exemplars[bisect_left(self._bounds, value)] = Exemplar({"trace_id": trace_id}, value, at)

    def read(self) -> tuple[list[Bucket], float]:
        """Cumulative counts by upper bound, each with the last exemplar of its own, and the sum."""
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        return [self._bucket(i, name, count) for i, (name, count) in enumerate(self._cumulative(names))], self._sum

    def _cumulative(self, names: list[str]) -> Iterable[tuple[str, float]]:
        return zip(names, map(float, accumulate(self._counts)), strict=True)

    def _bucket(self, index: int, name: str, count: float) -> Bucket:
        exemplar = self._exemplars.get(index)
        return (name, count, exemplar) if exemplar else (name, count)


class Histogram(Collector):
    """`label` has a closed set of `values`, all of which exist from the start; without one there is a single series."""

    def __init__(
        self,
        name: str,
        help_text: str,
        buckets: Sequence[float],
        registry: CollectorRegistry,
        label: str | None = None,
        values: Iterable[str] = ("",),
    ) -> None:
        self._name, self._help, self._label = name, help_text, label
        self._series = {value: Series(tuple(buckets)) for value in values}
        registry.register(self)

    def __getitem__(self, value: str) -> Series:
        return self._series[value]

    def observe(self, values: Sequence[float]) -> None:
        """Count a batch of values where there is no label."""
        self._series[""].observe(values)

    def collect(self) -> Iterable[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._help, labels=[self._label] if self._label else [])
        for value, series in self._series.items():
            buckets, total = series.read()
            family.add_metric([value] if self._label else [], buckets, total)
        yield family
