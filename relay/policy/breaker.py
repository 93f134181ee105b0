"""When a destination is left alone: after five failures in a row that are its own, until a probe is answered."""

from __future__ import annotations

from dataclasses import dataclass, replace

from relay.policy.attempt import Outcome

THRESHOLD = 5
FIRST_PAUSE = 30.0
LONGEST_PAUSE = 600.0

# Neither a sign of life nor of a fault: a refusal of the guard, what cannot be sent, and a shortage and a fault of the
# relay, which are ours.
OWN_FAULTS = frozenset(
    {
        Outcome.DNS,
        Outcome.CONNECT,
        Outcome.CONNECT_TIMEOUT,
        Outcome.TLS,
        Outcome.READ_TIMEOUT,
        Outcome.RESET,
        Outcome.PROTOCOL,
        Outcome.HTTP_5XX,
        Outcome.HTTP_429,
    }
)


@dataclass(frozen=True, slots=True)
class Breaker:
    """Closed while `open_until` is None. Open until then; after that, one delivery at a time may probe.

    `failures` counts those in a row, `pause` is how long it is or was last open, in seconds.
    """

    failures: int = 0
    open_until: float | None = None
    pause: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the destination has yet to prove itself."""
        return self.open_until is not None


CLOSED = Breaker()

# A destination that answers is at work, whatever it thinks of one delivery: only a 5xx or 429 says otherwise.
_SIGNS_OF_LIFE = frozenset({Outcome.SUCCESS, Outcome.HTTP_3XX, Outcome.HTTP_4XX, Outcome.HTTP_410, Outcome.HTTP_413})


def after(breaker: Breaker, outcome: Outcome, *, started_at: float, now: float) -> Breaker:
    """The breaker after an attempt that started at `started_at` and ended now."""
    if outcome in _SIGNS_OF_LIFE:
        return CLOSED
    if outcome not in OWN_FAULTS:
        return breaker
    if breaker.open_until is None:
        return _count(breaker, now)
    # What was under way when it opened says nothing new; only a probe's failure makes the pause longer.
    return _open(breaker, min(breaker.pause * 2, LONGEST_PAUSE), now) if started_at >= breaker.open_until else breaker


def _count(breaker: Breaker, now: float) -> Breaker:
    counted = replace(breaker, failures=breaker.failures + 1)
    return _open(counted, FIRST_PAUSE, now) if counted.failures >= THRESHOLD else counted


def _open(breaker: Breaker, pause: float, now: float) -> Breaker:
    return replace(breaker, open_until=now + pause, pause=pause)
