"""How fast those are met that may not answer, beside those that are served.

To be refused by a crowd takes the time of all others, and one that hangs takes its slot for a whole time-out. So they
come at a pace, which goes down with the slots that are left: a crowd that hangs leaves a seventh of them. Each that
answers lets eight more come: so those that do are soon through, however many beside them do not.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST = 32
"""At once: to begin with more keeps all others waiting for the processor."""
TOGETHER = 4
"""So many share a claim, and no more are saved up by waiting."""

_A_SECOND = 50.0
_HASTE = 2.0  # in a time-out twice as many as slots are left: at first six in seven are taken, and then two in three
_FOR_EACH_ANSWER = 8


def a_second(room: int, timeout: float) -> float:
    """How many come in a second, with so many slots left for those that take them for a whole time-out."""
    return min(_A_SECOND, _HASTE * max(0, room) / timeout)


@dataclass(frozen=True, slots=True)
class Credit:
    """For how many, as of a moment; below nothing after more came than were meant to."""

    left: float
    at: float

    def earned(self, now: float, rate: float, answers: int = 0) -> Credit:
        """Later, after so many a second, and so many that answered."""
        waited = max(self.left, min(max(0.0, self.left) + rate * (now - self.at), TOGETHER))
        return Credit(waited, now).answered(answers)

    def answered(self, count: int) -> Credit:
        """After so many were."""
        return Credit(min(self.left + _FOR_EACH_ANSWER * count, MOST), self.at)

    def spent(self, count: int) -> Credit:
        """After so many came."""
        return Credit(self.left - count, self.at)

    def wait(self, rate: float) -> float:
        """Seconds until a claim is worth while, 0.0 where it is now."""
        return max(0.0, TOGETHER - max(0.0, self.left)) / rate if rate else 1.0
