"""How a destination is called, by what its attempts came to: at will, slowly, or hardly.

There are two kinds of destination. An *origin* is what one connects to: faults of names, connections and TLS are its
own. An *endpoint* is a path of it, the receiver's code: what is answered, or is not, is its own. Both keep a `Health`.

A breaker that is open lets a trickle through: so few attempts in any half minute that a crowd waits without using its
attempts up, and so many that a lone delivery keeps its schedule to the second. It closes into a slow start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256

from relay.policy.attempt import Outcome

THRESHOLD = 5
"""So many failures in a row open a breaker."""
TRICKLE = 4
TRICKLE_SECONDS = 30.0
"""While it is open, at most so many attempts begin in any so many seconds."""

_AT_WILL = 16  # at once, or in a window: a destination that takes so many is bounded by its slots alone
_WINDOW = 1.0
_LONGEST_WINDOW = 30.0

UNREACHED = frozenset({Outcome.DNS, Outcome.CONNECT, Outcome.CONNECT_TIMEOUT, Outcome.TLS})
"""Faults of an origin."""
_FAULTS = frozenset({Outcome.READ_TIMEOUT, Outcome.RESET, Outcome.PROTOCOL, Outcome.HTTP_5XX})
SILENT = UNREACHED | {Outcome.READ_TIMEOUT}
"""Outcomes of attempts that held a slot, and were not answered."""
# A refusal of the guard, what cannot be sent, a shortage and a fault of the relay are ours: they say nothing of a
# destination.
OURS = frozenset({Outcome.BLOCKED, Outcome.UNSENDABLE, Outcome.SHORTAGE, Outcome.INTERNAL})


class Standing(StrEnum):
    """What is to be expected of a destination, by its latest attempt."""

    ANSWERS = "answers"
    SILENT = "silent"
    UNTRIED = "untried"


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What of an attempt counts here. `pause` is for how many seconds the receiver asked to be left alone; `alone` is
    False where its origin answered another attempt while this one was under way; `allowed` says that it was one of
    those that `went`."""

    outcome: Outcome
    started_at: float
    finished_at: float
    pause: float | None = None
    alone: bool = True
    allowed: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of a destination.

    `failures` counts those in a row that are its own, `starts` are the latest attempts while they fail. With a `rate`
    so many attempts go at once (a slow start), or `every` so many seconds (a pace, after it asked for one). None goes
    before `allowed_at`.
    """

    silent: bool = False
    failures: int = 0
    open: bool = False
    starts: tuple[float, ...] = ()
    rate: int | None = None
    every: float | None = None
    slowed_at: float = 0.0
    allowed_at: float = 0.0

    @property
    def held(self) -> bool:
        """Whether its deliveries wait to be asked for, instead of going when their turn comes."""
        return self.silent or self.open or self.rate is not None

    def allows(self, now: float, in_flight: int, few: int) -> int:
        """How many attempts may begin now; `few` at once where the latest was not answered."""
        if now < self.allowed_at:
            return 0
        room = _AT_WILL
        if self.open:
            room = TRICKLE - sum(start > now - TRICKLE_SECONDS for start in self.starts)
        elif self.rate is not None:
            room = self.rate - (in_flight if self.every is None else 0)
        return max(0, min(room, few - in_flight) if self.silent else room)

    def asks_at(self, now: float) -> float:
        """When it may allow more, if it allows nothing now."""
        full = self.open and len(self.starts) == TRICKLE
        return max(now, self.allowed_at, self.starts[0] + TRICKLE_SECONDS if full else 0.0)

    def went(self, count: int, now: float) -> Health:
        """After so many attempts of what it allowed."""
        if self.open:
            return replace(self, starts=(*self.starts, *[now] * count)[-TRICKLE:])
        if self.rate is None or self.every is None:
            return self
        # A window without an answer of 429 lets one more through in the next.
        faster = replace(self, rate=self.rate + 1, allowed_at=now + self.every)
        return faster if self.rate < _AT_WILL else WELL


class DestinationState(StrEnum):
    """How a destination is called, in the words of pages, commands, the admin API and metrics."""

    DELIVERING = "delivering"
    SLOWED = "slowed"  # at a pace that it asked for, or that grows after its recovery
    TRICKLING = "trickling"  # the breaker of an endpoint is open
    UNREACHABLE = "unreachable"  # the breaker of an origin is
    PAUSED = "paused"  # operators said so
    DISABLED = "disabled"


class Cause(StrEnum):
    """Why a destination needs attention. The faults of receivers come before what operators said on purpose."""

    UNREACHABLE = "unreachable"
    FAILING = "failing"
    GONE = "gone"
    GIVEN_UP = "given_up"
    BEHIND = "behind"
    DISABLED = "disabled"
    PAUSED = "paused"


SAID = frozenset({DestinationState.PAUSED, DestinationState.DISABLED})
"""What operators said, and not what came of attempts."""


def state_of(said: str, health: Health, *, whole: bool) -> DestinationState:
    """How a destination is called: an origin as a `whole`, or an endpoint. `said` is what operators said of it."""
    if said in SAID:
        return DestinationState(said)
    if health.open:
        return DestinationState.UNREACHABLE if whole else DestinationState.TRICKLING
    return DestinationState.DELIVERING if health.rate is None else DestinationState.SLOWED


def destination_id(origin: str, path: str = "") -> str:
    """Eight digits that stand for an origin, or for a path of it, in lists, commands, links and metrics: of the path,
    which may be a secret, they tell nothing."""
    return sha256(f"{origin}{path}".encode()).hexdigest()[:8]


WELL = Health()


def of_origin(health: Health, came: AttemptResult) -> Health:
    """An origin after an attempt at any of its endpoints."""
    if came.outcome in OURS or (came.outcome in SILENT and not came.alone):
        return health
    if came.outcome in UNREACHED:
        return replace(_failed(health, came), silent=True)
    return replace(health, silent=True) if came.outcome in SILENT else _answered(health, came)


def of_endpoint(health: Health, came: AttemptResult) -> Health:
    """An endpoint after one of its attempts. One that did not reach the origin says nothing of it."""
    if came.outcome in OURS or came.outcome in UNREACHED:
        return health
    if came.outcome is Outcome.HTTP_429 or came.pause is not None:
        return _slowed(health, came)
    if came.outcome in _FAULTS:
        failed = _failed(health, came)
        return replace(failed, silent=failed.open and came.outcome in SILENT)
    return _answered(health, came)


def _failed(health: Health, came: AttemptResult) -> Health:
    if health.open and came.allowed:
        return health
    starts = tuple(sorted((*health.starts, came.started_at)))[-TRICKLE:]
    if health.open:
        return replace(health, starts=starts)
    counted = replace(health, failures=health.failures + 1, starts=starts)
    if counted.failures >= THRESHOLD:
        return replace(counted, open=True, rate=None, every=None)
    return replace(counted, rate=max(1, health.rate // 2)) if health.rate else counted


def _answered(health: Health, came: AttemptResult) -> Health:
    if health.open:
        return Health(rate=1)
    if health.rate is None or (health.every is None and health.rate >= _AT_WILL):
        return WELL
    if health.every is None:
        return Health(rate=health.rate + 1)
    every = min(health.every, max(_WINDOW, health.every / 2))
    # From its answer on: a window that began with the attempt may end before the receiver counts it as over.
    allowed_at = max(health.allowed_at, came.finished_at + every)
    return replace(health, silent=False, failures=0, starts=(), every=every, allowed_at=allowed_at)


def _slowed(health: Health, came: AttemptResult) -> Health:
    """It asked for less: half of it, once for all that was under way when it did."""
    again = health.every is not None and came.started_at < health.slowed_at
    rate, every = health.rate, health.every
    if not again:
        paced = rate is not None and every is not None
        rate = max(1, (rate or 1) // 2) if paced else 1
        asked = min(2 * (every or 0.0), _LONGEST_WINDOW) if paced and rate == 1 else _WINDOW
        every = min(came.pause, _WINDOW) if came.pause else asked
    resume_at = came.finished_at + (came.pause or every or _WINDOW)
    slowed_at = health.slowed_at if again else came.finished_at
    return Health(rate=rate, every=every, slowed_at=slowed_at, allowed_at=max(health.allowed_at, resume_at))
