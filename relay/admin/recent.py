"""What the attempts of the last day came to, minute by minute and destination by destination, as this relay heard it.

An observer, kept in memory: an index on the time of attempts would be paid for by every one of them. What came before
the process is read once from the outbox, as far as a bounded look goes; Prometheus remembers longer.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from relay.admin.access import reading
from relay.outbox.queries import statement
from relay.outbox.store import Database
from relay.policy.attempt import Attempted, Outcome

_LAST_ATTEMPTS = statement("last_attempts", __package__)
_KNOWN_SINCE = statement("known_since", __package__)

_EFFORT = 20_000  # deliveries: a tenth of a second
MINUTE = 60.0
HOUR = 3600.0
_MINUTES = 24 * 60
_HOURS = 24
_MOST_DESTINATIONS = 2000  # the ones heard of last; any more would let callers fill the memory
_DURATIONS = 200  # of each destination, for the quantiles
_MOST_GROUPS = 50_000  # where nobody comes to take them


@dataclass(frozen=True, slots=True)
class Minute:
    """The attempts that ended in one minute, by outcome. `at` is its beginning."""

    at: float
    outcomes: Mapping[Outcome, int]

    @property
    def delivered(self) -> int:
        return self.outcomes.get(Outcome.SUCCESS, 0)

    @property
    def failed(self) -> int:
        return sum(self.outcomes.values()) - self.delivered


@dataclass(frozen=True, slots=True)
class Hour:
    """The attempts at one destination in one hour."""

    at: float
    delivered: int
    failed: int


@dataclass(frozen=True, slots=True)
class DestinationHistory:
    """One destination of late. `p95` is seconds, of its last successful attempts; None before there was one."""

    hours: tuple[Hour, ...]
    delivered_at: float | None
    failed_at: float | None
    p95: float | None

    @property
    def delivered(self) -> int:
        return sum(hour.delivered for hour in self.hours)

    @property
    def failed(self) -> int:
        return sum(hour.failed for hour in self.hours)


NO_HISTORY = DestinationHistory((), None, None, None)


@dataclass(frozen=True, slots=True)
class AttemptGroup:
    """What a batch of attempts, settled together `at` a time, came to at one destination. Durations in seconds."""

    at: float
    origin: str
    outcome: Outcome
    durations: tuple[float, ...]


def grouped(attempts: Sequence[Attempted]) -> list[AttemptGroup]:
    """A batch, put together: it was settled at the end of its last attempt."""
    groups: dict[tuple[str, Outcome], list[float]] = {}
    for attempt in attempts:
        group = (attempt.delivery.destination, attempt.outcome)
        groups.setdefault(group, []).append(attempt.answer.timing.total)
    at = attempts[-1].finished_at if attempts else 0.0
    return [AttemptGroup(at, origin, outcome, tuple(durations)) for (origin, outcome), durations in groups.items()]


class AttemptBuffer:
    """Keeps groups of attempts for the RecentAttempts of another process, which asks for them."""

    def __init__(self) -> None:
        self._groups: deque[AttemptGroup] = deque(maxlen=_MOST_GROUPS)

    def __call__(self, attempts: Sequence[Attempted]) -> None:
        """Hear of a batch of attempts, which were settled together."""
        self._groups.extend(grouped(attempts))

    def take(self) -> list[AttemptGroup]:
        """What was heard since the last call."""
        groups = list(self._groups)
        self._groups.clear()
        return groups


@dataclass(slots=True)
class _DestinationLog:
    hours: dict[int, list[int]] = field(default_factory=dict)
    delivered_at: float | None = None
    failed_at: float | None = None
    durations: deque[float] = field(default_factory=lambda: deque(maxlen=_DURATIONS))

    def hour(self, number: int) -> list[int]:
        """The counters of one hour; those of the day before are dropped when it begins."""
        hour = self.hours.get(number)
        if hour is None:
            hour = self.hours[number] = [0, 0]
            for old in [other for other in self.hours if other <= number - _HOURS]:
                del self.hours[old]
        return hour


class RecentAttempts:
    """Hears batches of attempts in one thread, and may be asked in any: each look is one step of the interpreter. What
    it knows is whole `since` then, in epoch seconds."""

    def __init__(self, now: float) -> None:
        self.since = now
        self._minutes: OrderedDict[int, Counter[Outcome]] = OrderedDict()
        self._destinations: OrderedDict[str, _DestinationLog] = OrderedDict()

    def __call__(self, attempts: Sequence[Attempted]) -> None:
        """Hear of a batch of attempts, which were settled together."""
        self.add(grouped(attempts))

    def add(self, groups: Iterable[AttemptGroup]) -> None:
        """Take groups that came from another process."""
        for group in groups:
            self._minute(group.at)[group.outcome] += len(group.durations)
            self._count(group.origin, group.outcome, group.durations, group.at)

    def minutes(self, now: float, count: int = 60) -> tuple[Minute, ...]:
        """The last minutes, the oldest first, the one that runs among them; quiet ones too."""
        last = int(now // MINUTE)
        return tuple(
            Minute(number * MINUTE, dict(self._minutes.get(number, {}))) for number in range(last - count + 1, last + 1)
        )

    def destination(self, origin: str, now: float) -> DestinationHistory:
        """One destination, hour by hour, the oldest first."""
        known = self._destinations.get(origin)
        if known is None:
            return NO_HISTORY
        last = int(now // HOUR)
        hours = (Hour(number * HOUR, *known.hours.get(number, (0, 0))) for number in range(last - _HOURS + 1, last + 1))
        return DestinationHistory(tuple(hours), known.delivered_at, known.failed_at, _p95(known.durations))

    def _minute(self, at: float) -> Counter[Outcome]:
        number = int(at // MINUTE)
        minute = self._minutes.get(number)
        if minute is None:
            minute = self._minutes[number] = Counter()
            while len(self._minutes) > _MINUTES:
                self._minutes.popitem(last=False)
        return minute

    def _count(self, origin: str, outcome: Outcome, durations: Sequence[float], at: float) -> None:
        known = self._log_of(origin)
        hour = known.hour(int(at // HOUR))
        if outcome is Outcome.SUCCESS:
            hour[0] += len(durations)
            known.delivered_at = at
            known.durations.extend(durations)
        else:
            hour[1] += len(durations)
            known.failed_at = at

    def _log_of(self, origin: str) -> _DestinationLog:
        known = self._destinations.get(origin)
        if known is None:
            known = self._destinations[origin] = _DestinationLog()
            if len(self._destinations) > _MOST_DESTINATIONS:
                self._destinations.popitem(last=False)
        self._destinations.move_to_end(origin)
        return known


def _p95(durations: Sequence[float]) -> float | None:
    ordered = sorted(durations)
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] if ordered else None


def recalled(database: Database) -> RecentAttempts:
    """What the outbox has kept of the last day: of its latest deliveries, so that a restart costs no history. Raises
    StoreUnavailable or SchemaError."""
    now = database.now()
    with reading(database) as connection:
        rows = connection.execute(_LAST_ATTEMPTS, {"effort": _EFFORT, "since": now - _HOURS * HOUR}).fetchall()
        before = connection.execute(_KNOWN_SINCE, {"effort": _EFFORT}).fetchone()[0]
    first = rows[0]["ended_at"] if rows else now
    recent = RecentAttempts(max(first, before or 0.0))
    recent.add(
        AttemptGroup(row["ended_at"], row["origin"], Outcome(row["outcome"]), (row["duration"],)) for row in rows
    )
    return recent
