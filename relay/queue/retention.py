"""Forgets what has been kept long enough, slice by slice, so that no claim and no producer waits for it.

Nothing that is pending or leased is ever touched. A walk goes through the deliveries in the order in which they were
added; each slice is a transaction of a few milliseconds.

A stream is forgotten with the last of its deliveries, whether it came to its end or fell silent: names of sessions are
not used twice, and would pile up for ever. A producer that does use a key again, after so long, begins another stream.
Its positions start at 1, as those of any new stream must, or its receiver would wait for what was never sent. What
tells the two apart is the stream's own number, which is never given out again and goes with every request as
`webhook-stream`: positions are to be compared within one such number. The two cannot overlap, because nothing of the
first is left to be sent or replayed.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from relay.outbox.model import DeliveryState
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database, Writer

DAY = 86400.0

_SLICE = statement("retention_slice", __package__)
_FORGET_ATTEMPTS = statement("forget_attempts", __package__)
_FORGET_BODY = statement("forget_body", __package__)
_FORGET_DELIVERY = statement("forget_delivery", __package__)
_COUNT = statement("retention_count", __package__)
_STREAM_SLICE = statement("stream_slice", __package__)
_STREAM_SIZES = statement("stream_sizes", __package__)
_FORGET_STREAMS = statement("forget_streams", __package__)
_FORGET_AUDIT = statement("forget_audit", __package__)
_FORGET_KEYS = statement("forget_keys", __package__)
_FORGET_ENDPOINTS = statement("forget_endpoints", __package__)
_FORGET_RELAYS = statement("forget_relays", __package__)

_PAUSE_SECONDS = 0.01  # between two slices of a pass: others get their turn
_READ = 20  # deliveries looked at between two glances at the clock
# A delivery is finished after it was added, so the walk may stop where everything is too young. Transactions that
# overlap are not numbered exactly in the order of their clocks.
_CLOCK_SLACK = 3600.0
_SILENT_SECONDS = 86400.0  # of a relay: each start is another one
_FAILED_SECONDS = 86400.0  # so long it is remembered that an endpoint failed for which nothing waits


@dataclass(frozen=True, slots=True)
class DeliveryRetention:
    """How long what is finished is kept, in seconds since it was finished.

    `bodies` are those of deliveries that were delivered or cancelled: transcripts are personal data, and three days
    let a receiver who lost a weekend ask again. A dead letter keeps its body as long as it stays itself, because it
    was never received. `attempts` is for all; `delivered` is for cancelled deliveries too.
    """

    delivered: float = 7 * DAY
    bodies: float = 3 * DAY
    dead: float = 30 * DAY
    attempts: float = 7 * DAY
    audit: float = 365 * DAY


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was forgotten, or would be: rows, and `body_bytes` of the bodies among them."""

    deliveries: int = 0
    bodies: int = 0
    body_bytes: int = 0
    attempts: int = 0
    audit: int = 0
    keys: int = 0
    streams: int = 0

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(
            self.deliveries + other.deliveries,
            self.bodies + other.bodies,
            self.body_bytes + other.body_bytes,
            self.attempts + other.attempts,
            self.audit + other.audit,
            self.keys + other.keys,
            self.streams + other.streams,
        )


@dataclass(frozen=True, slots=True)
class Slice:
    """What one slice forgot, and where the next one begins: None when the walk is over."""

    pruned: Pruned
    after: int | None


@dataclass(frozen=True, slots=True)
class _Row:
    seq: int
    state: str
    created_at: float
    finished_at: float | None
    body_bytes: int
    stream_id: int | None


@dataclass(frozen=True, slots=True)
class _Due:
    """What of one delivery has been kept long enough."""

    delivery: bool
    body: bool
    attempts: bool


async def prune_slice(
    writer: Writer, kept: DeliveryRetention, now: float, after: int = 0, *, size: int = 500, budget: float = 0.005
) -> Slice:
    """Forget what is old among the next `size` deliveries behind seq `after`, in one transaction.

    It ends early once `budget` seconds have passed: large bodies take longer than small ones. With the last slice go
    old audit rows and retired keys. Raises StoreUnavailable.
    """
    return await writer.run(lambda connection: _prune(connection, kept, now, after, size, budget))


def _prune(connection: Connection, kept: DeliveryRetention, now: float, after: int, size: int, budget: float) -> Slice:
    give_up = time.perf_counter() + budget
    pruned, seen = Pruned(), 0
    while seen < size:
        rows = _read(connection, after, _READ)
        pruned += _forget_all(connection, rows, kept, now)
        if not _goes_on(rows, kept, now, _READ):
            return Slice(pruned + _forget_the_rest(connection, kept, now), None)
        seen, after = seen + len(rows), rows[-1].seq
        if time.perf_counter() > give_up:
            break
    return Slice(pruned, after)


async def stream_slice(
    writer: Writer, kept: DeliveryRetention, now: float, after: int = 0, *, size: int = 500
) -> Slice:
    """Forget those of the next `size` streams behind id `after` that have no delivery left, in one transaction."""
    return await writer.run(lambda connection: _forget_streams(connection, now - kept.delivered, after, size))


def _forget_streams(connection: Connection, before: float, after: int, size: int) -> Slice:
    last, seen = connection.execute(_STREAM_SLICE, {"after": after, "slice": size}).fetchone()
    streams = connection.execute(_FORGET_STREAMS, {"after": after, "last": last, "before": before}).rowcount
    return Slice(Pruned(streams=streams), last if seen == size else None)


async def prune(database: Database, kept: DeliveryRetention, now: float, *, size: int = 500) -> Pruned:
    """One whole pass on a connection of its own, with a pause between slices; then free pages go back to the disk."""
    writer = database.writer()
    try:
        pruned = await _walk(lambda after: prune_slice(writer, kept, now, after, size=size))
        pruned += await _walk(lambda after: stream_slice(writer, kept, now, after, size=size))
        await _shrink(database, writer)
        return pruned
    finally:
        await writer.close()


async def _walk(step: Callable[[int], Awaitable[Slice]]) -> Pruned:
    done = await step(0)
    total = done.pruned
    while done.after is not None:
        await asyncio.sleep(_PAUSE_SECONDS)
        done = await step(done.after)
        total += done.pruned
    return total


async def _shrink(database: Database, writer: Writer) -> None:
    more = await writer.run(database.tidy)
    while more:
        await asyncio.sleep(_PAUSE_SECONDS)
        more = await writer.run(database.tidy)


def survey(database: Database, kept: DeliveryRetention, now: float, *, size: int = 500) -> Pruned:
    """What a pass would forget now, without forgetting it."""
    total, after, going = Pruned(), 0, Counter[int]()
    with database.reading() as connection:
        while True:
            rows = _read(connection, after, size)
            for row in rows:
                due = _due(row, kept, now)
                total += _count(connection, row, due)
                if due and due.delivery and row.stream_id is not None:
                    going[row.stream_id] += 1
            if not _goes_on(rows, kept, now, size):
                return total + _rest(connection, kept, now) + _emptied(connection, going, now - kept.delivered)
            after = rows[-1].seq


def _emptied(connection: Connection, going: Counter[int], before: float) -> Pruned:
    """The streams of which nothing would be left."""
    sizes = connection.execute(_STREAM_SIZES, {"before": before})
    return Pruned(streams=sum(going[id_] == left for id_, left in sizes))


def _read(connection: Connection, after: int, size: int) -> list[_Row]:
    return [_Row(*row) for row in connection.execute(_SLICE, {"after": after, "slice": size}).fetchall()]


def _due(row: _Row, kept: DeliveryRetention, now: float) -> _Due | None:
    if row.finished_at is None:
        return None
    age, dead = now - row.finished_at, row.state == DeliveryState.DEAD.value
    whole = age >= (kept.dead if dead else kept.delivered)
    due = _Due(whole, whole or (not dead and age >= kept.bodies), whole or age >= kept.attempts)
    return due if due.body or due.attempts else None


def _forget_all(connection: Connection, rows: Sequence[_Row], kept: DeliveryRetention, now: float) -> Pruned:
    pruned = Pruned()
    for row in rows:
        if due := _due(row, kept, now):
            pruned += _forget(connection, row, due)
    return pruned


def _forget(connection: Connection, row: _Row, due: _Due) -> Pruned:
    seq = {"seq": row.seq}
    attempts = connection.execute(_FORGET_ATTEMPTS, seq).rowcount if due.attempts else 0
    bodies = connection.execute(_FORGET_BODY, seq).rowcount if due.body else 0
    deliveries = connection.execute(_FORGET_DELIVERY, seq).rowcount if due.delivery else 0
    return Pruned(deliveries, bodies, bodies * row.body_bytes, attempts)


def _count(connection: Connection, row: _Row, due: _Due | None) -> Pruned:
    if due is None:
        return Pruned()
    attempts, bodies = connection.execute(_COUNT, {"seq": row.seq}).fetchone()
    bodies *= due.body
    return Pruned(due.delivery, bodies, bodies * row.body_bytes, attempts * due.attempts)


def _goes_on(rows: Sequence[_Row], kept: DeliveryRetention, now: float, size: int) -> bool:
    youngest = min(kept.delivered, kept.bodies, kept.dead, kept.attempts)
    return len(rows) == size and rows[-1].created_at - _CLOCK_SLACK <= now - youngest


def _forget_the_rest(connection: Connection, kept: DeliveryRetention, now: float) -> Pruned:
    audit = connection.execute(_FORGET_AUDIT, {"before": now - kept.audit, "slice": 500}).rowcount
    connection.execute(_FORGET_ENDPOINTS, {"before": now - _FAILED_SECONDS})
    connection.execute(_FORGET_RELAYS, {"before": now - _SILENT_SECONDS})
    return Pruned(audit=audit, keys=connection.execute(_FORGET_KEYS, {"now": now}).rowcount)


def _rest(connection: Connection, kept: DeliveryRetention, now: float) -> Pruned:
    audit = connection.execute("SELECT count(*) FROM outspoken_audit WHERE at <= ?", (now - kept.audit,)).fetchone()[0]
    keys = connection.execute("SELECT count(*) FROM outspoken_signing_keys WHERE retires_at <= ?", (now,)).fetchone()[0]
    return Pruned(audit=audit, keys=keys)
