"""How long the outbox takes for what the relay asks of it, and what it says when it cannot."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter

from relay.outbox.errors import REMEDIES, StoreUnavailable
from relay.policy.attempt import Attempted, Lease
from relay.queue.claims import ClaimRequest, Claims
from relay.queue.deliveries import DeliveryQueue
from relay.service.histogram import Histogram

OPERATIONS = ("claim", "settle", "renew", "release", "expire", "stats", "retention")
KINDS = tuple(REMEDIES)
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class StoreMetrics:
    """Durations and errors by operation. Those of a claim or a settlement are of a whole batch."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "relay_store_operation_duration_seconds",
            "One operation on the outbox, waiting for its turn included.",
            _SECONDS,
            registry,
            "operation",
            OPERATIONS,
        )
        errors = Counter(
            "relay_store_errors", "Operations that the outbox refused.", ["operation", "kind"], registry=registry
        )
        self._errors = {(o, kind): errors.labels(o, kind) for o in OPERATIONS for kind in KINDS}

    @contextmanager
    def watch(self, operation: str) -> Iterator[None]:
        """Time what happens in the block, and count it if the outbox refuses it."""
        began = time.perf_counter()
        try:
            yield
        except StoreUnavailable as error:
            self._errors[operation, error.kind].inc()
            raise
        finally:
            self._seconds[operation].observe([time.perf_counter() - began])


class MeasuredQueue:
    """The outbox as dispatcher and settler use it, under observation."""

    def __init__(self, outbox: DeliveryQueue, metrics: StoreMetrics) -> None:
        self._outbox = outbox
        self._watch = metrics.watch

    async def claim(self, request: ClaimRequest) -> Claims:
        with self._watch("claim"):
            return await self._outbox.claim(request)

    async def settle(self, attempts: Sequence[Attempted]) -> frozenset[Lease]:
        with self._watch("settle"):
            return await self._outbox.settle(attempts)

    async def renew(self, leases: Iterable[Lease]) -> None:
        with self._watch("renew"):
            await self._outbox.renew(leases)

    async def release(self, leases: Iterable[Lease], *, sent: bool) -> None:
        with self._watch("release"):
            await self._outbox.release(leases, sent=sent)
