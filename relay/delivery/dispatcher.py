"""Claims due deliveries a little ahead, and starts one courier run for each when its destination has a free slot."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Protocol, cast

import structlog
from msgspec.structs import replace

from relay.delivery import slots as kinds
from relay.delivery.destination_queue import MOST_AHEAD, DestinationQueue, EndpointQueue
from relay.delivery.settler import Settler
from relay.delivery.slots import PATIENCE, NewcomerPace, OriginKind, RecentlyAnswered, Slots, SlotUse
from relay.outbox.errors import StoreUnavailable
from relay.policy.attempt import Attempted, Delivery, Lease, Outcome
from relay.policy.breaker import OURS, SILENT, Standing
from relay.queue.claims import ClaimRequest, Claims, DestinationKey

Deliver = Callable[[Delivery], Coroutine[None, None, Attempted]]

_REMEMBERED = 10_000
# By names of their own: to ask an enumeration for a member takes half a microsecond, and each attempt has asked twenty.
_ANSWERS, _UNTRIED, _SILENT = Standing.ANSWERS, Standing.UNTRIED, Standing.SILENT
_SUCCESS = Outcome.SUCCESS
_FAILED_SECONDS = 0.05  # in which ends of what failed share a claim
_LOOK_SECONDS = 0.25  # between two looks at what hangs
_PERIOD_SECONDS = 0.1  # in which is counted what a destination takes

log = structlog.get_logger()


class ClaimSource(Protocol):
    """Where due deliveries come from."""

    async def claim(self, request: ClaimRequest) -> Claims:
        """Lease what there is room for. Raises StoreUnavailable."""

    async def renew(self, leases: Iterable[Lease]) -> None:
        """Push the expiry of what is held out."""

    async def release(self, leases: Iterable[Lease], *, sent: bool) -> None:
        """Give back what was not sent, or cut short. Raises StoreUnavailable."""


_Start = tuple[DestinationQueue, EndpointQueue, Delivery]
_Run = tuple[Delivery, DestinationQueue, float]
"""What is under way in a slot, and since when, on the monotonic clock."""
_Line = OrderedDict[DestinationQueue, None]


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
        self._use = SlotUse(slots)
        self._most_held = max(slots.in_all, MOST_AHEAD) * 2
        self._wake = wake
        self._queues: dict[str, DestinationQueue] = {}
        # With something to start and a slot of their own free. The first of the lines has the next slot.
        self._lines = deque((kind, _Line()) for kind in OriginKind)
        self._line_of: Mapping[OriginKind, _Line] = dict(self._lines)
        self._recent = RecentlyAnswered()
        self._newcomers = NewcomerPace()
        self._pressed = False  # more hangs than a quarter of the slots
        self._looks_at = 0.0
        self._period_ends = 0.0
        self._look: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._unanswered: dict[DestinationKey, None] = {}
        self._running: dict[asyncio.Task[None], _Run] = {}
        # Nothing was sent: the outbox would not give the body, or no name server the address.
        self._unread: list[Lease] = []
        self._lapsed = 0
        self.left_due = True
        """Whether the last claim may have left something that is due: where it has not, a slot that becomes free is no
        reason for another."""
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
        self.left_due = True  # until somebody has looked
        if self._unread:
            await self._give_back_unread()
        self._forget_claim()
        self._recent.turn()
        self._find_those_that_hang()
        if self._room_of_others() <= 0:
            await self._give_back_late()
        room, cap = self._room(), self._cap
        if room <= 0 or not cap:
            self._start_all()
            return 0
        claims = await self._source.claim(self._request(room, cap))
        self._lapsed += claims.lapsed
        for delivery in claims.deliveries:
            self._append(delivery, claims)
        for queue in self._queues.values():
            queue.low = 3 * queue.ahead // 4  # the rest lasts while a settlement is committed, and the claim after it
            if queue.ahead:
                self._take_turn(queue)  # the cap may have grown
        await self._leave_alone(claims)
        self._start_all()
        if claims.more:
            self._claim_again(claims.pause)
        came = sum(standing is not _ANSWERS for standing in claims.standing.values())
        if pause := self._newcomers.spend(came):
            self._claim_again(pause)
        return len(claims.deliveries)

    def _claim_again(self, seconds: float) -> None:
        """Another claim is worth while then, if not before."""
        if seconds <= 0.0:
            self._wake.set()
            return
        loop = asyncio.get_running_loop()
        if self._again is None or self._again.when() > loop.time() + seconds:
            self._forget_claim()
            self._again = loop.call_later(seconds, self._wake.set)

    def _forget_claim(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    async def _give_back_unread(self) -> None:
        """As soon as the outbox can be written again, so that nobody waits for the ends of their leases."""
        unread = list(self._unread)
        await self._source.release(unread, sent=False)
        del self._unread[: len(unread)]

    async def _give_back_late(self) -> None:
        """What waits for those that keep others waiting takes the room of whoever answers."""
        late = [queue for queue in self._queues.values() if queue.kind is kinds.LATE and queue.ahead]
        unsent = [queue.give_up(lambda _: True) for queue in late]
        await self._release([lease for leases in unsent for lease in leases], sent=False)

    def _append(self, delivery: Delivery, claims: Claims) -> None:
        queue = self._queues.get(delivery.destination)
        if queue is None:
            origin = delivery.destination
            standing = claims.standing.get((origin, ""), _ANSWERS)
            queue = self._queues[origin] = DestinationQueue(origin, standing, prompt=origin in self._recent)
        silent = delivery.endpoint in self._unanswered or claims.standing.get(delivery.endpoint) is _SILENT
        queue.append(delivery, answered=False if silent else None)
        self._take_turn(queue)

    def _take_turn(self, queue: DestinationQueue) -> None:
        kind = self._line_for(queue)
        if queue.waits is not kind and queue.next_endpoint(self._most(queue), self._slots):
            if queue.waits is not None:
                del self._line_of[queue.waits][queue]
            queue.waits = kind
            self._line_of[kind][queue] = None

    def _line_for(self, queue: DestinationQueue) -> OriginKind:
        """Known ones go in turn with those that are prompt, while there is room for both."""
        kind = queue.kind
        return kinds.PROMPT if kind is kinds.KNOWN and self._use.may_start(kind) else kind

    def _most(self, queue: DestinationQueue) -> int:
        """How many slots an origin may take."""
        if queue.standing is _ANSWERS:
            # While many hang, who has not answered just now may be the next.
            may_hang = self._pressed and queue.answered_at + PATIENCE < time.monotonic()
            return min(1, self._cap) if may_hang else self._cap
        few = 1 if self._use.is_crowded and queue.standing is _UNTRIED else self._slots.few
        return min(self._cap, few)

    def _room(self) -> int:
        """What is not settled yet has given back its body, and takes none of it before it is very much."""
        held = sum(queue.held for queue in self._queues.values())
        return self._most_held - held - max(0, len(self._settler.waiting) - MOST_AHEAD)

    def _room_of_others(self) -> int:
        """Of the room, what is for those that are not prompt: half at most, as what is slow needs little ahead."""
        held = sum(queue.held for queue in self._queues.values() if not queue.prompt)
        return self._slots.unproven_of(self._most_held) // 2 - held

    def _request(self, room: int, cap: int) -> ClaimRequest:
        """How much to claim. Of what some is held of, what it took lately, twice: so that a fast one ramps up, and one
        that hangs holds a handful."""
        self._queues = {origin: queue for origin, queue in self._queues.items() if queue.held}
        few = min(cap, self._slots.few)
        origins: dict[str, int] = {}
        endpoints: dict[DestinationKey, int] = {}
        use = self._use
        untried = use.three_quarters + use.excess - use.unproven + 2 * self._newcomers.met
        silent, too_late, is_crowded = use.quarter, not use.may_start(kinds.LATE), use.is_crowded
        for origin, queue in self._queues.items():
            # It has what it can take, and may be one of many.
            if (too_late and queue.late) or (is_crowded and queue.standing is _UNTRIED):
                origins[origin] = 0
                untried -= queue.standing is _UNTRIED and not queue.busy
                continue
            most = cap if queue.standing is _ANSWERS else few
            origins[origin] = min(most + 2 * queue.took.lately, MOST_AHEAD) - queue.busy_with(most, self._slots)
            untried -= queue.standing is _UNTRIED and not queue.busy
            silent -= queue.held if queue.standing is _SILENT else 0
            for path, endpoint in list(queue.endpoints.items()):
                if not endpoint.held:
                    del queue.endpoints[path]
                    continue
                share = min(cap, queue.share_of(endpoint, most, self._slots))
                endpoints[origin, path] = min(share + 2 * endpoint.took.lately, MOST_AHEAD) - endpoint.held
                silent -= endpoint.held if endpoint.answered is False and queue.standing is _ANSWERS else 0
        for attempt in self._settler.waiting:  # until it is written down, nobody else leaves one alone that fails
            if attempt.outcome is not _SUCCESS:
                endpoints[attempt.delivery.endpoint] = endpoints.get(attempt.delivery.endpoint, cap) - 1
        self._turn_period()
        newcomers = self._newcomers.ask(beside=bool(self._recent))
        untried, silent = (max(0, min(room_of_kind, newcomers)) for room_of_kind in (untried, silent))
        ahead = [
            (origin, path)
            for origin, queue in self._queues.items()
            if queue.ahead
            for path, endpoint in queue.endpoints.items()
            if endpoint.ahead
        ]
        others = self._room_of_others()
        recent = self._recent
        return ClaimRequest(room, cap, cap, silent, untried, few, 1, origins, endpoints, ahead, recent, others)

    def _turn_period(self) -> None:
        now = time.monotonic()
        if now >= self._period_ends:
            self._period_ends = now + _PERIOD_SECONDS
            for queue in self._queues.values():
                queue.turn_period()

    def _start_all(self) -> None:
        while len(self._running) - self._use.excess < self._slots.in_all and (start := self._next()):
            task = asyncio.create_task(self._carry(*start))
            self._running[task] = start[2], start[0], time.monotonic()
            task.add_done_callback(self._stopped)
        # Where all slots hang, nothing ends that would free one.
        if self._look is None and any(line for _, line in self._lines):
            self._look = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        self._find_those_that_hang()
        self._start_all()

    def _find_those_that_hang(self) -> None:
        now = time.monotonic()
        if now < self._looks_at:
            return
        self._looks_at = now + _LOOK_SECONDS
        for delivery, queue, began in self._running.values():
            if began + PATIENCE >= now:
                continue
            is_late = self._use.waits_long(delivery.lease.seq, known=queue.standing is _ANSWERS)
            if is_late and queue.answered_at < began:
                queue.prompt, queue.late = False, True
                self._recent.discard(queue.origin)
        self._pressed = self._use.excess > 0

    def _next(self) -> _Start | None:
        """One delivery each in turn, so that no destination takes all the slots that become free."""
        for _ in range(len(self._lines)):
            kind, line = self._lines[0]
            self._lines.rotate(-1)
            while line and self._use.may_start(kind):
                queue, _none = line.popitem(last=False)
                queue.waits = None
                if self._line_for(queue) is not kind:
                    self._take_turn(queue)
                elif endpoint := queue.next_endpoint(self._most(queue), self._slots):  # the cap may have shrunk since
                    return queue, endpoint, self._take(queue, endpoint)
        return None

    def _take(self, queue: DestinationQueue, endpoint: EndpointQueue) -> Delivery:
        delivery = queue.take(endpoint)
        self._use.take(delivery.lease.seq, prompt=queue.prompt, silent=queue.standing is _SILENT)
        self._take_turn(queue)
        return delivery

    async def _carry(self, queue: DestinationQueue, endpoint: EndpointQueue, delivery: Delivery) -> None:
        """A slot at work, one delivery after another."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        following: _Start | None = queue, endpoint, delivery
        while following is not None:
            queue, endpoint, delivery = following
            began = time.monotonic()
            self._running[task] = delivery, queue, began
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
            if self._line_of[kinds.UNTRIED] or self._line_of[kinds.SILENT]:  # this one may have left room
                self._start_all()
        self._stopped(task)

    def _stopped(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)

    def _enter(self, queue: DestinationQueue, endpoint: EndpointQueue, attempt: Attempted, began: float) -> None:
        silent = attempt.outcome in SILENT
        if silent and queue.answered_at > began:
            attempt = replace(attempt, alone=False)
        self._settler.add(attempt)
        if attempt.outcome in OURS or not attempt.answer.sent:
            return
        endpoint.answered = not silent
        if silent:
            self._unanswered[attempt.delivery.endpoint] = None
            if attempt.alone:
                queue.fell_silent()
        else:
            self._newcomers.met += queue.standing is not _ANSWERS
            queue.answers()
            self._recent.add(queue.origin)
            self._unanswered.pop(attempt.delivery.endpoint, None)
        if len(self._unanswered) > _REMEMBERED:
            del self._unanswered[next(iter(self._unanswered))]
        if attempt.outcome is _SUCCESS:  # to fail fast is no reason to be given more
            queue.took.count()
            endpoint.took.count()

    def _leave(self, queue: DestinationQueue, endpoint: EndpointQueue, delivery: Delivery) -> None:
        self._use.leave(delivery.lease.seq)
        queue.busy -= 1
        endpoint.busy -= 1
        self._take_turn(queue)
        if self._is_more_wanted and queue.ahead <= max(queue.busy, queue.low):
            # The ends of what fails, one by one, are no reason to ask at once, beside those that are served.
            self._claim_again(0.0 if queue.prompt or not self._recent else _FAILED_SECONDS)

    @property
    def _is_more_wanted(self) -> bool:
        """Whether a turn may do anything: with what was left due, waits in line, or is to be given back."""
        return self.left_due or bool(self._unread) or any(line for _, line in self._lines)

    async def _leave_alone(self, claims: Claims) -> None:
        """Paused, disabled, or in trouble: what was not started goes back, but for what was claimed because of that."""

        def is_unwanted(one: Delivery) -> bool:
            return one.endpoint in claims.stopped or (one.endpoint in claims.blocked and not one.allowed)

        touched = {origin for origin, _ in claims.blocked}
        unsent = [self._queues[origin].give_up(is_unwanted) for origin in touched if origin in self._queues]
        await self._release([lease for leases in unsent for lease in leases], sent=False)

    async def renew(self) -> None:
        """Keep the leases of everything held: ahead, under way, and not yet durable."""
        queues = self._queues.values()
        held = [one.lease for queue in queues for endpoint in queue.turns for one in endpoint.ahead]
        held += [delivery.lease for delivery, _, _ in self._running.values()]
        held += [attempt.delivery.lease for attempt in self._settler.waiting] + self._unread
        if held:
            await self._source.renew(held)

    async def drain(self, seconds: float) -> None:
        """Give back what was not started, let attempts finish for that long, stop the rest and release it."""
        unsent = [queue.give_up(lambda _: True) for queue in self._queues.values()]
        await self._release([lease for leases in unsent for lease in leases], sent=False)
        for timer in (self._look, self._again):
            if timer is not None:
                timer.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        left = dict(self._running)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
            # One that ended in the same moment was entered, and keeps its lease for its settlement.
            await self._release([run[0].lease for task, run in left.items() if task.cancelled()], sent=True)
        await self._release(self._unread, sent=False)

    async def _release(self, leases: list[Lease], *, sent: bool) -> None:
        try:
            if leases:
                await self._source.release(leases, sent=sent)
        except StoreUnavailable as error:  # the leases expire by themselves
            log.error("store.error", operation="release", kind=error.kind, held=len(leases), remedy=error.remedy)
