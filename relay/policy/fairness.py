"""Who goes next: free slots shared out between destinations, one each in turn, so that a backlog waits for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def share(room: int, queues: Mapping[int, Sequence[int]], free: Mapping[int, int]) -> list[int]:
    """Pick at most `room` items, round by round over the queues, at most `free[key]` from each."""
    picked: list[int] = []
    depth = 0
    while len(picked) < room:
        row = [queue[depth] for key, queue in queues.items() if depth < min(len(queue), free[key])]
        if not row:
            break
        picked += row[: room - len(picked)]
        depth += 1
    return picked
