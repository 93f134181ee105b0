"""How much memory the recognisers of all processes take together, and what is unloaded for those that are needed.

A process holds recognisers until its end, so that ending the process is unloading them: allocators keep what a library
frees, and only the end of a process gives all of it back for certain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.errors import RecogniserUnavailable

UnloadReason = Literal["idle", "memory"]
"""A recogniser is unloaded because nobody needed it for long, or because others need its memory."""

Unload = Callable[[UnloadReason], Coroutine[Any, Any, None]]
"""Give the process up at once; what it returns is done when that is gone, with its memory."""


@dataclass(eq=False, slots=True)
class Holding:
    """What one process takes, in bytes: first as expected, then as it was seen at its peak. `used_at` is when it was
    last done with something, by the event loop's clock."""

    recogniser: str
    memory: int
    unload: Unload
    busy: bool = True
    used_at: float = 0.0

    def take(self) -> None:
        """Something is done with it now: it is not unloaded for others."""
        self.busy = True

    def give_back(self, now: float) -> None:
        """Nothing is any more; `now` is the event loop's time."""
        self.busy, self.used_at = False, now


class MemoryBudget:
    """At most `limit` bytes (None: as many as are asked for), over all processes that share it."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._holdings: list[Holding] = []
        self._endings: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._peaks: dict[str, int] = {}

    @property
    def loaded(self) -> tuple[str, ...]:
        """The recognisers that processes hold, by name, once for each process."""
        return tuple(holding.recogniser for holding in self._holdings)

    @property
    def by_recogniser(self) -> dict[str, tuple[int, int]]:
        """Of each recogniser that is loaded, how many processes hold it, and the bytes that they take together."""
        held: dict[str, tuple[int, int]] = {}
        for holding in self._holdings:
            processes, memory = held.get(holding.recogniser, (0, 0))
            held[holding.recogniser] = processes + 1, memory + holding.memory
        return held

    @property
    def used(self) -> int:
        return sum(holding.memory for holding in self._holdings)

    def hold(self, recogniser: str, expected: int, unload: Unload) -> Holding | None:
        """Count a process that loads a recogniser now, and unload what is idle to make room for it. None where what is
        at work leaves too little; then nothing is unloaded.

        Raises RecogniserUnavailable for a recogniser that is expected to take more than the whole limit.
        """
        if self._limit is not None and expected > self._limit:
            raise RecogniserUnavailable(
                f"recogniser {recogniser!r} needs {expected} bytes of memory, and all recognisers together may take "
                f"{self._limit}; use a smaller model"
            )
        needed = self._needed(recogniser, expected)
        victims = to_unload(needed, self._holdings, self._limit)
        if victims is None:
            return None
        for victim in victims:
            self.unload(victim, "memory")
        holding = Holding(recogniser, needed, unload)
        self._holdings.append(holding)
        return holding

    def unload(self, holding: Holding, why: UnloadReason) -> None:
        """End its process, which another may replace."""
        self.release(holding)
        ending = asyncio.create_task(holding.unload(why))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    def release(self, holding: Holding) -> None:
        """The process is gone, or holds the recogniser no more."""
        if holding in self._holdings:
            self._holdings.remove(holding)
            self.changed()

    def measured(self, holding: Holding, peak: int | None) -> None:
        """What the process took at its peak, in bytes; None where nobody can tell. It never gives that back."""
        if peak is not None and peak > holding.memory:
            self._peaks[holding.recogniser] = max(peak, self._peaks.get(holding.recogniser, 0))
            holding.memory = self._needed(holding.recogniser, holding.memory)

    def changed(self) -> None:
        """Wake whoever waits: something became idle, or memory free."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self) -> None:
        """Wait for the next time."""
        await self._changed.wait()

    async def settled(self) -> None:
        """Wait until what was unloaded is gone, before more is loaded."""
        if self._endings:
            await asyncio.wait(self._endings)

    def _needed(self, recogniser: str, expected: int) -> int:
        """As seen before, if it was. What takes more than the whole limit is let in alone: it is loaded already, or was
        before, and to refuse it would help nobody."""
        needed = max(expected, self._peaks.get(recogniser, 0))
        return needed if self._limit is None else min(needed, self._limit)


def to_unload(needed: int, holdings: Sequence[Holding], limit: int | None) -> tuple[Holding, ...] | None:
    """What has to go for so many bytes more: what was used least recently first, and nothing that the rest does not
    need. None where all that is idle is too little. Pure."""
    if limit is None:
        return ()
    excess = sum(holding.memory for holding in holdings) + needed - limit
    chosen: list[Holding] = []
    for holding in sorted((one for one in holdings if not one.busy), key=lambda one: one.used_at):
        if excess > 0:
            chosen.append(holding)
            excess -= holding.memory
    if excess > 0:
        return None
    for holding in reversed(tuple(chosen)):
        if excess + holding.memory <= 0:
            chosen.remove(holding)
            excess += holding.memory
    return tuple(chosen)


def peak_memory(pid: int) -> int | None:
    """The most that a process ever had resident, in bytes; None where the kernel does not tell, or it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii")
    except OSError:
        return None
    found = next((line.split() for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return int(found[1]) * 1024 if found else None
