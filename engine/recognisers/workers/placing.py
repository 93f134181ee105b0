"""Which process hears a task, and which models leave memory for it. Pure.

A process holds one recogniser, so that ending the process is unloading it: allocators keep what a library frees, and
only the end of a process gives all of it back for certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resident:
    """A process: its recogniser, None before it has one, and the bytes that takes; `used_at` is when it was done."""

    number: int
    recogniser: str | None
    memory: int
    busy: bool
    used_at: float


@dataclass(frozen=True, slots=True)
class Use:
    """Idle, and the recogniser is loaded: nothing is quicker."""

    number: int


@dataclass(frozen=True, slots=True)
class Load:
    """Load it, in an empty process where there is one; first end the processes of `unload`."""

    number: int | None
    unload: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """What is busy now leaves no room."""


@dataclass(frozen=True, slots=True)
class Never:
    """It takes more than all of the budget."""


Place = Use | Load | Wait | Never


def place(recogniser: str, memory: int, residents: Sequence[Resident], budget: int | None) -> Place:
    """Where a task is heard whose recogniser takes `memory` bytes. What was used least recently is unloaded first."""
    if budget is not None and memory > budget:
        return Never()
    idle = sorted((one for one in residents if not one.busy), key=lambda one: one.used_at)
    if loaded := [one for one in idle if one.recogniser == recogniser]:
        return Use(loaded[-1].number)
    excess = 0 if budget is None else sum(one.memory for one in residents) + memory - budget
    unload = _unload(excess, [one for one in idle if one.recogniser is not None])
    if unload is None:
        return Wait()
    return Load(next((one.number for one in idle if one.recogniser is None), None), unload)


def _unload(excess: int, idle: Sequence[Resident]) -> tuple[int, ...] | None:
    """The first of `idle` that free so many bytes, without those that the rest does not need; None: all are too few."""
    chosen: list[Resident] = []
    for one in idle:
        if excess > 0:
            chosen.append(one)
            excess -= one.memory
    if excess > 0:
        return None
    for one in reversed(tuple(chosen)):
        if excess + one.memory <= 0:
            chosen.remove(one)
            excess += one.memory
    return tuple(one.number for one in chosen)
