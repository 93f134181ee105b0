"""What the parent of several workers counts. How many there are, their own metrics say."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class WorkerMetrics:
    """There are none where one process is the whole relay."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._died = Counter("relay_worker_exits", "Workers that ended unasked, and were replaced.", registry=registry)

    def died(self) -> None:
        """Count one."""
        self._died.inc()
