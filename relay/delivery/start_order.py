"""What is claimed and has not started, and which of it has the next slot. Each kind of origin has a line of its own."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from itertools import chain

from relay.delivery.destination_queue import DestinationQueue, EndpointQueue
from relay.delivery.slots import (
    KNOWN,
    PATIENCE,
    PROMPT,
    PROMPT_SECONDS,
    SLOW,
    NewcomerPace,
    OriginKind,
    RecentlyAnswered,
    Slots,
    SlotUse,
)
from relay.policy import newcomers
from relay.policy.attempt import Attempted, Delivery, Lease, Outcome
from relay.policy.breaker import Standing
from relay.queue.claims import Claims, DestinationKey

LOOK_SECONDS = 0.25
"""Between two looks at what hangs."""

_REMEMBERED = 10_000
# By names of their own: to ask an enumeration for a member takes half a microsecond, and each attempt has asked twenty.
_ANSWERS, _UNTRIED, _SILENT = Standing.ANSWERS, Standing.UNTRIED, Standing.SILENT
_SUCCESS = Outcome.SUCCESS

Start = tuple[DestinationQueue, EndpointQueue, Delivery]
Run = tuple[Delivery, DestinationQueue, float]
"""What is under way in a slot, and since when, on the monotonic clock."""
_Line = OrderedDict[DestinationQueue, None]


class StartOrder:
    """`share` says, whenever asked, how many of a destination's slots are this relay's.

    `queues` are by origin, `use` is of the slots, `prompt` and `slow` are the origins that answered a moment ago.
    """

    def __init__(self, slots: Slots, share: Callable[[], int]) -> None:
        self._slots = slots
        self.share = share
        self.use = SlotUse(slots)
        self.queues: dict[str, DestinationQueue] = {}
        self.left: Container[str] = ()
        """Origins of which more may be ready, for all that the last claim saw."""
        self.prompt, self.slow = RecentlyAnswered(), RecentlyAnswered()
        self.newcomers = NewcomerPace(slots)
        # With something to start and a slot of their own free. The first of the lines has the next slot.
        self._lines = deque((kind, _Line()) for kind in OriginKind)
        self._line_of: Mapping[OriginKind, _Line] = dict(self._lines)
        self._unanswered: dict[DestinationKey, None] = {}
        self._pressed = False  # more hangs than a quarter of the slots
        self._doubted = newcomers.Credit(newcomers.TOGETHER, time.monotonic())  # known ones that may start meanwhile
        self._looks_at = 0.0
        self._changed: set[DestinationQueue] = set()
        self._counted: set[DestinationQueue] = set()  # of what has changed since the last claim
        self._allowed: Sequence[object] = ()  # what says how many slots an origin may take, as of the last claim

    @property
    def has_waiting(self) -> bool:
        """Whether anything is in line."""
        return any(line for _, line in self._lines)

    def append(self, delivery: Delivery, claims: Claims) -> None:
        queue = self.queues.get(delivery.destination)
        if queue is None:
            origin = delivery.destination
            standing = claims.standing.get((origin, ""), _ANSWERS)
            expected = PROMPT if origin in self.prompt else SLOW if origin in self.slow else KNOWN
            queue = self.queues[origin] = DestinationQueue(origin, standing, expected, self._changed)
        endpoint = delivery.endpoint
        silent = endpoint in self._unanswered or claims.standing.get(endpoint) is _SILENT
        queue.append(delivery, answered=False if silent else None)
        self._take_turn(queue)

    def take_changed(self) -> set[DestinationQueue]:
        """Of which queues something has changed since the last call. What is empty is forgotten, but for a fast one,
        whose slots may all have ended in one turn of the loop: without what it took lately, no more than these would be
        claimed of it again, and then again."""
        changed = self._changed.copy()
        self._changed.clear()
        self._counted |= changed
        most = self.share()
        for queue in changed:
            if not queue.held and queue.took.lately < most and self.queues.get(queue.origin) is queue:
                del self.queues[queue.origin]
        return changed

    def claimed(self, claims: Claims) -> None:
        """A claim has brought what it did; and the share may have grown."""
        self.left = claims.left
        changed = self._counted | self._changed
        self._counted = set()
        for queue in changed:
            queue.note_claim()
        before, self._allowed = self._allowed, (self.share(), self._pressed, self.use.is_crowded)
        for queue in changed if self._allowed == before else self.queues.values():
            if queue.ahead and queue.waits is None:
                self._take_turn(queue)

    def next(self) -> Start | None:
        """One delivery each in turn, so that no destination takes all the slots that become free."""
        for visited, (kind, line) in enumerate(self._lines, 1):
            while line and self._may_start(kind):
                queue, _none = line.popitem(last=False)
                queue.waits = None
                if self._line_for(queue) is not kind:
                    self._take_turn(queue)
                elif endpoint := queue.next_endpoint(self._most(queue), self._slots):  # the cap may have shrunk since
                    self._lines.rotate(-visited)
                    return queue, endpoint, self._take(queue, endpoint)
        return None

    def leave(self, queue: DestinationQueue, endpoint: EndpointQueue, delivery: Delivery) -> None:
        """One that was under way has ended."""
        self.use.leave(delivery.lease.seq)
        queue.leave(endpoint)
        self._take_turn(queue)

    def is_slow_in_line(self, enough: int, most: int) -> bool:
        """Whether so many deliveries to slow origins could start if there were slots, of each so many at the most."""
        if not self.slow:
            return False
        for queue in chain(self._line_of[SLOW], self._line_of[PROMPT]):
            if queue.kind is SLOW:
                enough -= min(queue.ahead, most - queue.busy)
                if enough <= 0:
                    return True
        return False

    def turn(self) -> None:
        """Forget who answered longer ago."""
        self.prompt.turn()
        self.slow.turn()

    def hear(
        self, queue: DestinationQueue, endpoint: EndpointQueue, attempt: Attempted, *, silent: bool, seconds: float
    ) -> None:
        """What came of one that was sent, after so long, says what is to be expected of the next."""
        endpoint.answered = not silent
        if silent:
            self._unanswered[attempt.delivery.endpoint] = None
            if len(self._unanswered) > _REMEMBERED:
                del self._unanswered[next(iter(self._unanswered))]
            if attempt.alone:
                queue.fell_silent()
            return
        if queue.standing is not _ANSWERS:
            self.newcomers.note_answer((attempt.delivery.owner, queue.origin))
        elif self._pressed and not queue.is_proven:
            self._doubted = self._doubted.answered(1)
        self._note_answer(queue, at_once=seconds < PROMPT_SECONDS)
        if self._unanswered:
            self._unanswered.pop(attempt.delivery.endpoint, None)
        if attempt.outcome is _SUCCESS:  # to fail fast is no reason to be given more
            queue.took.count()
            endpoint.took.count()

    def _note_answer(self, queue: DestinationQueue, *, at_once: bool) -> None:
        queue.answers(at_once=at_once)
        these, others = (self.prompt, self.slow) if at_once else (self.slow, self.prompt)
        these.add(queue.origin)
        others.discard(queue.origin)

    def find_those_that_hang(self, running: Iterable[Run]) -> None:
        """Among what is under way; at most once in `LOOK_SECONDS`."""
        now = time.monotonic()
        if now < self._looks_at:
            return
        self._looks_at = now + LOOK_SECONDS
        for delivery, queue, began in running:
            if began + PATIENCE >= now:
                continue
            is_late = self.use.waits_long(delivery.lease.seq, known=queue.standing is _ANSWERS)
            if is_late and queue.answered_at < began:
                queue.keeps_waiting()
                self.prompt.discard(queue.origin)
                self.slow.discard(queue.origin)
        self._pressed = self.use.excess > 0
        self._doubted = self._doubted.earned(now, newcomers.a_second(self.use.left_to_hang, self._slots.timeout))

    def give_up(self, queues: Iterable[DestinationQueue], which: Callable[[Delivery], bool]) -> list[Lease]:
        """Take out what was not started, where it is wanted back."""
        return [lease for queue in queues for lease in queue.give_up(which)]

    def _take_turn(self, queue: DestinationQueue) -> None:
        kind = self._line_for(queue)
        if queue.waits is not kind and queue.next_endpoint(self._most(queue), self._slots):
            if queue.waits is not None:
                del self._line_of[queue.waits][queue]
            queue.waits = kind
            self._line_of[kind][queue] = None

    def _line_for(self, queue: DestinationQueue) -> OriginKind:
        """Slow and known ones go in turn with those that are prompt, while there is room for all."""
        kind = queue.kind
        return PROMPT if (kind is SLOW or kind is KNOWN) and self._may_start(kind) else kind

    def _may_start(self, kind: OriginKind) -> bool:
        """While many hang, known ones that have not answered just now may be the next: they come as newcomers do."""
        if kind is KNOWN and self._pressed and self._doubted.left < 1:
            return False
        return self.use.may_start(kind)

    def _most(self, queue: DestinationQueue) -> int:
        """How many slots an origin may take."""
        if queue.standing is _ANSWERS:
            # While many hang, who has not answered just now may be the next.
            may_hang = self._pressed and queue.answered_at + PATIENCE < time.monotonic()
            return min(1, self.share()) if may_hang else self.share()
        few = 1 if self.use.is_crowded and queue.standing is _UNTRIED else self._slots.few
        return min(self.share(), few)

    def _take(self, queue: DestinationQueue, endpoint: EndpointQueue) -> Delivery:
        if self._pressed and queue.kind is KNOWN:
            self._doubted = self._doubted.spent(1)
        delivery = queue.take(endpoint)
        self.use.take(delivery.lease.seq, queue.expected, silent=queue.standing is _SILENT)
        self._take_turn(queue)
        return delivery
