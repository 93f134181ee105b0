"""Prometheus metrics. Labels come from closed sets only, and every combination exists from the start: a counter that
first appears with its first failure has no increase, so nobody would be alerted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from importlib.metadata import distribution

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Info, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from relay.outbox.model import KillReason
from relay.policy.attempt import Attempted, Dead, Delivered, Outcome, Reason
from relay.queue.retention import Pruned
from relay.queue.stats import QueueSnapshot
from relay.service.histogram import Histogram
from relay.service.log import Lines
from relay.telemetry.queue import DESTINATION, HELD_BY, RELAY, ConditionMetrics, QueueMetrics
from relay.telemetry.store import StoreMetrics

# Close together where receivers stop: at the time-outs of theirs and ours.
_DURATION = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 7.5, 10, 11, 15, 20, 30, 31, 60)
_LAG = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_END_TO_END = (0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 1800, 3600, 7200, 21600, 43200, 86400, 259200)
_ATTEMPTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)
# Where receivers draw their limits.
_BODY = (1024, 4096, 16384, 65536, 102400, 262144, 307200, 524288, 1048576, 2097152, 10485760, 52428800)
_LOOP_LAG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)

_LOOPS = (
    *("claim", "renew", "stats", "expire", "settle", "retention", "check_in", "listen", "judge"),
    *("stream_news", "stream_hold", "stream_settle"),
)
_TABLES = tuple(field.name for field in fields(Pruned) if field.name != "body_bytes")
_RESULTS = ("success", "http_error", "transport_error")
_CANCELLED = ("cancelled", Reason.OPERATOR.value)
_ENDINGS = (("delivered", "none"), _CANCELLED, *(("dead", reason.value) for reason in Reason))
_REMEMBERED_SECONDS = 86400.0
_CLOSED = "none"


class Metrics:
    """The relay's metrics, an observer of attempts. Children are looked up once: it costs 10 us."""

    def __init__(self, concurrency: int) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        Info("relay_build", "What runs.", registry=registry).info(_build())
        limit = Gauge("relay_delivery_concurrency_limit", "Attempts that may be in flight.", registry=registry)
        limit.set(concurrency)
        self._attempts = AttemptMetrics(registry)
        self._deliveries = DeliveryMetrics(registry)
        self._leases = LeaseMetrics(registry)
        self.loops = LoopMetrics(registry)
        self.store = StoreMetrics(registry)
        self.streams = StreamMetrics(registry)
        self._queue = QueueMetrics(registry)
        self.judged = ConditionMetrics(registry)
        deleted = Counter("relay_retention_deleted_rows", "Rows forgotten.", ["table"], registry=registry)
        self._deleted = {table: deleted.labels(table) for table in _TABLES}

    def __call__(self, attempts: Sequence[Attempted]) -> None:
        delivered = [attempt for attempt in attempts if isinstance(attempt.verdict, Delivered)]
        failed = [attempt for attempt in attempts if not isinstance(attempt.verdict, Delivered)]
        self._attempts.made(attempts)
        self._attempts.succeeded(delivered)
        self._deliveries.delivered(delivered)
        for attempt in failed:
            self._attempts.failed(attempt)
            self._deliveries.failed(attempt)

    def counted(self, *, stale: int, lapsed: int, ended: Mapping[Reason, int]) -> None:
        """Take over what the moving parts counted since the last call: settlements that came too late, leases taken
        over, and deliveries given up without an attempt."""
        self._leases.lost(stale=stale, lapsed=lapsed)
        self._deliveries.gave_up(ended)

    def snapshot(self, snapshot: QueueSnapshot) -> None:
        self._queue(snapshot)
        self._deliveries.cancelled(snapshot.since.cancelled)
        self._attempts.held_up(snapshot.held_up, snapshot.taken_at)

    def forgotten(self, pruned: Pruned) -> None:
        for table in _TABLES:
            self._deleted[table].inc(getattr(pruned, table))


class AttemptMetrics:
    """Attempts: what came of them, how long they took, and how late they began."""

    def __init__(self, registry: CollectorRegistry) -> None:
        attempts = Counter("relay_delivery_attempts", "Attempts by outcome.", ["outcome"], registry=registry)
        self._outcomes = {outcome: attempts.labels(outcome.value) for outcome in Outcome}
        self._duration = Histogram(
            "relay_delivery_attempt_duration_seconds", "The exchange.", _DURATION, registry, "result", _RESULTS
        )
        self._lag = Histogram(
            "relay_delivery_pickup_lag_seconds",
            "From due to started, by who held it up: only the relay's is lateness of ours.",
            _LAG,
            registry,
            "held_by",
            HELD_BY,
        )
        self._held_up: dict[str, float] = {}
        connections = Counter("relay_delivery_connections", "Connections used.", ["reused"], registry=registry)
        self._connections = {reused: connections.labels(str(reused).lower()) for reused in (False, True)}
        self._bytes = Histogram("relay_delivery_request_body_bytes", "Bodies sent.", _BODY, registry)

    def made(self, attempts: Sequence[Attempted]) -> None:
        """What counts of an attempt, whatever came of it."""
        self._pick_up(attempts)
        self._bytes.observe([attempt.delivery.body_bytes for attempt in attempts])
        self._connect(attempts)

    def succeeded(self, attempts: Sequence[Attempted]) -> None:
        self._outcomes[Outcome.SUCCESS].inc(len(attempts))
        self._duration["success"].observe([attempt.answer.timing.total for attempt in attempts])
        if attempts:
            self._exemplify(max(attempts, key=_duration))

    def failed(self, attempt: Attempted) -> None:
        result = "http_error" if attempt.answer.failure is None else "transport_error"
        self._outcomes[attempt.outcome].inc()
        self._duration[result].observe([attempt.answer.timing.total])

    def held_up(self, origins: Iterable[str], at: float) -> None:
        """These were left alone, or had all their slots taken, at that time (epoch seconds): remembered for a day."""
        self._held_up = {origin: seen for origin, seen in self._held_up.items() if seen > at - _REMEMBERED_SECONDS}
        self._held_up |= dict.fromkeys(origins, at)

    def _pick_up(self, attempts: Sequence[Attempted]) -> None:
        """Apart: those whose destination was seen left alone, or with all its slots taken, since they were due."""
        ours: list[float] = []
        theirs: list[float] = []
        for attempt in attempts:
            delivery = attempt.delivery
            waited = self._held_up.get(delivery.destination, 0.0) >= delivery.due_at
            (theirs if waited else ours).append(attempt.lag)
        self._lag[RELAY].observe(ours)
        self._lag[DESTINATION].observe(theirs)

    def _connect(self, attempts: Sequence[Attempted]) -> None:
        """Those that the guard refused, or that found no address, used none."""
        kept = [attempt.answer.reused for attempt in attempts if attempt.answer.peer is not None]
        self._connections[True].inc(sum(kept))
        self._connections[False].inc(len(kept) - sum(kept))

    def _exemplify(self, attempt: Attempted) -> None:
        """The slowest of a batch is the one that somebody will want to see."""
        if attempt.delivery.traceparent:
            trace_id = attempt.delivery.traceparent.split("-")[1]
            self._duration["success"].exemplify(attempt.answer.timing.total, trace_id, attempt.finished_at)


class DeliveryMetrics:
    """Deliveries that ended: how, after how many attempts, and how long after they were added."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._end_to_end = Histogram(
            "relay_delivery_end_to_end_seconds", "From added to delivered.", _END_TO_END, registry
        )
        finished = Counter(
            "relay_deliveries_finished", "Deliveries that ended.", ["result", "reason"], registry=registry
        )
        self._finished = {ending: finished.labels(*ending) for ending in _ENDINGS}
        self._tries = Histogram(
            "relay_delivery_attempts_per_delivery",
            "Attempts used.",
            _ATTEMPTS,
            registry,
            "result",
            ("delivered", "dead"),
        )
        self._too_large = Counter(
            "relay_deliveries_too_large",
            "Results whose first attempt was answered with 413: each counts once, however often it is tried.",
            registry=registry,
        )

    def delivered(self, attempts: Sequence[Attempted]) -> None:
        self._finished["delivered", "none"].inc(len(attempts))
        self._tries["delivered"].observe([attempt.delivery.attempts + 1 for attempt in attempts])
        ages = [attempt.finished_at - attempt.delivery.created_at for attempt in attempts]
        self._end_to_end.observe([max(0.0, age) for age in ages])

    def failed(self, attempt: Attempted) -> None:
        """An attempt failed, which may have been the last."""
        if attempt.outcome is Outcome.HTTP_413 and not attempt.delivery.attempts:
            self._too_large.inc()
        if isinstance(attempt.verdict, Dead):
            self._finished["dead", attempt.verdict.reason.value].inc()
            self._tries["dead"].observe([attempt.delivery.attempts + 1])

    def gave_up(self, ended: Mapping[Reason, int]) -> None:
        """So many were given up without an attempt."""
        for reason, count in ended.items():
            self._finished["dead", reason.value].inc(count)

    def cancelled(self, count: int) -> None:
        self._finished[_CANCELLED].inc(count)


class LeaseMetrics:
    """Leases that were lost, by this relay or by others."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._stale = Counter("relay_settlements_stale", "Settlements whose lease had been lost.", registry=registry)
        self._lapsed = Counter("relay_leases_expired", "Leases taken over.", registry=registry)

    def lost(self, *, stale: int, lapsed: int) -> None:
        self._stale.inc(stale)
        self._lapsed.inc(lapsed)


class LoopMetrics:
    """The loops of a relay, which are known by name from the start, and how late its event loop is (`lag`)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        turns = Counter("relay_loop_iterations", "Turns of a loop.", ["loop"], registry=registry)
        errors = Counter("relay_loop_errors", "Turns that failed.", ["loop"], registry=registry)
        success = Gauge(
            "relay_loop_last_success_timestamp_seconds", "The last good turn of a loop.", ["loop"], registry=registry
        )
        self._turns = {loop: (turns.labels(loop), errors.labels(loop), success.labels(loop)) for loop in _LOOPS}
        self.lag = prometheus_client.Histogram(
            "relay_event_loop_lag_seconds", "How late a timer fires.", buckets=_LOOP_LAG, registry=registry
        )

    def turned(self, loop: str, *, ok: bool) -> None:
        turns, errors, success = self._turns[loop]
        turns.inc()
        if ok:
            success.set_to_current_time()
        else:
            errors.inc()


class StreamMetrics:
    """Streams to a WebSocket that this relay holds; those of requests are known by their deliveries."""

    def __init__(self, registry: CollectorRegistry) -> None:
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


class CurrentGauges:
    """What is asked of the moving parts at every scrape, and the log lines that were counted where they are written."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        draining: Callable[[], bool],
        in_flight: Callable[[], int],
        held: Callable[[], int],
        lines: Lines,
    ) -> None:
        for name, text, ask in (
            ("relay_draining", "1 while the relay lets its attempts finish.", draining),
            ("relay_delivery_attempts_in_flight", "Attempts under way.", in_flight),
            ("relay_streams_held", "Streams to a WebSocket that are under way.", held),
        ):
            Gauge(name, text, registry=registry).set_function(ask)
        registry.register(_LinesCollector(lines))


class WorkerMetrics:
    """There are none where one process is the whole relay."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._died = Counter("relay_worker_exits", "Workers that ended unasked, and were replaced.", registry=registry)

    def died(self) -> None:
        self._died.inc()


class _LinesCollector(Collector):
    """Log lines by level, counted where they are written."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def collect(self) -> Iterable[CounterMetricFamily]:
        family = CounterMetricFamily("relay_log_events", "Log lines by level.", labels=["level"])
        for level, count in self._lines.counts.items():
            family.add_metric([level], count)
        yield family


def _duration(attempt: Attempted) -> float:
    return attempt.answer.timing.total


def _build() -> dict[str, str]:
    """The version, and the commit if the package was installed from a repository."""
    installed = distribution("outspoken")
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    return {"version": installed.version, "revision": origin.get("vcs_info", {}).get("commit_id", "unknown")}
