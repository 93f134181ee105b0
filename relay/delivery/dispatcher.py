"""Claims due deliveries a little ahead, and starts one courier run for each when its destination has a free slot.

A slot that is taken by a receiver which does not answer is taken for long. So a quarter of all slots is only for
origins whose latest attempt was answered. Of the others, one that never was tried has one for its first attempt, and a
few while many are free. Those whose latest attempt was not answered have a few each, but no more of them start while a
quarter of all slots is taken by such, or by what has waited long for its first answer: so what is new finds room beside
what hangs. Within an origin, its endpoints whose latest attempt was not answered share a quarter of its slots.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Protocol, cast

import structlog
from msgspec.structs import replace

from relay.delivery.settler import Settler
from relay.outbox.errors import StoreUnavailable
from relay.policy.attempt import Attempted, Delivery, Lease, Outcome
from relay.policy.breaker import OURS, SILENT, Standing
from relay.queue.claiming import Place, Wanted
from relay.queue.deliveries import Claims

Deliver = Callable[[Delivery], Coroutine[None, None, Attempted]]

# Claimed ahead of their slots: enough that a fast destination never waits for a claim, and few for a slow one.
_MOST_AHEAD = 512
_NEWCOMERS = 32  # in one claim: to begin with more keeps all others waiting for the processor
_REMEMBERED = 10_000
_PATIENCE = 1.0  # seconds: a first attempt that was not answered by then is one that hangs, for all that is known

log = structlog.get_logger()


class ClaimSource(Protocol):
    """Where due deliveries come from."""

    async def claim(self, wanted: Wanted) -> Claims:
        """Lease what there is room for. Raises StoreUnavailable."""

    async def renew(self, leases: Iterable[Lease]) -> None:
        """Push the expiry of what is held out."""

    async def release(self, leases: Iterable[Lease], *, sent: bool) -> None:
        """Give back what was not sent, or cut short. Raises StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class Slots:
    """Attempts in flight: in all, and to one origin. Of both, what did not answer takes the part `doubtful`; in all,
    with what never was tried, three times that; and one such origin at most a `few`."""

    in_all: int = 256
    per_destination: int = 16
    doubtful: float = 0.25
    few: int = 4

    def doubtful_of(self, slots: int) -> int:
        """How many of some slots what did not answer can take; one at least."""
        return max(1, int(slots * self.doubtful))

    @property
    def unproven(self) -> int:
        """How many can be taken by what did not answer, or never was tried; one at least."""
        return max(1, min(self.in_all, int(3 * self.in_all * self.doubtful)))


class _Endpoint:
    """Deliveries to one endpoint: claimed and waiting, how many are under way, how many it took since last asked.

    `answered` says whether its latest attempt was; None before the first.
    """

    __slots__ = ("ahead", "answered", "busy", "finished", "path")

    def __init__(self, path: str, *, answered: bool | None) -> None:
        self.path = path
        self.ahead: deque[Delivery] = deque()
        self.busy = 0
        self.finished = 0
        self.answered = answered

    @property
    def held(self) -> int:
        """Claimed, and not at an end."""
        return len(self.ahead) + self.busy


class _DestinationQueue:
    """An origin with those of its endpoints for which something is held."""

    __slots__ = ("ahead", "answered_at", "busy", "endpoints", "finished", "low", "origin", "standing", "turns", "waits")

    def __init__(self, origin: str, standing: Standing) -> None:
        self.origin = origin
        self.standing = standing
        self.endpoints: dict[str, _Endpoint] = {}
        self.turns: deque[_Endpoint] = deque()  # with something ahead, the next one first
        self.ahead = 0
        self.busy = 0
        self.finished = 0
        self.low = 0  # as few ahead as this, and it is time for the next claim: while that runs, these are delivered
        self.waits = False  # for a slot, in the line of those that stand like it
        self.answered_at = 0.0  # on the monotonic clock

    @property
    def held(self) -> int:
        """Claimed, and not at an end."""
        return self.ahead + self.busy

    def busy_with(self, most: int, slots: Slots) -> int:
        """What of its share is held: an endpoint that has yet to answer counts for no more than it can take."""
        return sum(min(one.held, self.share_of(one, most, slots)) for one in self.endpoints.values())

    def share_of(self, endpoint: _Endpoint, most: int, slots: Slots) -> int:
        """How many of so many slots an endpoint can take: one that never was tried of an origin that may not answer
        takes one, so that no path that hangs hides one that answers."""
        if endpoint.answered:
            return _MOST_AHEAD
        if self.standing is Standing.ANSWERS:
            return slots.doubtful_of(most)
        return 1 if endpoint.answered is None else max(1, most - 1)

    def append(self, delivery: Delivery, *, answered: bool | None) -> None:
        """One more that was claimed."""
        endpoint = self.endpoints.get(delivery.path)
        if endpoint is None:
            endpoint = self.endpoints[delivery.path] = _Endpoint(delivery.path, answered=answered)
        if not endpoint.ahead:
            self.turns.append(endpoint)
        endpoint.ahead.append(delivery)
        self.ahead += 1

    def next_endpoint(self, most: int, slots: Slots) -> _Endpoint | None:
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

    def take(self, endpoint: _Endpoint) -> Delivery:
        """The next of the endpoint that is the first in line."""
        self.turns.popleft()
        delivery = endpoint.ahead.popleft()
        if endpoint.ahead:
            self.turns.append(endpoint)
        self.ahead -= 1
        self.busy += 1
        endpoint.busy += 1
        return delivery

    def give_up(self, which: Callable[[Delivery], bool]) -> list[Lease]:
        """Take out what was not started, where it is wanted back."""
        given = [one.lease for endpoint in self.turns for one in endpoint.ahead if which(one)]
        for endpoint in self.turns:
            endpoint.ahead = deque(one for one in endpoint.ahead if not which(one))
        self.turns = deque(endpoint for endpoint in self.turns if endpoint.ahead)
        self.ahead -= len(given)
        return given


_Start = tuple[_DestinationQueue, _Endpoint, Delivery]


class Dispatcher:
    """Keeps the slots busy. `wake` is set whenever another claim may be worth while.

    A slot is a task: when its delivery has ended it goes on with the next that may start, and ends when there is none.
    """

    def __init__(
        self,
        source: ClaimSource,
        deliver: Deliver,
        settler: Settler,
        slots: Slots,
        wake: asyncio.Event,
        share: Callable[[], int] | None = None,
    ) -> None:
        """`share` says, whenever asked, how many of a destination's slots are this relay's; all of them without it."""
        self._source = source
        self._deliver = deliver
        self._settler = settler
        self._slots = slots
        self._wake = wake
        self._queues: dict[str, _DestinationQueue] = {}
        # With something to start and a slot of their own free. The first of the lines has the next slot.
        self._lines = deque((standing, deque[_DestinationQueue]()) for standing in Standing)
        self._line_of = dict(self._lines)
        self._unproven: set[int] = set()  # what is under way to those that may not answer
        self._first: dict[int, float] = {}  # and of this, to what never was tried: since when, until that is long ago
        self._met = 0  # of those that never were tried, how many answered since they were asked for last
        self._unanswered: dict[Place, None] = {}
        self._running: dict[asyncio.Task[None], Delivery] = {}
        # Nothing was sent: the outbox would not give the body, or no name server the address.
        self._unread: list[Lease] = []
        self._lapsed = 0
        self._share = share or (lambda: slots.per_destination)

    @property
    def _cap(self) -> int:
        return self._share()

    @property
    def in_flight(self) -> int:
        return len(self._running)

    def take_lapsed(self) -> int:
        """Leases taken over since the last call."""
        taken, self._lapsed = self._lapsed, 0
        return taken

    async def run_once(self) -> int:
        """Claim what there is room for and start what may start; returns how many deliveries were claimed."""
        if self._unread:
            await self._give_back_unread()
        room, cap = self._room(), self._cap
        if room <= 0 or not cap:
            return 0
        claims = await self._source.claim(self._wanted(room, cap))
        self._lapsed += claims.lapsed
        for delivery in claims.deliveries:
            self._append(delivery, claims)
        for queue in self._queues.values():
            queue.low = queue.ahead // 2
            self._take_turn(queue)  # the cap may have grown
        await self._leave_alone(claims)
        self._start_all()
        if claims.more:
            self._wake.set()
        return len(claims.deliveries)

    async def _give_back_unread(self) -> None:
        """As soon as the outbox can be written again, so that nobody waits for the ends of their leases."""
        unread = list(self._unread)
        await self._source.release(unread, sent=False)
        del self._unread[: len(unread)]

    def _append(self, delivery: Delivery, claims: Claims) -> None:
        queue = self._queues.get(delivery.destination)
        if queue is None:
            standing = claims.standing.get((delivery.destination, ""), Standing.ANSWERS)
            queue = self._queues[delivery.destination] = _DestinationQueue(delivery.destination, standing)
        silent = delivery.place in self._unanswered or claims.standing.get(delivery.place) is Standing.SILENT
        queue.append(delivery, answered=False if silent else None)
        self._take_turn(queue)

    def _take_turn(self, queue: _DestinationQueue) -> None:
        if not queue.waits and queue.next_endpoint(self._most(queue), self._slots):
            queue.waits = True
            self._line_of[queue.standing].append(queue)

    def _most(self, queue: _DestinationQueue) -> int:
        """How many slots an origin may take."""
        if queue.standing is Standing.ANSWERS:
            return self._cap
        is_crowded = len(self._unproven) >= self._slots.doubtful_of(self._slots.in_all)
        few = 1 if is_crowded and queue.standing is Standing.UNTRIED else self._slots.few
        return min(self._cap, few)

    def _room(self) -> int:
        held = sum(queue.held for queue in self._queues.values()) + len(self._settler.waiting)
        return max(self._slots.in_all, _MOST_AHEAD) * 2 - held

    def _wanted(self, room: int, cap: int) -> Wanted:
        """How much to claim. Of what some is held of, what it got through since the last claim, twice: so that a fast
        one ramps up, and one that hangs holds a handful."""
        self._queues = {origin: queue for origin, queue in self._queues.items() if queue.held}
        few = min(cap, self._slots.few)
        origins: dict[str, int] = {}
        endpoints: dict[Place, int] = {}
        untried, silent = self._slots.unproven - len(self._unproven), self._slots.doubtful_of(self._slots.in_all)
        untried, self._met = untried + 2 * self._met, 0
        for origin, queue in self._queues.items():
            most = cap if queue.standing is Standing.ANSWERS else few
            origins[origin] = min(most + 2 * queue.finished, _MOST_AHEAD) - queue.busy_with(most, self._slots)
            untried -= queue.standing is Standing.UNTRIED and not queue.busy
            silent -= queue.held if queue.standing is Standing.SILENT else 0
            queue.finished = 0
            for path, endpoint in list(queue.endpoints.items()):
                if not endpoint.held:
                    del queue.endpoints[path]
                    continue
                share = min(cap, queue.share_of(endpoint, most, self._slots))
                endpoints[origin, path] = min(share + 2 * endpoint.finished, _MOST_AHEAD) - endpoint.held
                silent -= endpoint.held if endpoint.answered is False and queue.standing is Standing.ANSWERS else 0
                endpoint.finished = 0
        for attempt in self._settler.waiting:  # until it is written down, nobody else leaves one alone that fails
            if attempt.outcome is not Outcome.SUCCESS:
                endpoints[attempt.delivery.place] = endpoints.get(attempt.delivery.place, cap) - 1
        untried = max(0, min(untried, _NEWCOMERS))
        ahead = [
            (origin, path)
            for origin, queue in self._queues.items()
            if queue.ahead
            for path, endpoint in queue.endpoints.items()
            if endpoint.ahead
        ]
        return Wanted(room, cap, cap, max(0, silent), untried, few, 1, origins, endpoints=endpoints, ahead=ahead)

    def _start_all(self) -> None:
        while len(self._running) < self._slots.in_all and (start := self._next()):
            task = asyncio.create_task(self._carry(*start))
            self._running[task] = start[2]
            task.add_done_callback(self._stopped)

    def _next(self) -> _Start | None:
        """One delivery each in turn, so that no destination takes all the slots that become free."""
        for _ in range(len(self._lines)):
            standing, line = self._lines[0]
            self._lines.rotate(-1)
            while line and self._may_start(standing):
                queue = line.popleft()
                queue.waits = False
                if queue.standing is not standing:
                    self._take_turn(queue)
                elif endpoint := queue.next_endpoint(self._most(queue), self._slots):  # the cap may have shrunk since
                    return queue, endpoint, self._take(queue, endpoint)
        return None

    def _may_start(self, standing: Standing) -> bool:
        if standing is Standing.ANSWERS:
            return True
        if len(self._unproven) >= self._slots.unproven:
            return False
        return standing is Standing.UNTRIED or self._hanging() < self._slots.doubtful_of(self._slots.in_all)

    def _hanging(self) -> int:
        """Slots of those that did not answer, or have waited long for the first time that they do."""
        since = time.monotonic() - _PATIENCE
        while self._first and next(iter(self._first.values())) < since:
            del self._first[next(iter(self._first))]
        return len(self._unproven) - len(self._first)

    def _take(self, queue: _DestinationQueue, endpoint: _Endpoint) -> Delivery:
        delivery = queue.take(endpoint)
        if queue.standing is not Standing.ANSWERS:
            self._unproven.add(delivery.lease.seq)
        if queue.standing is Standing.UNTRIED:
            self._first[delivery.lease.seq] = time.monotonic()
        self._take_turn(queue)
        return delivery

    async def _carry(self, queue: _DestinationQueue, endpoint: _Endpoint, delivery: Delivery) -> None:
        """A slot at work, one delivery after another."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        following: _Start | None = queue, endpoint, delivery
        while following is not None:
            queue, endpoint, delivery = following
            self._running[task] = delivery
            began = time.monotonic()
            try:
                attempt = await self._deliver(delivery)
                if attempt.outcome is Outcome.SHORTAGE:  # nothing was sent, and nobody but us is at fault
                    self._unread.append(delivery.lease)
                else:
                    self._enter(queue, endpoint, attempt, began)
            except StoreUnavailable:
                self._unread.append(delivery.lease)
            except Exception as error:
                # The lease stays and expires: the delivery is tried again, and whoever reads the log finds the fault.
                log.error("delivery.attempt.crashed", **{"delivery.id": delivery.id}, exc_info=error)
            finally:
                self._leave(queue, endpoint, delivery)
            following = self._next()
            if self._line_of[Standing.UNTRIED] or self._line_of[Standing.SILENT]:  # this one may have left room
                self._start_all()
        self._stopped(task)

    def _stopped(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)

    def _enter(self, queue: _DestinationQueue, endpoint: _Endpoint, attempt: Attempted, began: float) -> None:
        silent = attempt.outcome in SILENT
        if silent and queue.answered_at > began:
            attempt = replace(attempt, alone=False)
        self._settler.add(attempt)
        if attempt.outcome in OURS or not attempt.answer.sent:
            return
        endpoint.answered = not silent
        if silent:
            self._unanswered[attempt.delivery.place] = None
            queue.standing = Standing.SILENT if attempt.alone else queue.standing
        else:
            queue.answered_at = time.monotonic()
            self._met += queue.standing is Standing.UNTRIED
            queue.standing = Standing.ANSWERS
            self._unanswered.pop(attempt.delivery.place, None)
        if len(self._unanswered) > _REMEMBERED:
            del self._unanswered[next(iter(self._unanswered))]
        if attempt.outcome is Outcome.SUCCESS:  # to fail fast is no reason to be given more
            queue.finished += 1
            endpoint.finished += 1

    def _leave(self, queue: _DestinationQueue, endpoint: _Endpoint, delivery: Delivery) -> None:
        self._unproven.discard(delivery.lease.seq)
        self._first.pop(delivery.lease.seq, None)
        queue.busy -= 1
        endpoint.busy -= 1
        self._take_turn(queue)
        if queue.ahead <= max(queue.busy, queue.low):
            self._wake.set()

    async def _leave_alone(self, claims: Claims) -> None:
        """Paused, disabled, or in trouble: what was not started goes back, but for what was claimed because of that."""

        def is_unwanted(one: Delivery) -> bool:
            return one.place in claims.stopped or (one.place in claims.blocked and not one.allowed)

        touched = {origin for origin, _ in claims.blocked}
        unsent = [self._queues[origin].give_up(is_unwanted) for origin in touched if origin in self._queues]
        await self._release([lease for leases in unsent for lease in leases], sent=False)

    async def renew(self) -> None:
        """Keep the leases of everything held: ahead, under way, and not yet durable."""
        queues = self._queues.values()
        held = [one.lease for queue in queues for endpoint in queue.turns for one in endpoint.ahead]
        held += [delivery.lease for delivery in self._running.values()]
        held += [attempt.delivery.lease for attempt in self._settler.waiting] + self._unread
        if held:
            await self._source.renew(held)

    async def drain(self, seconds: float) -> None:
        """Give back what was not started, let attempts finish for that long, stop the rest and release it."""
        unsent = [queue.give_up(lambda _: True) for queue in self._queues.values()]
        await self._release([lease for leases in unsent for lease in leases], sent=False)
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        left = dict(self._running)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
            # One that ended in the same moment was entered, and keeps its lease for its settlement.
            await self._release([delivery.lease for task, delivery in left.items() if task.cancelled()], sent=True)
        await self._release(self._unread, sent=False)

    async def _release(self, leases: list[Lease], *, sent: bool) -> None:
        try:
            if leases:
                await self._source.release(leases, sent=sent)
        except StoreUnavailable as error:  # the leases expire by themselves
            log.error("store.error", operation="release", kind=error.kind, held=len(leases), remedy=error.remedy)
