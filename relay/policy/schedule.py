"""When to try again: arithmetic over the number of failed attempts, with now and dice as arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Schedule(Protocol):
    """When the attempt after some failed ones is due."""

    def next_due(self, attempts: int, *, began_at: float, now: float, dice: float) -> float | None:
        """The time after `attempts` failed ones, or None when there is no further one. `dice` is 0.0 to 1.0."""


@dataclass(frozen=True, slots=True)
class FixedSchedule:
    """`retries` further attempts after the first, each `delay` seconds after the one before it."""

    retries: int = 10
    delay: float = 30.0

    def next_due(self, attempts: int, *, began_at: float, now: float, dice: float) -> float | None:  # noqa: ARG002
        """`delay` from now, until the retries are used up."""
        return now + self.delay if attempts <= self.retries else None


@dataclass(frozen=True, slots=True)
class ExponentialSchedule:
    """Ever longer pauses, with full jitter (0 to the whole pause), so that a crowd of failures spreads out.

    The pause doubles from `first` to `longest` seconds; nothing is due more than `total` seconds after the schedule
    began.
    """

    first: float = 5.0
    longest: float = 3600.0
    total: float = 3 * 86400.0

    def next_due(self, attempts: int, *, began_at: float, now: float, dice: float) -> float | None:
        """Somewhere in the pause after `attempts` failed ones."""
        # Beyond 2**30 the pause has long been the longest; a larger power would overflow.
        pause = min(self.longest, self.first * 2.0 ** min(attempts - 1, 30))
        due_at = now + pause * dice
        return due_at if due_at <= began_at + self.total else None
