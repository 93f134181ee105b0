"""What is claimed of one origin and not at an end, by its endpoints, and which of them has the next slot.

Within an origin, its endpoints whose latest attempt was not answered share a quarter of its slots.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from relay.delivery.slots import KNOWN, LATE, PROMPT, SILENT, SLOW, UNTRIED, OriginKind, Slots
from relay.policy.attempt import Delivery, Lease
from relay.policy.breaker import Standing

MOST_AHEAD = 1024
"""Claimed ahead of their slots: enough that a fast destination never waits for a claim, and few for a slow one."""

# By names of their own: to ask an enumeration for a member takes half a microsecond, and each attempt has asked twenty.
_ANSWERS, _UNTRIED, _DID_NOT_ANSWER = Standing.ANSWERS, Standing.UNTRIED, Standing.SILENT


class Throughput:
    """How many deliveries were taken, now and in the period before: a claim that comes soon after another has to know
    of both."""

    __slots__ = ("_before", "_now")

    def __init__(self) -> None:
        self._now = self._before = 0

    def count(self) -> None:
        self._now += 1

    def turn(self) -> None:
        """Another period begins."""
        self._before, self._now = self._now, 0

    @property
    def lately(self) -> int:
        """In this period or in the one before, whichever saw more."""
        return max(self._now, self._before)


class EndpointQueue:
    """Deliveries to one endpoint: claimed and waiting, how many are under way, how many it took lately.

    `answered` says whether its latest attempt was; None before the first.
    """

    __slots__ = ("ahead", "answered", "busy", "path", "took")

    def __init__(self, path: str, *, answered: bool | None) -> None:
        self.path = path
        self.ahead: deque[Delivery] = deque()
        self.busy = 0
        self.took = Throughput()
        self.answered = answered

    @property
    def held(self) -> int:
        """Claimed, and not at an end."""
        return len(self.ahead) + self.busy


class DestinationQueue:
    """An origin with those of its endpoints for which something is held. `expected` is of which kind it is if it
    answers: prompt, slow, known or late. It is among the `changed` once anything of it has; what came of an attempt
    counts from the moment in which that leaves its slot."""

    __slots__ = (
        "_changed", "ahead", "answered_at", "busy", "endpoints", "expected", "low", "origin", "standing", "took",
        "turns", "waits",
    )  # fmt: skip

    def __init__(self, origin: str, standing: Standing, expected: OriginKind, changed: set[DestinationQueue]) -> None:
        self._changed = changed
        self.origin = origin
        self.standing = standing
        self.expected = expected
        self.endpoints: dict[str, EndpointQueue] = {}
        self.turns: deque[EndpointQueue] = deque()  # with something ahead, the next one first
        self.ahead = 0
        self.busy = 0
        self.took = Throughput()
        self.low = 0  # as few ahead as this, and it is time for the next claim: while that runs, these are delivered
        self.waits: OriginKind | None = None  # for a slot, in this line
        self.answered_at = 0.0  # on the monotonic clock

    @property
    def held(self) -> int:
        """Claimed, and not at an end."""
        return self.ahead + self.busy

    @property
    def kind(self) -> OriginKind:
        """In which line it waits."""
        if self.standing is not _ANSWERS:
            return UNTRIED if self.standing is _UNTRIED else SILENT
        return self.expected

    @property
    def is_prompt(self) -> bool:
        """Whether it answered a moment ago, and at once."""
        return self.expected is PROMPT

    @property
    def is_proven(self) -> bool:
        """Whether it answered a moment ago."""
        return self.expected is PROMPT or self.expected is SLOW

    def note_claim(self) -> None:
        """What is ahead lasts while a settlement is committed, and the claim after it; or nothing is left to claim."""
        self.low = 3 * self.ahead // 4

    def keeps_waiting(self) -> None:
        """An attempt waits for longer than patience has it; it may be said again, of whole crowds at once."""
        if self.expected is not LATE:
            self.expected = LATE
            self._changed.add(self)

    def answers(self, *, at_once: bool) -> None:
        """An attempt was answered, in whatever way."""
        self.answered_at = time.monotonic()
        self.standing = _ANSWERS
        self.expected = PROMPT if at_once else SLOW

    def turn_period(self) -> None:
        """What it takes is counted anew."""
        self._changed.add(self)
        self.took.turn()
        for endpoint in self.endpoints.values():
            endpoint.took.turn()

    def fell_silent(self) -> None:
        """An attempt was not answered, and no other one meanwhile."""
        self.standing = _DID_NOT_ANSWER
        self.expected = KNOWN

    def share_of(self, endpoint: EndpointQueue, most: int, slots: Slots) -> int:
        """How many of so many slots an endpoint can take: one that never was tried of an origin that may not answer
        takes one, so that no path that hangs hides one that answers."""
        if endpoint.answered:
            return MOST_AHEAD
        if self.standing is _ANSWERS:
            return slots.doubtful_of(most)
        return 1 if endpoint.answered is None else max(1, most - 1)

    def append(self, delivery: Delivery, *, answered: bool | None) -> None:
        endpoint = self.endpoints.get(delivery.path)
        if endpoint is None:
            endpoint = self.endpoints[delivery.path] = EndpointQueue(delivery.path, answered=answered)
        if not endpoint.ahead:
            self.turns.append(endpoint)
        endpoint.ahead.append(delivery)
        self.ahead += 1
        self._changed.add(self)

    def next_endpoint(self, most: int, slots: Slots) -> EndpointQueue | None:
        """Whose turn it is, of those that may take one of so many slots of the origin. It stays the first in line."""
        if not self.ahead or self.busy >= most:
            return None
        for _ in range(len(self.turns)):
            endpoint = self.turns[0]
            if endpoint.answered:
                return endpoint
            silent = endpoint.busy if endpoint.answered is None else self._silent()
            if silent < self.share_of(endpoint, most, slots):
                return endpoint
            self.turns.rotate(-1)
        return None

    def _silent(self) -> int:
        return sum(endpoint.busy for endpoint in self.endpoints.values() if endpoint.answered is False)

    def take(self, endpoint: EndpointQueue) -> Delivery:
        """The next of the endpoint that is the first in line."""
        self.turns.popleft()
        delivery = endpoint.ahead.popleft()
        if endpoint.ahead:
            self.turns.append(endpoint)
        self.ahead -= 1
        self.busy += 1
        endpoint.busy += 1
        self._changed.add(self)
        return delivery

    def leave(self, endpoint: EndpointQueue) -> None:
        """One that was under way has ended."""
        self.busy -= 1
        endpoint.busy -= 1
        self._changed.add(self)

    def give_up(self, which: Callable[[Delivery], bool]) -> list[Lease]:
        """Take out what was not started, where it is wanted back."""
        given = [one.lease for endpoint in self.turns for one in endpoint.ahead if which(one)]
        for endpoint in self.turns:
            endpoint.ahead = deque(one for one in endpoint.ahead if not which(one))
        self.turns = deque(endpoint for endpoint in self.turns if endpoint.ahead)
        self.ahead -= len(given)
        self._changed.add(self)
        return given
