"""Which process has a task: whose turn it is, what is loaded where, and when it is unloaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from engine.errors import WorkerDied
from engine.recognisers.base import Progress
from engine.recognisers.workers import wire
from engine.recognisers.workers.memory import Holding, MemoryBudget, UnloadReason
from engine.recognisers.workers.process import WorkerProcess


@dataclass(frozen=True, slots=True)
class LoadChange:
    """A recogniser was given a process (`needed`), or the process was ended: it was `idle`, or others needed its
    `memory`. The bytes are those expected of it, or seen."""

    recogniser: str
    memory: int
    why: Literal["needed"] | UnloadReason


@dataclass(eq=False, slots=True)
class _Slot:
    """A process, and what it holds."""

    worker: WorkerProcess
    busy: bool = False
    holding: Holding | None = None
    timer: asyncio.TimerHandle | None = None

    def holds(self, recogniser: str) -> bool:
        return self.holding is not None and self.holding.recogniser == recogniser

    def occupy(self) -> None:
        self.busy = True
        if self.holding:
            self.holding.take()
        self.keep()

    def keep(self) -> None:
        """Forget that it was to be unloaded."""
        if self.timer:
            self.timer.cancel()

    def clear(self) -> None:
        self.keep()
        self.holding = None


class WorkerScheduler:
    """At most `size` tasks at once. First come, first served: a task that waits for memory lets none pass, because a
    large model could wait for ever behind small ones.

    What is loaded is unloaded after `idle_seconds` without a task (None: never), except for one process of each of the
    recognisers to `keep`, and when others need its part of the `budget`. The processes run the module `worker`.
    """

    def __init__(
        self,
        size: int,
        idle_seconds: float | None,
        budget: MemoryBudget,
        tell: Callable[[LoadChange], None],
        keep: Collection[str],
        worker: str,
    ) -> None:
        self._worker = worker
        self._slots = [self._slot() for _ in range(size)]
        self._size = size
        self._idle_seconds = idle_seconds
        self._budget = budget
        self._tell = tell
        self._keep = frozenset(keep)
        self._turn = asyncio.Lock()  # asyncio's are fair
        self._stopped = False

    async def start(self) -> None:
        """Start the processes, without recognisers."""
        await asyncio.gather(*(slot.worker.start() for slot in self._slots))

    async def stop(self) -> None:
        self._stopped = True
        self._budget.changed()
        for slot in self._slots:
            slot.keep()
        await asyncio.gather(*(slot.worker.stop() for slot in self._slots))
        await self._budget.settled()

    async def ask(
        self, recogniser: str, task: wire.TranscribeTask | wire.LoadTask, progress: Progress | None = None
    ) -> wire.Answer:
        """Wait for a turn, then for the answer. Raises RecogniserUnavailable, WorkerDied."""
        slot = await self._take(recogniser, task.spec.memory)
        answer: wire.Answer | None = None
        try:
            await self._budget.settled()
            answer = await slot.worker.ask(task, progress)
        finally:
            self._give_back(slot, empty=not slot.worker.holds or isinstance(answer, wire.Unloadable))
        return answer

    def _slot(self) -> _Slot:
        # Niced, because on a small machine the loop must win the core the moment a packet comes; probing is a caller
        # waiting for an answer, and is not.
        return _Slot(WorkerProcess(self._worker, "--nice"))

    async def _take(self, recogniser: str, memory: int) -> _Slot:
        async with self._turn:
            while not self._stopped:
                if slot := self._free(recogniser, memory):
                    slot.occupy()
                    return slot
                await self._budget.change()
        raise WorkerDied("the workers were stopped")

    def _free(self, recogniser: str, memory: int) -> _Slot | None:
        """A process for the task: one that has the recogniser already, the one used last, so that the others may rest;
        else an empty one, for which there is room."""
        idle = [slot for slot in self._slots if not slot.busy]
        if len(self._slots) - len(idle) >= self._size:
            return None
        if loaded := [slot for slot in idle if slot.holds(recogniser)]:
            return max(loaded, key=lambda slot: slot.holding.used_at if slot.holding else 0.0)
        slot = next((slot for slot in idle if slot.holding is None), None) or self._slot()
        return slot if self._assign(slot, recogniser, memory) else None

    def _assign(self, slot: _Slot, recogniser: str, memory: int) -> bool:
        def unload(why: UnloadReason) -> Coroutine[Any, Any, None]:
            self._tell(LoadChange(recogniser, holding.memory if holding else memory, why))
            slot.clear()
            return slot.worker.end()

        holding = self._budget.hold(recogniser, memory, unload)
        if holding is None:
            return False
        slot.holding = holding
        if slot not in self._slots:
            self._slots.append(slot)
        self._tell(LoadChange(recogniser, holding.memory, "needed"))
        return True

    def _give_back(self, slot: _Slot, *, empty: bool) -> None:
        loop = asyncio.get_running_loop()
        slot.busy = False
        if holding := slot.holding:
            self._budget.measured(holding, slot.worker.peak_memory())
            holding.give_back(loop.time())
            if empty:
                slot.clear()
                self._budget.release(holding)
            elif self._idle_seconds is not None:
                slot.timer = loop.call_later(self._idle_seconds, self._rest, slot)
        self._budget.changed()

    def _rest(self, slot: _Slot) -> None:
        """Nobody needed it for long."""
        holding = slot.holding
        assert holding is not None
        if holding.recogniser in self._keep and sum(one.holds(holding.recogniser) for one in self._slots) == 1:
            return
        self._budget.unload(holding, "idle")
