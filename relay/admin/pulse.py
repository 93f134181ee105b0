"""What the attempts of the last day came to, minute by minute and destination by destination, as this relay heard it.

An observer, kept in memory: an index on the time of attempts would be paid for by every one of them. It begins anew
with the process; Prometheus remembers longer.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from relay.policy.attempt import Attempted, Outcome

MINUTE = 60.0
HOUR = 3600.0
_MINUTES = 24 * 60
_HOURS = 24
_PLACES = 2000  # the ones heard of last; any more would let callers fill the memory
_DURATIONS = 200  # of each destination, for the quantiles
_NOTES = 50_000  # for a keeper of the pulse who does not come


@dataclass(frozen=True, slots=True)
class Minute:
    """The attempts that ended in one minute, by outcome. `at` is its beginning."""

    at: float
    outcomes: Mapping[Outcome, int]

    @property
    def delivered(self) -> int:
        """How many arrived."""
        return self.outcomes.get(Outcome.SUCCESS, 0)

    @property
    def failed(self) -> int:
        """How many did not."""
        return sum(self.outcomes.values()) - self.delivered


@dataclass(frozen=True, slots=True)
class Hour:
    """The attempts at one destination in one hour."""

    at: float
    delivered: int
    failed: int


@dataclass(frozen=True, slots=True)
class Beat:
    """One destination of late. `p95` is seconds, of its last successful attempts; None before there was one."""

    hours: tuple[Hour, ...]
    delivered_at: float | None
    failed_at: float | None
    p95: float | None

    @property
    def delivered(self) -> int:
        """How many arrived."""
        return sum(hour.delivered for hour in self.hours)

    @property
    def failed(self) -> int:
        """How many did not."""
        return sum(hour.failed for hour in self.hours)


SILENT = Beat((), None, None, None)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a batch of attempts, settled together `at` a time, came to at one destination. Durations in seconds."""

    at: float
    origin: str
    outcome: Outcome
    durations: tuple[float, ...]


def heard(attempts: Sequence[Attempted]) -> list[Heard]:
    """A batch, put together: it was settled at the end of its last attempt."""
    groups: dict[tuple[str, Outcome], list[float]] = {}
    for attempt in attempts:
        group = (attempt.delivery.destination, attempt.outcome)
        groups.setdefault(group, []).append(attempt.answer.timing.total)
    at = attempts[-1].finished_at if attempts else 0.0
    return [Heard(at, origin, outcome, tuple(durations)) for (origin, outcome), durations in groups.items()]


class Notebook:
    """Hears attempts for a pulse that is kept in another process, which asks for them."""

    def __init__(self) -> None:
        self._notes: deque[Heard] = deque(maxlen=_NOTES)

    def __call__(self, attempts: Sequence[Attempted]) -> None:
        """Hear of a batch of attempts, which were settled together."""
        self._notes.extend(heard(attempts))

    def take(self) -> list[Heard]:
        """What was heard since the last call."""
        notes = list(self._notes)
        self._notes.clear()
        return notes


@dataclass(slots=True)
class _Place:
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


class Pulse:
    """Hears batches of attempts in one thread, and may be asked in any: each look is one step of the interpreter."""

    def __init__(self, now: float) -> None:
        self.since = now
        self._minutes: OrderedDict[int, Counter[Outcome]] = OrderedDict()
        self._places: OrderedDict[str, _Place] = OrderedDict()

    def __call__(self, attempts: Sequence[Attempted]) -> None:
        """Hear of a batch of attempts, which were settled together."""
        self.hear(heard(attempts))

    def hear(self, notes: Iterable[Heard]) -> None:
        """Hear what others heard."""
        for note in notes:
            self._minute(note.at)[note.outcome] += len(note.durations)
            self._note(note.origin, note.outcome, note.durations, note.at)

    def minutes(self, now: float, count: int = 60) -> tuple[Minute, ...]:
        """The last minutes, the oldest first, the one that runs among them; quiet ones too."""
        last = int(now // MINUTE)
        return tuple(
            Minute(number * MINUTE, dict(self._minutes.get(number, {}))) for number in range(last - count + 1, last + 1)
        )

    def beat(self, origin: str, now: float) -> Beat:
        """One destination, hour by hour, the oldest first."""
        place = self._places.get(origin)
        if place is None:
            return SILENT
        last = int(now // HOUR)
        hours = (Hour(number * HOUR, *place.hours.get(number, (0, 0))) for number in range(last - _HOURS + 1, last + 1))
        return Beat(tuple(hours), place.delivered_at, place.failed_at, _p95(place.durations))

    def _minute(self, at: float) -> Counter[Outcome]:
        number = int(at // MINUTE)
        minute = self._minutes.get(number)
        if minute is None:
            minute = self._minutes[number] = Counter()
            while len(self._minutes) > _MINUTES:
                self._minutes.popitem(last=False)
        return minute

    def _note(self, origin: str, outcome: Outcome, durations: Sequence[float], at: float) -> None:
        place = self._place(origin)
        hour = place.hour(int(at // HOUR))
        if outcome is Outcome.SUCCESS:
            hour[0] += len(durations)
            place.delivered_at = at
            place.durations.extend(durations)
        else:
            hour[1] += len(durations)
            place.failed_at = at

    def _place(self, origin: str) -> _Place:
        place = self._places.get(origin)
        if place is None:
            place = self._places[origin] = _Place()
            if len(self._places) > _PLACES:
                self._places.popitem(last=False)
        self._places.move_to_end(origin)
        return place


def _p95(durations: Sequence[float]) -> float | None:
    ordered = sorted(durations)
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] if ordered else None
