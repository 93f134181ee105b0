"""Claims due deliveries a little ahead, and starts one courier run for each when its destination has a free slot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Protocol, cast

import structlog
from msgspec.structs import replace

from relay.delivery.claim_room import ClaimRoom
from relay.delivery.destination_queue import DestinationQueue, EndpointQueue
from relay.delivery.settler import Settler
from relay.delivery.slots import Slots
from relay.delivery.start_order import LOOK_SECONDS, Run, Start, StartOrder
from relay.outbox.errors import StoreUnavailable
from relay.policy.attempt import Attempted, Delivery, Lease, Outcome
from relay.policy.breaker import OURS, SILENT, Standing
from relay.queue.claims import ClaimRequest, Claims
from relay.service.loop import Asked

Deliver = Callable[[Delivery], Coroutine[None, None, Attempted]]

_SHORTAGE = Outcome.SHORTAGE  # to ask an enumeration for a member takes half a microsecond
_FAILED_SECONDS = 0.05  # in which ends of what failed share a claim
_OTHERS_SECONDS = 0.01  # between two claims that bring as many as they may of those that are not prompt
_AT_ONCE = 16  # attempts that start before whatever came meanwhile has its turn

log = structlog.get_logger()


class ClaimSource(Protocol):
    """Where due deliveries come from."""

    async def claim(self, request: ClaimRequest) -> Claims:
        """Lease what there is room for. Raises StoreUnavailable."""

    async def renew(self, leases: Iterable[Lease]) -> None:
        """Push the expiry of what is held out."""

    async def release(self, leases: Iterable[Lease], *, sent: bool) -> None:
        """Give back what was not sent, or cut short. Raises StoreUnavailable."""


class ClaimTimer:
    """Sets `wake` when another claim is worth while, if nothing else does before."""

    def __init__(self, wake: asyncio.Event) -> None:
        self._wake = wake
        self._handle: asyncio.Handle | None = None
        self._due = 0.0  # uvloop has a handle that knows no time of what is due within half a millisecond

    def start(self, seconds: float) -> None:
        """Another is worth while after so many seconds."""
        if seconds <= 0.0:
            self._wake.set()
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        if self._handle is None or due < self._due:
            self.cancel()
            self._handle, self._due = loop.call_later(seconds, self._wake.set), due

    def cancel(self) -> None:
        """A claim begins: it is the one that was waited for."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


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
        lease: float = 60.0,
    ) -> None:
        """`share` says, whenever asked, how many of a destination's slots are this relay's; all of them without it.
        Whatever is claimed or renewed is ours for `lease` seconds."""
        self._source = source
        self._deliver = deliver
        self._settler = settler
        self._slots = slots
        self._share = share or (lambda: slots.per_destination)
        self._order = StartOrder(slots, self._share)
        self._room = ClaimRoom(self._order, settler, slots)
        self._timer = ClaimTimer(wake)
        self._lease = lease
        self._ours_until = time.monotonic() + lease  # what is ahead, on the monotonic clock
        self._look: asyncio.TimerHandle | None = None
        self._running: dict[asyncio.Task[None], Run] = {}
        # Nothing was sent: the outbox would not give the body, or no name server the address.
        self._unread: list[Lease] = []
        self._lapsed = 0
        self._left_due = True

    @property
    def in_flight(self) -> int:
        return len(self._running)

    def take_lapsed(self) -> int:
        """Leases taken over since the last call."""
        taken, self._lapsed = self._lapsed, 0
        return taken

    async def run_once(self) -> int:
        """Claim what there is room for and start what may start; returns how many deliveries were claimed."""
        self._left_due = self._is_full = True  # until somebody has looked
        self._give_up_lapsed()
        if self._unread:
            await self._give_back_unread()
        self._timer.cancel()
        self._order.turn()
        self._order.find_those_that_hang(self._running.values())
        room, cap = self._room.left(), self._share()
        if room.in_all <= 0 and await self._give_back_late():
            room = self._room.left()
        if room.in_all <= 0 or not cap:
            self._start_all()
            return Asked.NOTHING
        request = self._room.request(room, cap, self._held)
        claims = await self._source.claim(request)
        self._order.newcomers.forget_met(request.met)
        self._lapsed += claims.lapsed
        for delivery in claims.deliveries:
            self._order.append(delivery, claims)
        self._order.claimed(claims)
        self._is_full = room.in_all <= len(claims.deliveries)
        await self._leave_alone(claims)
        self._start_all()
        if claims.deliveries:  # their requests go first
            await asyncio.sleep(0)
        self._room.prepare()
        if room.of_others <= 0 and await self._give_back_late():
            self._timer.start(_OTHERS_SECONDS)
        if claims.more:
            self._timer.start(claims.pause)
        if sum(one.destination not in request.prompt for one in claims.deliveries) >= request.others > 0:
            self._timer.start(_OTHERS_SECONDS)
        came = sum(standing is not Standing.ANSWERS for standing in claims.standing.values())
        if pause := self._order.newcomers.spend(came):
            self._timer.start(pause)
        return len(claims.deliveries)

    def _give_up_lapsed(self) -> None:
        """Who stood still for a lease, or could not renew it for so long, may have lost what is ahead to another."""
        began = time.monotonic()
        if began >= self._ours_until:
            self._unread += self._order.give_up(self._order.queues.values(), lambda _: True)
            self._ours_until = began + self._lease  # of what is claimed now

    async def _give_back_unread(self) -> None:
        """As soon as the outbox can be written again, so that nobody waits for the ends of their leases."""
        unread = list(self._unread)
        await self._source.release(unread, sent=False)
        del self._unread[: len(unread)]

    async def _give_back_late(self) -> bool:
        """What waits for those that keep others waiting takes the room of whoever answers; returns whether there was
        anything."""
        late = self._order.give_up(self._room.late(), lambda _: True)
        await self._release(late, sent=False)
        return bool(late)

    def _start_all(self) -> None:
        for _ in range(_AT_ONCE):
            if len(self._running) - self._order.use.excess >= self._slots.in_all or not (start := self._next()):
                break
            task = asyncio.create_task(self._carry(*start))
            self._running[task] = start[2], start[0], time.monotonic()
            task.add_done_callback(self._stopped)
        else:
            asyncio.get_running_loop().call_soon(self._start_all)
        # Where all slots hang, nothing ends that would free one.
        if self._look is None and self._order.has_waiting:
            self._look = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_again)

    def _next(self) -> Start | None:
        """Nothing that may have been lost starts: the next turn gives it back."""
        if time.monotonic() < self._ours_until:
            return self._order.next()
        if self._order.has_waiting:
            self._timer.start(0.0)
        return None

    def _look_again(self) -> None:
        self._look = None
        self._order.find_those_that_hang(self._running.values())
        self._start_all()

    async def _carry(self, queue: DestinationQueue, endpoint: EndpointQueue, delivery: Delivery) -> None:
        """A slot at work, one delivery after another."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        following: Start | None = queue, endpoint, delivery
        while following is not None:
            queue, endpoint, delivery = following
            began = time.monotonic()
            self._running[task] = delivery, queue, began
            try:
                attempt = await self._deliver(delivery)
                if attempt.outcome is _SHORTAGE:  # nothing was sent, and nobody but us is at fault
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
            if self._order.has_waiting:  # a first answer makes room for several
                self._start_all()
        self._stopped(task)

    def _stopped(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)

    def _enter(self, queue: DestinationQueue, endpoint: EndpointQueue, attempt: Attempted, began: float) -> None:
        outcome = attempt.outcome
        silent = outcome in SILENT
        if silent and queue.answered_at > began:
            attempt = replace(attempt, alone=False)
        self._settler.add(attempt)
        if outcome not in OURS and attempt.answer.sent:
            self._order.hear(queue, endpoint, attempt, silent=silent, seconds=time.monotonic() - began)

    def _leave(self, queue: DestinationQueue, endpoint: EndpointQueue, delivery: Delivery) -> None:
        self._order.leave(queue, endpoint, delivery)
        if self._is_more_wanted(queue) and queue.ahead <= max(queue.busy, queue.low):
            # The ends of what fails, one by one, are no reason to ask at once, beside those that are served.
            self._timer.start(0.0 if queue.is_prompt or not self._order.prompt else _FAILED_SECONDS)

    def note_left_due(self, *, is_due: bool) -> None:
        """Whether the last claim left something that is due: where it has not, a slot that becomes free is no reason
        for another."""
        self._left_due = is_due

    def _is_more_wanted(self, queue: DestinationQueue) -> bool:
        """Whether a turn may do anything, as something of this origin has ended: with what was left due and finds room
        now, waits in line, or is to be given back."""
        finds_room = (
            self._is_full or queue.origin in self._order.left or not queue.is_prompt or self._order.newcomers.met
        )
        return bool((self._left_due and finds_room) or self._unread)

    async def _leave_alone(self, claims: Claims) -> None:
        """Paused, disabled, or in trouble: what was not started goes back, but for what was claimed because of that."""

        def is_unwanted(one: Delivery) -> bool:
            return one.endpoint in claims.stopped or (one.endpoint in claims.blocked and not one.allowed)

        queues = self._order.queues
        touched = {queues[origin] for origin, _ in claims.blocked if origin in queues}
        await self._release(self._order.give_up(touched, is_unwanted), sent=False)

    async def renew(self) -> None:
        """Keep the leases of everything held."""
        began = time.monotonic()
        if held := self._held():
            await self._source.renew(held)
        if time.monotonic() < self._ours_until:  # else some of it may have been lost before
            self._ours_until = began + self._lease

    def _held(self) -> list[Lease]:
        """Ahead, under way, and not yet durable."""
        queues = self._order.queues.values()
        held = [one.lease for queue in queues for endpoint in queue.turns for one in endpoint.ahead]
        held += [delivery.lease for delivery, _, _ in self._running.values()]
        return held + [attempt.delivery.lease for attempt in self._settler.waiting] + self._unread

    async def drain(self, seconds: float) -> None:
        """Give back what was not started, let attempts finish for that long, stop the rest and release it."""
        await self._release(self._order.give_up(self._order.queues.values(), lambda _: True), sent=False)
        self._timer.cancel()
        if self._look is not None:
            self._look.cancel()
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
