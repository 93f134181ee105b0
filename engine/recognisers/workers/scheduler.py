"""The processes that recognisers live in: whose turn it is, what is loaded where, and when it is unloaded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from engine.errors import RecogniserUnavailable, WorkerDied
from engine.recognisers.base import Progress
from engine.recognisers.workers import wire
from engine.recognisers.workers.placing import Load, Never, Place, Resident, Use, Wait, place
from engine.recognisers.workers.process import Worker

_ELSEWHERE = ""  # the name of no recogniser here


@dataclass(frozen=True, slots=True)
class Moved:
    """A recogniser was given a process, or the process was ended: because it was `idle`, or for the `memory`."""

    recogniser: str
    memory: int
    why: Literal["needed", "idle", "memory"]


def unheard(moved: Moved) -> None:
    """For whoever does not ask."""


@dataclass(eq=False, slots=True)
class _Seat:
    """A worker, and what it holds."""

    worker: Worker
    recogniser: str | None = None
    memory: int = 0
    busy: bool = False
    used_at: float = 0.0
    timer: asyncio.TimerHandle | None = None

    def resident(self, number: int) -> Resident:
        return Resident(number, self.recogniser, self.memory, self.busy, self.used_at)

    def sit(self, recogniser: str | None, memory: int) -> None:
        self.recogniser, self.memory = recogniser, memory

    def take(self) -> None:
        self.busy = True
        self.stay()

    def stay(self) -> None:
        """Forget that it was to be unloaded."""
        if self.timer:
            self.timer.cancel()


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """A task that waits for its seat."""

    recogniser: str
    memory: int
    seat: asyncio.Future[_Seat]


class Residence:
    """At most `size` tasks at once. First come, first served: a task that waits for memory lets none pass, because a
    large model could wait for ever behind small ones."""

    def __init__(
        self, size: int, idle_seconds: float | None, budget: int | None, tell: Callable[[Moved], None]
    ) -> None:
        self._seats = [_seat() for _ in range(size)]
        self._size = size
        self._idle_seconds = idle_seconds
        self._budget = budget
        self._tell = tell
        self._reserved = 0
        self._waiting: deque[_Turn] = deque()
        self._endings: set[asyncio.Task[None]] = set()
        self.spare: Callable[[], None] = lambda: None
        """Asked for memory, where a task waits for some: whoever reserved what is of no use now may release it."""

    async def start(self) -> None:
        await asyncio.gather(*(seat.worker.start() for seat in self._seats))

    async def stop(self) -> None:
        for turn in self._waiting:
            if not turn.seat.done():
                turn.seat.set_exception(WorkerDied("the workers were stopped"))
        self._waiting.clear()
        for seat in self._seats:
            seat.stay()
        await asyncio.gather(*(seat.worker.stop() for seat in self._seats), *self._endings)

    async def ask(self, recogniser: str, task: wire.Hear, progress: Progress) -> wire.Answer:
        """Wait for a turn, then for the answer. Raises RecogniserUnavailable, WorkerDied."""
        seat = await self._turn(recogniser, task.spec.memory)
        answer: wire.Answer | None = None
        try:
            await self.cleared()  # before more is loaded
            answer = await seat.worker.ask(task, progress)
        finally:
            self._leave(seat, empty=not seat.worker.holds or isinstance(answer, wire.Unloadable))
        return answer

    def reserve(self, recogniser: str, memory: int) -> bool:
        """Count bytes that are taken elsewhere, for which idle recognisers are unloaded; whether there was room.

        Raises RecogniserUnavailable where there never is.
        """
        match place(_ELSEWHERE, memory, self._residents(), self._budget):
            case Load(_, unload):
                for other in unload:
                    self._unload(self._seats[other], "memory")
                self._reserved += memory
                return True
            case Never():
                raise RecogniserUnavailable(_too_large(recogniser, memory, self._budget))
            case _:
                return False

    async def cleared(self) -> None:
        """Wait until what was unloaded is gone."""
        if self._endings:
            await asyncio.wait(self._endings)

    def release(self, memory: int) -> None:
        """They are free again."""
        self._reserved -= memory
        self._serve()

    def _residents(self) -> list[Resident]:
        """The processes here, and what is taken elsewhere."""
        here = [seat.resident(number) for number, seat in enumerate(self._seats)]
        return [*here, Resident(-1, None, self._reserved, busy=True, used_at=0.0)]

    async def _turn(self, recogniser: str, memory: int) -> _Seat:
        turn = _Turn(recogniser, memory, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        self._serve()
        try:
            return await turn.seat
        except asyncio.CancelledError:
            if not turn.seat.cancelled() and not turn.seat.exception():
                self._leave(turn.seat.result(), empty=False)  # it was given, and comes too late
            self._serve()  # the next may need less
            raise

    def _serve(self) -> None:
        """Give seats to those who wait, as far as there are any."""
        while self._waiting and sum(seat.busy for seat in self._seats) < self._size:
            turn = self._waiting[0]
            if turn.seat.done():
                self._waiting.popleft()  # whoever waited has gone
                continue
            where = place(turn.recogniser, turn.memory, self._residents(), self._budget)
            if isinstance(where, Wait):
                self.spare()
                return
            self._waiting.popleft()
            self._settle(turn, where)

    def _settle(self, turn: _Turn, where: Place) -> None:
        match where:
            case Use(number):
                seat = self._seats[number]
            case Load(number, unload):
                for other in unload:
                    self._unload(self._seats[other], "memory")
                seat = self._empty(number)
                seat.sit(turn.recogniser, turn.memory)
                self._tell(Moved(turn.recogniser, turn.memory, "needed"))
            case Never():
                turn.seat.set_exception(RecogniserUnavailable(_too_large(turn.recogniser, turn.memory, self._budget)))
                return
        seat.take()
        turn.seat.set_result(seat)

    def _empty(self, number: int | None) -> _Seat:
        if number is not None:
            return self._seats[number]
        self._seats.append(_seat())
        return self._seats[-1]

    def _leave(self, seat: _Seat, *, empty: bool) -> None:
        loop = asyncio.get_running_loop()
        seat.busy, seat.used_at = False, loop.time()
        if empty:
            seat.sit(None, 0)
        elif self._idle_seconds is not None:
            seat.timer = loop.call_later(self._idle_seconds, self._unload, seat, "idle")
        self._serve()

    def _unload(self, seat: _Seat, why: Literal["idle", "memory"]) -> None:
        """End the seat's process; another starts when there is a task for it."""
        assert seat.recogniser is not None
        self._tell(Moved(seat.recogniser, seat.memory, why))
        seat.sit(None, 0)
        seat.stay()
        ending = asyncio.create_task(seat.worker.end())
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)


def _seat() -> _Seat:
    # Niced, because on a small machine the loop must win the core the moment a packet comes; probing is a caller
    # waiting for an answer, and is not.
    return _Seat(Worker("--nice"))


def _too_large(recogniser: str, memory: int, budget: int | None) -> str:
    return (
        f"recogniser {recogniser!r} needs {memory} bytes of memory, and all recognisers together may take "
        f"{budget}; use a smaller model"
    )
