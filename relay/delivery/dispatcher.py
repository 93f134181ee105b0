"""Claims due deliveries a little ahead, and starts one courier run for each when its destination has a free slot."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import structlog

from relay.delivery.settler import Settler
from relay.outbox.errors import StoreUnavailable
from relay.policy.attempt import Attempted, Delivery, Lease, Outcome
from relay.queue.deliveries import Claims

Deliver = Callable[[Delivery], Coroutine[None, None, Attempted]]

# Claimed ahead of their slots: enough that a fast destination never waits for a claim, and few for a slow one.
_MOST_AHEAD = 512

log = structlog.get_logger()


class ClaimSource(Protocol):
    """Where due deliveries come from."""

    async def claim(self, room: int, free: Mapping[str, int], most: int) -> Claims:
        """Lease at most `room` deliveries. Raises StoreUnavailable."""

    async def renew(self, leases: Iterable[Lease]) -> None:
        """Push the expiry of what is held out."""

    async def release(self, leases: Iterable[Lease], *, sent: bool) -> None:
        """Give back what was not sent, or cut short. Raises StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class Slots:
    """Attempts in flight: in all, and to one destination."""

    in_all: int = 256
    per_destination: int = 16


class _DestinationQueue:
    """Deliveries to one destination: claimed and waiting, how many are under way, how many it took since last asked."""

    __slots__ = ("ahead", "busy", "finished", "low", "origin", "waits")

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.ahead: deque[Delivery] = deque()
        self.busy = 0
        self.finished = 0
        self.low = 0  # as few ahead as this, and it is time for the next claim: while that runs, these are delivered
        self.waits = False  # for a slot, in the queue of those whose turn comes

    @property
    def held(self) -> int:
        """Claimed, and not at an end."""
        return len(self.ahead) + self.busy


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
        self._turns: deque[_DestinationQueue] = deque()  # with something to start and a slot of their own free
        self._running: dict[asyncio.Task[None], Delivery] = {}
        self._unread: list[Lease] = []  # nothing was sent: the outbox gave no body, or nobody an address
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
        claims = await self._source.claim(room, self._free(), cap)
        self._lapsed += claims.lapsed
        for delivery in claims.deliveries:
            self._append(delivery)
        for queue in self._queues.values():
            queue.low = len(queue.ahead) // 2
            self._take_turn(queue)  # the cap may have grown
        await self._leave_alone(claims.blocked)
        self._start_all()
        return len(claims.deliveries)

    async def _give_back_unread(self) -> None:
        """As soon as the outbox can be written again, so that nobody waits for the ends of their leases."""
        unread = list(self._unread)
        await self._source.release(unread, sent=False)
        del self._unread[: len(unread)]

    def _append(self, delivery: Delivery) -> None:
        queue = self._queues.get(delivery.destination)
        if queue is None:
            queue = self._queues[delivery.destination] = _DestinationQueue(delivery.destination)
        queue.ahead.append(delivery)
        self._take_turn(queue)

    def _take_turn(self, queue: _DestinationQueue) -> None:
        if queue.ahead and queue.busy < self._cap and not queue.waits:
            queue.waits = True
            self._turns.append(queue)

    def _room(self) -> int:
        held = sum(queue.held for queue in self._queues.values()) + len(self._settler.waiting)
        return max(self._slots.in_all, _MOST_AHEAD) * 2 - held

    def _free(self) -> dict[str, int]:
        """How many more to claim of each destination that some are held of: what it got through since the last claim,
        twice, so that a fast one ramps up and one that hangs holds a handful."""
        self._queues = {origin: queue for origin, queue in self._queues.items() if queue.held}
        free = {}
        for origin, queue in self._queues.items():
            free[origin] = min(self._cap + 2 * queue.finished, _MOST_AHEAD) - queue.held
            queue.finished = 0
        return free

    def _start_all(self) -> None:
        while len(self._running) < self._slots.in_all and (queue := self._next_queue()):
            delivery = self._take(queue)
            task = asyncio.create_task(self._carry(queue, delivery))
            self._running[task] = delivery
            task.add_done_callback(self._stopped)

    def _next_queue(self) -> _DestinationQueue | None:
        """One delivery each in turn, so that no destination takes all the slots that become free."""
        while self._turns:
            queue = self._turns.popleft()
            queue.waits = False
            if queue.ahead and queue.busy < self._cap:  # the cap may have shrunk since
                return queue
        return None

    def _take(self, queue: _DestinationQueue) -> Delivery:
        delivery = queue.ahead.popleft()
        queue.busy += 1
        self._take_turn(queue)
        return delivery

    async def _carry(self, queue: _DestinationQueue, delivery: Delivery) -> None:
        """A slot at work, one delivery after another."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        following: _DestinationQueue | None = queue
        while following is not None:
            queue = following
            self._running[task] = delivery
            try:
                attempt = await self._deliver(delivery)
                if attempt.outcome is Outcome.SHORTAGE:  # nothing was sent, and nobody but us is at fault
                    self._unread.append(delivery.lease)
                else:
                    self._enter(queue, attempt)
            except StoreUnavailable:
                self._unread.append(delivery.lease)
            except Exception as error:
                # The lease stays and expires: the delivery is tried again, and whoever reads the log finds the fault.
                log.error("delivery.attempt.crashed", **{"delivery.id": delivery.id}, exc_info=error)
            finally:
                self._leave(queue)
            if following := self._next_queue():
                delivery = self._take(following)
        self._stopped(task)

    def _stopped(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)

    def _enter(self, queue: _DestinationQueue, attempt: Attempted) -> None:
        self._settler.add(attempt)
        if attempt.outcome is Outcome.SUCCESS:  # to fail fast is no reason to be given more
            queue.finished += 1

    def _leave(self, queue: _DestinationQueue) -> None:
        queue.busy -= 1
        self._take_turn(queue)
        if len(queue.ahead) <= max(queue.busy, queue.low):
            self._wake.set()

    async def _leave_alone(self, blocked: Iterable[str]) -> None:
        """Paused, disabled, or its breaker has opened: what was not started goes back."""
        await self._give_back(self._queues[origin] for origin in blocked if origin in self._queues)

    async def _give_back(self, queues: Iterable[_DestinationQueue]) -> None:
        unsent: list[Lease] = []
        for queue in queues:
            unsent += [delivery.lease for delivery in queue.ahead]
            queue.ahead.clear()
        await self._release(unsent, sent=False)

    async def renew(self) -> None:
        """Keep the leases of everything held: ahead, under way, and not yet durable."""
        held = [delivery.lease for queue in self._queues.values() for delivery in queue.ahead]
        held += [delivery.lease for delivery in self._running.values()]
        held += [attempt.delivery.lease for attempt in self._settler.waiting] + self._unread
        if held:
            await self._source.renew(held)

    async def drain(self, seconds: float) -> None:
        """Give back what was not started, let attempts finish for that long, stop the rest and release it."""
        await self._give_back(self._queues.values())
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
