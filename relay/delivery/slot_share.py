"""How many of a destination's slots are this relay's, where several relays share one database.

Each of n relays takes an n-th, so that together they never exceed the cap. Whoever joins others waits until they must
have noticed; whoever could not be noticed for a while stops, before the others take its slots, and joins again.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from relay.policy.fairness import part
from relay.queue.group import Membership, RelayGroup

CHECK_SECONDS = 1.5
_JOIN_SECONDS = 1.75
# Well before the others take an n-th more for themselves (`queue.group.GONE_SECONDS`).
_OVERDUE_SECONDS = 5.0


class SlotShare:
    """One relay's share. Nothing until it has checked in."""

    def __init__(self, slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._slots = slots
        self._clock = clock
        self._membership = Membership(0, 0)
        self._heard_at = -math.inf
        self._joined_at = -math.inf
        self._is_alone = False  # and has been for long enough: it is asked several times for each delivery

    async def check_in(self, group: RelayGroup, wake: asyncio.Event) -> None:
        """Ask the others, and `wake` whoever claims where there are more slots than before."""
        asked_at, before = self._clock(), self.share()
        self.update(await group.check_in(), asked_at)
        if self.share() > before:
            wake.set()

    def update(self, membership: Membership, asked_at: float) -> None:
        """This is our place, by what we asked at a moment of the clock."""
        new = asked_at - self._heard_at > _OVERDUE_SECONDS
        if new and max(membership.relays, self._membership.relays) > 1:
            self._joined_at = self._clock() + _JOIN_SECONDS
        self._membership, self._heard_at = membership, asked_at
        self._is_alone = membership.relays == 1 and self._clock() >= self._joined_at

    def share(self) -> int:
        """Slots of each destination, at this moment."""
        if self._is_alone:
            return self._slots
        now, membership = self._clock(), self._membership
        overdue = membership.relays > 1 and now - self._heard_at > _OVERDUE_SECONDS
        if not membership.relays or overdue or now < self._joined_at:
            return 0
        return part(self._slots, membership.rank, membership.relays)
