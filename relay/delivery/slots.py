"""Whose slots are whose: how many each kind of origin may take, what is under way in them, and what waits too long.

A slot that is taken by a receiver which does not answer is taken for long. So a quarter of all slots is only for
origins that answered a moment ago, and keep no attempt waiting for long since; and of these, an eighth of all slots is
only for those that are *prompt*: to wait for one of them is to wait for nothing, however many others are slow. Of the
others, one that never was tried has one for its first attempt, and a few while many are free. Those whose latest
attempt was not answered have a few each, but no more of them start while a quarter of all slots is taken by such, or by
what has waited long for its first answer: so what is new finds room beside what hangs. Nor does more start of one that
is known and keeps its attempts waiting while a quarter of all slots is taken by such; once it answers, it goes on.
What has waited long counts as a slot only for that quarter: as many attempts again may hang without being in the way.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, auto

from relay.policy import newcomers
from relay.queue.claims import OwnersOrigin

PATIENCE = 1.0
"""Seconds: an attempt that was not answered by then is one that hangs, for all that is known."""
PROMPT_SECONDS = 0.25
"""Whoever takes longer to answer is slow: a few hundred such keep all slots for longer than anybody should wait."""


@dataclass(frozen=True, slots=True)
class Slots:
    """Attempts in flight: in all, and to one origin. Of both, what did not answer takes the part `doubtful`; in all,
    with whatever did not answer a moment ago, three times that, and with what is slow all but the part `quick`; and one
    origin that may not answer at most a `few`. One that hangs takes a slot for a `timeout`, in seconds."""

    in_all: int = 256
    per_destination: int = 16
    doubtful: float = 0.25
    quick: float = 0.125
    few: int = 4
    timeout: float = 30.0

    def doubtful_of(self, slots: int) -> int:
        """How many of some slots what did not answer can take; one at least."""
        return max(1, int(slots * self.doubtful))

    def unproven_of(self, slots: int) -> int:
        """How many of some slots can be taken by all that did not answer a moment ago; one at least."""
        return max(1, min(slots, int(3 * slots * self.doubtful)))

    def not_prompt_of(self, slots: int) -> int:
        """How many of some slots can be taken by all that are not prompt; one at least."""
        return max(1, slots - int(slots * self.quick))


class OriginKind(IntEnum):
    """Of origins, by what is to be expected of them: each kind has a line of its own for the slots."""

    PROMPT = auto()  # answered a moment ago, at once, and keeps nobody waiting
    SLOW = auto()  # answered a moment ago
    KNOWN = auto()
    LATE = auto()  # known, and keeps its attempts waiting
    UNTRIED = auto()
    SILENT = auto()


# To ask an enumeration for a member takes half a microsecond.
PROMPT, SLOW, KNOWN, LATE, UNTRIED, SILENT = OriginKind


class SlotUse:
    """What is under way, by what is to be expected of it: deliveries by their numbers."""

    def __init__(self, slots: Slots) -> None:
        self.quarter = slots.doubtful_of(slots.in_all)  # slots that are enough for those who keep them long
        self.three_quarters = slots.unproven_of(slots.in_all)
        self._in_all = slots.in_all
        self._not_prompt = slots.not_prompt_of(slots.in_all)
        self._slow: set[int] = set()  # to those that answer, in their time
        self._unproven: set[int] = set()  # to those that did not answer a moment ago
        self._hanging: set[int] = set()  # of it, to those that did not answer, or has waited long for the first answer
        self._late: set[int] = set()  # and what has waited long for those that are known

    @property
    def unproven(self) -> int:
        return len(self._unproven)

    @property
    def is_crowded(self) -> bool:
        """Whether those that did not answer a moment ago have what is enough for those who keep slots long."""
        return len(self._unproven) >= self.quarter

    @property
    def excess(self) -> int:
        """What hangs beyond a quarter, and is in nobody's way; as many as there are slots."""
        return min(self._in_all, max(0, len(self._late) + len(self._hanging) - self.quarter))

    @property
    def left_to_hang(self) -> int:
        """How many more may be under way to those that did not answer a moment ago, if all of these hang."""
        return self.three_quarters + self._in_all - len(self._unproven)

    def may_start(self, kind: OriginKind) -> bool:
        """Whether one more of a kind may, where a slot is free."""
        if kind is PROMPT:
            return True
        unproven = len(self._unproven) - self.excess
        if unproven + len(self._slow) >= self._not_prompt:
            return False
        if kind is SLOW:
            return True
        if unproven >= self.three_quarters:
            return False
        if kind is LATE:
            return len(self._late) < self.quarter
        return kind is not SILENT or len(self._hanging) < self.quarter

    def take(self, seq: int, kind: OriginKind, *, silent: bool) -> None:
        """One starts, to an origin of a kind."""
        if kind is SLOW:
            self._slow.add(seq)
        elif kind is not PROMPT:
            self._unproven.add(seq)
        if silent:
            self._hanging.add(seq)

    def waits_long(self, seq: int, *, known: bool) -> bool:
        """One has waited for longer than patience has it; returns whether it is late: to an origin that is known."""
        self._slow.discard(seq)
        self._unproven.add(seq)
        if seq in self._hanging:
            return False
        (self._late if known else self._hanging).add(seq)
        return known

    def leave(self, seq: int) -> None:
        self._slow.discard(seq)
        if seq in self._unproven:  # as whatever hangs or is late is
            for those in (self._unproven, self._hanging, self._late):
                those.discard(seq)


class RecentlyAnswered:
    """Origins that answered within the last seconds: one at least, two at most."""

    def __init__(self) -> None:
        self._now: set[str] = set()
        self._before: set[str] = set()
        self._turns_at = 0.0

    def turn(self) -> None:
        """Forget those that answered longer ago."""
        now = time.monotonic()
        if now >= self._turns_at:
            longer = now >= self._turns_at + PATIENCE
            self._before, self._now = set() if longer else self._now, set()
            self._turns_at = now + PATIENCE

    def add(self, origin: str) -> None:
        self._now.add(origin)

    def discard(self, origin: str) -> None:
        self._now.discard(origin)
        self._before.discard(origin)

    def __bool__(self) -> bool:
        return bool(self._now or self._before)

    def __contains__(self, origin: object) -> bool:
        return origin in self._now or origin in self._before


class NewcomerPace:
    """How many origins that may not answer are asked for. They come at will while nobody else is served, and most slots
    are free."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._credit = newcomers.Credit(newcomers.TOGETHER, time.monotonic())
        self._rate = newcomers.a_second(slots.in_all, slots.timeout)
        self.met: list[OwnersOrigin] = []
        """Of those that might not answer, who did since the last claim that came to an end."""
        self._answers = 0  # of theirs, that have yet to let more come

    def note_answer(self, whose: OwnersOrigin) -> None:
        """One of those that might not answer did."""
        self.met.append(whose)
        self._answers += 1

    def ask(self, use: SlotUse, *, beside: bool) -> int:
        """How many are asked for now, `beside` others that are served."""
        self._rate = newcomers.a_second(use.left_to_hang, self._slots.timeout)
        self._credit = self._credit.earned(time.monotonic(), self._rate, self._answers)
        self._answers = 0
        if not (beside or use.is_crowded):
            return newcomers.MOST
        return int(self._credit.left) if self._credit.left >= newcomers.TOGETHER else 0

    def forget_met(self, met: Sequence[OwnersOrigin]) -> None:
        """These were looked at: a claim that was told of them has come to an end, and did not fail."""
        del self.met[: len(met)]

    def spend(self, came: int) -> float:
        """So many came; returns the seconds after which it is worth while to ask for more, 0.0 where it is now."""
        self._credit = self._credit.spent(came)
        return self._credit.wait(self._rate)
