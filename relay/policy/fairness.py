"""Who goes next: one each in turn, so that a backlog waits for itself and for nobody else."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def in_turn(queues: Iterable[Iterable[T]]) -> Iterator[T]:
    """One of each queue, then the next of each, and so on; queues may be `in_turn` themselves."""
    turns = deque(map(iter, queues))
    return turns[0] if len(turns) == 1 else _rotating(turns)


def _rotating(turns: deque[Iterator[T]]) -> Iterator[T]:
    while turns:
        queue = turns.popleft()
        for item in queue:
            yield item
            turns.append(queue)
            break


def different_first(items: Sequence[T], keys: Sequence[object]) -> list[T]:
    """The same items, the first of each key before any second one."""
    seen: set[object] = set()
    first: list[T] = []
    others: list[T] = []
    for item, key in zip(items, keys, strict=True):
        (others if key in seen else first).append(item)
        seen.add(key)
    return first + others


def part(slots: int, rank: int, sharers: int) -> int:
    """How many of some slots one of the sharers gets; the parts of all ranks, from 0 on, are exactly the slots."""
    return slots // sharers + (rank < slots % sharers)
