"""Metrics of live streams: how many sockets stand, and how streams ended."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from relay.outbox.model import KillReason

_CLOSED = "none"


class StreamMetrics:
    """Streams to a WebSocket that this relay holds; those of requests are known by their deliveries."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._held = Gauge("relay_streams_held", "Streams to a WebSocket that are under way.", registry=registry)
        finished = Counter(
            "relay_streams_finished",
            "Streams that were closed (reason none) or killed.",
            ["reason"],
            registry=registry,
        )
        reasons = (_CLOSED, *(reason.value for reason in KillReason if reason is not KillReason.DELIVERY))
        self._finished = {reason: finished.labels(reason) for reason in reasons}

    def finished(self, reason: KillReason | None) -> None:
        """Hear of an end: in order, or for a reason."""
        self._finished[reason.value if reason else _CLOSED].inc()

    def watch(self, held: Callable[[], int]) -> None:
        """Ask this at every scrape."""
        self._held.set_function(held)
