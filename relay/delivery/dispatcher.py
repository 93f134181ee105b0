"""Claims due deliveries a little ahead, and starts one courier run for each when its destination has a free slot."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from relay.errors import StoreUnavailable
from relay.model import Attempted, Delivery, Lease, Outcome
from relay.outbox.sqlite import Claims

Deliver = Callable[[Delivery], Coroutine[None, None, Attempted]]

# Claimed ahead of their slots: enough that a fast destination never waits for a claim, and few for a slow one.
_MOST_AHEAD = 512

log = structlog.get_logger()


class Queue(Protocol):
    """Where due deliveries come from."""

    async def claim(self, room: int, free: Mapping[str, int], most: int) -> Claims:
        """Lease at most `room` deliveries. Raises StoreUnavailable."""

    async def renew(self, leases: Iterable[Lease]) -> None:
        """Push the expiry of what is held out."""

    async def release(self, leases: Iterable[Lease], *, sent: bool) -> None:
        """Give back what was not sent, or cut short. Raises StoreUnavailable."""


class Ledger(Protocol):
    """Where the ends of attempts go."""

    @property
    def waiting(self) -> Sequence[Attempted]:
        """Those not yet durable."""

    def enter(self, attempt: Attempted) -> None:
        """Take one."""


@dataclass(frozen=True, slots=True)
class Slots:
    """Attempts in flight: in all, and to one destination."""

    in_all: int = 256
    per_destination: int = 16


class Dispatcher:
    """Keeps the slots busy. `wake` is set whenever another claim may be worth while."""

    def __init__(self, queue: Queue, deliver: Deliver, ledger: Ledger, slots: Slots, wake: asyncio.Event) -> None:
        self._queue = queue
        self._deliver = deliver
        self._ledger = ledger
        self._slots = slots
        self._wake = wake
        self._ahead: dict[str, deque[Delivery]] = {}
        self._turns: dict[str, None] = {}  # destinations with something to start and a slot of their own free, in turn
        self._running: dict[asyncio.Task[Attempted], Delivery] = {}
        self._busy = Counter[str]()
        self._finished = Counter[str]()
        self._lapsed = 0
        self.relays = 1

    @property
    def in_flight(self) -> int:
        """Attempts under way."""
        return len(self._running)

    def take_lapsed(self) -> int:
        """Leases taken over since the last call."""
        taken, self._lapsed = self._lapsed, 0
        return taken

    async def run_once(self) -> int:
        """Claim what there is room for and start what may start; returns how many deliveries were claimed."""
        room = self._room()
        if room <= 0:
            return 0
        claims = await self._queue.claim(room, self._free(), self._cap)
        self._lapsed += claims.lapsed
        for delivery in claims.deliveries:
            self._queue_up(delivery)
        await self._leave_alone(claims.blocked)
        self._start_all()
        return len(claims.deliveries)

    def _queue_up(self, delivery: Delivery) -> None:
        origin = delivery.destination
        self._ahead.setdefault(origin, deque()).append(delivery)
        self._take_turn(origin)

    def _take_turn(self, origin: str) -> None:
        if self._ahead.get(origin) and self._busy[origin] < self._cap:
            self._turns.setdefault(origin)

    @property
    def _cap(self) -> int:
        """This relay's share of a destination's slots."""
        return max(1, self._slots.per_destination // self.relays)

    def _room(self) -> int:
        held = sum(map(len, self._ahead.values())) + len(self._running)
        unsettled = len(self._ledger.waiting)
        return max(self._slots.in_all, _MOST_AHEAD) * 2 - held - unsettled

    def _free(self) -> dict[str, int]:
        """How many more to claim of each destination that some are held of: what it got through since the last claim,
        twice, so that a fast one ramps up and one that hangs holds a handful."""
        finished, self._finished = self._finished, Counter()
        # Forget those with nothing ahead and nothing under way.
        self._ahead = {origin: queue for origin, queue in self._ahead.items() if queue}
        self._busy = +self._busy
        held = self._busy + Counter({origin: len(queue) for origin, queue in self._ahead.items()})
        return {origin: min(self._cap + 2 * finished[origin], _MOST_AHEAD) - count for origin, count in held.items()}

    def _start_all(self) -> None:
        """One each in turn, so that no destination takes all the slots that become free."""
        while self._turns and len(self._running) < self._slots.in_all:
            origin = next(iter(self._turns))
            del self._turns[origin]
            if queue := self._ahead.get(origin):
                self._start(queue.popleft())
                self._take_turn(origin)

    def _start(self, delivery: Delivery) -> None:
        task = asyncio.create_task(self._deliver(delivery))
        self._running[task] = delivery
        self._busy[delivery.destination] += 1
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Attempted]) -> None:
        delivery = self._running.pop(task)
        origin = delivery.destination
        self._busy[origin] -= 1
        if not task.cancelled():
            self._enter(task, delivery)
        self._take_turn(origin)
        self._start_all()
        if len(self._ahead.get(origin, ())) <= self._busy[origin]:
            self._wake.set()

    def _enter(self, task: asyncio.Task[Attempted], delivery: Delivery) -> None:
        if error := task.exception():
            # The lease stays and expires: the delivery is tried again, and whoever reads the log finds the fault.
            log.error("delivery.attempt.crashed", **{"delivery.id": delivery.id}, exc_info=error)
            return
        attempt = task.result()
        self._ledger.enter(attempt)
        if attempt.outcome is Outcome.SUCCESS:  # to fail fast is no reason to be given more
            self._finished[delivery.destination] += 1

    async def _leave_alone(self, blocked: Iterable[str]) -> None:
        """Paused, disabled, or its breaker has opened: what was not started goes back."""
        unsent = [delivery.lease for origin in blocked for delivery in self._ahead.pop(origin, ())]
        await self._release(unsent, sent=False)

    async def renew(self) -> None:
        """Keep the leases of everything held: ahead, under way, and not yet durable."""
        held = [delivery.lease for queue in self._ahead.values() for delivery in queue]
        held += [delivery.lease for delivery in self._running.values()]
        held += [attempt.delivery.lease for attempt in self._ledger.waiting]
        if held:
            await self._queue.renew(held)

    async def drain(self, seconds: float) -> None:
        """Give back what was not started, let attempts finish for that long, stop the rest and release it."""
        unsent = [delivery.lease for queue in self._ahead.values() for delivery in queue]
        self._ahead.clear()
        await self._release(unsent, sent=False)
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        left = dict(self._running)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
            # One that ended in the same moment was entered, and keeps its lease for its settlement.
            await self._release([delivery.lease for task, delivery in left.items() if task.cancelled()], sent=True)

    async def _release(self, leases: list[Lease], *, sent: bool) -> None:
        try:
            if leases:
                await self._queue.release(leases, sent=sent)
        except StoreUnavailable as error:  # the leases expire by themselves
            log.error("store.error", operation="release", kind=str(error), held=len(leases))
