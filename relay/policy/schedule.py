"""When to try again: arithmetic over the attempt's number, with now and dice as arguments."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FixedSchedule:
    """`retries` further attempts after the first, each `delay` seconds after the one before it."""

    retries: int = 10
    delay: float = 30.0

    def next_due(self, attempts: int, now: float) -> float | None:
        """When the attempt after `attempts` failed ones is due; None when the schedule has run out."""
        return now + self.delay if attempts <= self.retries else None
