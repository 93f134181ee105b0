"""Claims due deliveries a little ahead, and starts one courier run for each when its destination has a free slot."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import structlog

from relay.outbox.errors import StoreUnavailable
from relay.policy.attempt import Attempted, Delivery, Lease, Outcome
from relay.queue.deliveries import Claims

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


class _Line:
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

    def __init__(self, queue: Queue, deliver: Deliver, ledger: Ledger, slots: Slots, wake: asyncio.Event) -> None:
        self._queue = queue
        self._deliver = deliver
        self._ledger = ledger
        self._slots = slots
        self._wake = wake
        self._lines: dict[str, _Line] = {}
        self._turns: deque[_Line] = deque()  # with something to start and a slot of their own free
        self._running: dict[asyncio.Task[None], Delivery] = {}
        self._unread: list[Lease] = []  # whose body or keys the outbox would not give: nothing was sent
        self._lapsed = 0
        self._share: Callable[[], int] = lambda: slots.per_destination

    def share_by(self, share: Callable[[], int]) -> None:
        """Several relays work on the same destinations: so many of a destination's slots are this one's, when asked."""
        self._share = share

    @property
    def _cap(self) -> int:
        return self._share()

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
        if self._unread:
            await self._give_back_unread()
        room, cap = self._room(), self._cap
        if room <= 0 or not cap:
            return 0
        claims = await self._queue.claim(room, self._free(), cap)
        self._lapsed += claims.lapsed
        for delivery in claims.deliveries:
            self._queue_up(delivery)
        for line in self._lines.values():
            line.low = len(line.ahead) // 2
            self._take_turn(line)  # the cap may have grown
        await self._leave_alone(claims.blocked)
        self._start_all()
        return len(claims.deliveries)

    async def _give_back_unread(self) -> None:
        """As soon as the outbox can be written again, so that nobody waits for the ends of their leases."""
        unread = list(self._unread)
        await self._queue.release(unread, sent=False)
        del self._unread[: len(unread)]

    def _queue_up(self, delivery: Delivery) -> None:
        line = self._lines.get(delivery.destination)
        if line is None:
            line = self._lines[delivery.destination] = _Line(delivery.destination)
        line.ahead.append(delivery)
        self._take_turn(line)

    def _take_turn(self, line: _Line) -> None:
        if line.ahead and line.busy < self._cap and not line.waits:
            line.waits = True
            self._turns.append(line)

    def _room(self) -> int:
        held = sum(line.held for line in self._lines.values()) + len(self._ledger.waiting)
        return max(self._slots.in_all, _MOST_AHEAD) * 2 - held

    def _free(self) -> dict[str, int]:
        """How many more to claim of each destination that some are held of: what it got through since the last claim,
        twice, so that a fast one ramps up and one that hangs holds a handful."""
        self._lines = {origin: line for origin, line in self._lines.items() if line.held}
        free = {}
        for origin, line in self._lines.items():
            free[origin] = min(self._cap + 2 * line.finished, _MOST_AHEAD) - line.held
            line.finished = 0
        return free

    def _start_all(self) -> None:
        while len(self._running) < self._slots.in_all and (line := self._next_line()):
            delivery = self._take(line)
            task = asyncio.create_task(self._carry(line, delivery))
            self._running[task] = delivery
            task.add_done_callback(self._stopped)

    def _next_line(self) -> _Line | None:
        """One delivery each in turn, so that no destination takes all the slots that become free."""
        while self._turns:
            line = self._turns.popleft()
            line.waits = False
            if line.ahead and line.busy < self._cap:  # the cap may have shrunk since
                return line
        return None

    def _take(self, line: _Line) -> Delivery:
        delivery = line.ahead.popleft()
        line.busy += 1
        self._take_turn(line)
        return delivery

    async def _carry(self, line: _Line, delivery: Delivery) -> None:
        """A slot at work, one delivery after another."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        following: _Line | None = line
        while following is not None:
            line = following
            self._running[task] = delivery
            try:
                self._enter(line, await self._deliver(delivery))
            except StoreUnavailable:
                self._unread.append(delivery.lease)
            except Exception as error:
                # The lease stays and expires: the delivery is tried again, and whoever reads the log finds the fault.
                log.error("delivery.attempt.crashed", **{"delivery.id": delivery.id}, exc_info=error)
            finally:
                self._leave(line)
            if following := self._next_line():
                delivery = self._take(following)
        self._stopped(task)

    def _stopped(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)

    def _enter(self, line: _Line, attempt: Attempted) -> None:
        self._ledger.enter(attempt)
        if attempt.outcome is Outcome.SUCCESS:  # to fail fast is no reason to be given more
            line.finished += 1

    def _leave(self, line: _Line) -> None:
        line.busy -= 1
        self._take_turn(line)
        if len(line.ahead) <= max(line.busy, line.low):
            self._wake.set()

    async def _leave_alone(self, blocked: Iterable[str]) -> None:
        """Paused, disabled, or its breaker has opened: what was not started goes back."""
        await self._give_back(self._lines[origin] for origin in blocked if origin in self._lines)

    async def _give_back(self, lines: Iterable[_Line]) -> None:
        unsent: list[Lease] = []
        for line in lines:
            unsent += [delivery.lease for delivery in line.ahead]
            line.ahead.clear()
        await self._release(unsent, sent=False)

    async def renew(self) -> None:
        """Keep the leases of everything held: ahead, under way, and not yet durable."""
        held = [delivery.lease for line in self._lines.values() for delivery in line.ahead]
        held += [delivery.lease for delivery in self._running.values()]
        held += [attempt.delivery.lease for attempt in self._ledger.waiting] + self._unread
        if held:
            await self._queue.renew(held)

    async def drain(self, seconds: float) -> None:
        """Give back what was not started, let attempts finish for that long, stop the rest and release it."""
        await self._give_back(self._lines.values())
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
                await self._queue.release(leases, sent=sent)
        except StoreUnavailable as error:  # the leases expire by themselves
            log.error("store.error", operation="release", kind=error.kind, held=len(leases))
