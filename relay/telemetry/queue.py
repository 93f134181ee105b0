"""The outbox's gauges, as they were counted last: a scrape reads memory and never the database.

Of one outbox all relays count the same, so that a question takes the largest of theirs and not their sum.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from relay.outbox.model import Kind
from relay.policy.breaker import Cause, DestinationState, destination_id
from relay.queue.stats import QueueChanges, QueueDepths, QueueSnapshot

RELAY: Final = "relay"
DESTINATION: Final = "destination"
HELD_BY = (RELAY, DESTINATION)
"""Whose lateness it is: the relay's own, or of a destination that is left alone or has all its slots taken."""

MOST_TOLD_APART = 20
_STATES = ("ready", "held", "scheduled", "in_flight", "dead")
_DESTINATION_STATES = tuple(map(str, DestinationState))
_SOURCES = ("cli", "api", "console")


class KnownGauge(Collector):
    """A gauge that is left out while its value is None: 0 would be an alarm about nothing."""

    def __init__(self, name: str, help_text: str, registry: CollectorRegistry) -> None:
        self._name, self._help = name, help_text
        self.value: float | None = None
        registry.register(self)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        yield GaugeMetricFamily(self._name, self._help, value=self.value)


class QueueMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        deliveries = Gauge(
            "relay_outbox_deliveries",
            "Deliveries by state: ready is due and may go, held is due and waits for its destination.",
            ["state"],
            registry=registry,
        )
        self._states = {state: deliveries.labels(state) for state in _STATES}
        overdue = Gauge(
            "relay_outbox_oldest_due_age_seconds",
            "How late the latest is, by who holds it up; 0 when nothing is due.",
            ["held_by"],
            registry=registry,
        )
        self._oldest_due = {who: overdue.labels(who) for who in HELD_BY}
        self._oldest = Gauge(
            "relay_outbox_oldest_undelivered_age_seconds", "Age of the oldest undelivered result.", registry=registry
        )
        self._destinations(registry)
        self._files(registry)
        self._since(registry)

    def _destinations(self, registry: CollectorRegistry) -> None:
        destinations = Gauge(
            "relay_destinations",
            "Origins by the worst state of theirs and their endpoints'.",
            ["state"],
            registry=registry,
        )
        self._by_state = {state: destinations.labels(state) for state in _DESTINATION_STATES}
        self._worst = Gauge(
            "relay_destination_backlog_top",
            "Pending deliveries of the ten origins that have most, by the id that lists and pages have.",
            ["destination"],
            registry=registry,
        )
        transitions = Counter(
            "relay_destination_breaker_transitions", "Breakers that opened and closed.", ["to"], registry=registry
        )
        self._opened, self._closed = transitions.labels("open"), transitions.labels("closed")

    def _files(self, registry: CollectorRegistry) -> None:
        self._database = Gauge("relay_outbox_database_bytes", "The database file.", registry=registry)
        self._log = KnownGauge("relay_outbox_wal_bytes", "Its write-ahead log; left out for a server's.", registry)
        self._free = KnownGauge("relay_outbox_disk_free_bytes", "What its disk has left; left out likewise.", registry)
        self._taken_at = Gauge("relay_outbox_stats_timestamp_seconds", "When these were counted.", registry=registry)
        self._took = Gauge("relay_outbox_stats_duration_seconds", "What counting took.", registry=registry)
        self._backup_at = Gauge(
            "relay_backup_last_success_timestamp_seconds", "The last backup; 0 when there is none.", registry=registry
        )
        self._key_age = Gauge(
            "relay_signing_key_age_seconds", "Age of the oldest key that signs; 0 when none does.", registry=registry
        )

    def _since(self, registry: CollectorRegistry) -> None:
        enqueued = Counter(
            "relay_deliveries_enqueued", "Deliveries added, seen since start.", ["kind"], registry=registry
        )
        self._enqueued = {kind: enqueued.labels(kind.value) for kind in Kind}
        replays = Counter(
            "relay_replays",
            "Deliveries that operators sent again, by source.",
            ["source"],
            registry=registry,
        )
        self._replays = {source: replays.labels(source) for source in _SOURCES}

    def __call__(self, snapshot: QueueSnapshot) -> None:
        self._queue(snapshot, snapshot.queues)
        for state in _DESTINATION_STATES:
            self._by_state[state].set(snapshot.destination_states.get(state, 0))
        self._database.set(snapshot.files.database)
        self._log.value = snapshot.files.log
        self._free.value = snapshot.files.free
        self._backup_at.set(snapshot.backup_at)
        self._key_age.set(snapshot.key_age)
        self._taken_at.set(snapshot.taken_at)
        self._took.set(snapshot.took)
        self._count(snapshot.since)

    def _queue(self, snapshot: QueueSnapshot, queues: QueueDepths) -> None:
        counts = (queues.ready, queues.held, queues.scheduled, snapshot.in_flight, snapshot.dead)
        for state, count in zip(_STATES, counts, strict=True):
            self._states[state].set(count)
        self._oldest_due[RELAY].set(queues.ready_age)
        self._oldest_due[DESTINATION].set(queues.held_age)
        self._oldest.set(snapshot.oldest_undelivered_age)
        self._worst.clear()  # those that left the list must not stay at their last value
        for origin, waiting in queues.worst.items():
            self._worst.labels(destination_id(origin)).set(waiting)

    def _count(self, since: QueueChanges) -> None:
        for kind, count in since.added.items():
            self._enqueued[kind].inc(count)
        for source, count in since.replayed.items():
            if source in self._replays:
                self._replays[source].inc(count)
        self._opened.inc(since.opened)
        self._closed.inc(since.closed)


class ConditionMetrics:
    """The judgement that pages and `relay status` say in words."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._severity = Gauge(
            "relay_condition_severity", "How things stand: 0 well, 1 attention, 2 broken.", registry=registry
        )
        causes = Gauge(
            "relay_destinations_in_trouble",
            "Endpoints, or whole origins, that need attention, by the cause.",
            ["cause"],
            registry=registry,
        )
        self._causes = {cause: causes.labels(cause.value) for cause in Cause}
        self._worst = Gauge(
            "relay_destination_trouble",
            "Deliveries that wait or were given up in 24 hours at the twenty destinations that need attention most.",
            ["destination", "cause"],
            registry=registry,
        )

    def __call__(self, severity: int, troubles: Sequence[tuple[str, Cause, int]]) -> None:
        """`troubles` are destinations by id, the worst first, each with the deliveries that it is about."""
        self._severity.set(severity)
        counts = Counts(cause for _, cause, _ in troubles)
        for cause, gauge in self._causes.items():
            gauge.set(counts[cause])
        self._worst.clear()
        for id_, cause, count in troubles[:MOST_TOLD_APART]:
            self._worst.labels(id_, cause.value).set(count)
