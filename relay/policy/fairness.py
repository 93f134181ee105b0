"""Who goes next: free slots shared out between destinations, one each in turn, so that a backlog waits for itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence


def share(room: int, queues: Mapping[int, Sequence[int]], free: Mapping[int, int]) -> list[int]:
    """Pick at most `room` items as if round by round over the queues, at most `free[key]` from each."""
    depths = {key: min(len(queue), free[key]) for key, queue in queues.items()}
    rounds = _rounds(room, depths.values())
    picked = [item for key, queue in queues.items() for item in queue[: min(rounds, depths[key])]]
    last = [queue[rounds] for key, queue in queues.items() if depths[key] > rounds]
    return picked + last[: room - len(picked)]


def part(slots: int, rank: int, sharers: int) -> int:
    """How many of some slots one of the sharers gets; the parts of all ranks, from 0 on, are exactly the slots."""
    return slots // sharers + (rank < slots % sharers)


def _rounds(room: int, depths: Collection[int]) -> int:
    """How many rounds there is room for, where a queue of each depth takes part until it is empty."""
    done = 0
    for finished, depth in enumerate(sorted(depths)):
        queues = len(depths) - finished
        if (depth - done) * queues > room:
            return done + room // queues
        room -= (depth - done) * queues
        done = depth
    return done
