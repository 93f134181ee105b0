"""Taking stock: the gauges of the outbox at one moment, counted away from whoever asks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from relay.model import Kind
from relay.outbox.database import connect_read_only
from relay.outbox.queries import statement
from relay.outbox.writer import store_errors

_ADDED = statement("added")
_SNAPSHOT = statement("snapshot")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The gauges at one moment. Ages are seconds, 0 when there is nothing to wait for; `added` counts the deliveries
    that came since the snapshot before."""

    taken_at: float
    took: float
    ready: int
    scheduled: int
    in_flight: int
    dead: int
    oldest_due_age: float
    oldest_undelivered_age: float
    added: Mapping[Kind, int]
    high_water: int


def take_stock(path: Path, counted_to: int | None, now: float) -> Snapshot:
    """Count. `counted_to` is the high-water mark of the snapshot before; without one nothing counts as added."""
    began = time.perf_counter()
    with store_errors(), closing(connect_read_only(path)) as connection:
        ready, scheduled, leased, dead, due_at, created_at, last = connection.execute(
            _SNAPSHOT, {"now": now}
        ).fetchone()
        # Up to `last`: what is added between the two reads belongs to the next snapshot.
        since = {"after": last if counted_to is None else counted_to, "last": last}
        added = connection.execute(_ADDED, since).fetchall()
    return Snapshot(
        taken_at=now,
        took=time.perf_counter() - began,
        ready=ready,
        scheduled=scheduled,
        in_flight=leased,
        dead=dead,
        oldest_due_age=_age(due_at, now),
        oldest_undelivered_age=_age(created_at, now),
        added={Kind(kind): count for kind, count in added},
        high_water=last or 0,
    )


def _age(since: float | None, now: float) -> float:
    return 0.0 if since is None else max(0.0, now - since)
