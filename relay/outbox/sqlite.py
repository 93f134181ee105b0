"""The outbox on SQLite, as the relay uses it: claim, settle, renew, release, read."""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.model import Attempted, BodyLimits, Dead, Delivered, Delivery, Kind, Lease, Method, Outcome, Retry, State
from relay.outbox.database import connect_read_only
from relay.outbox.queries import statement
from relay.outbox.writer import Writer, store_errors
from relay.policy.fairness import share

_ANYTHING_TO_DO = statement("anything_to_do")
_SWEEP = statement("sweep")
_IN_FLIGHT = statement("in_flight")
_DUE_DESTINATIONS = statement("due_destinations")
_CANDIDATES = statement("candidates")
_LEASE = statement("lease")
_SETTLE = statement("settle")
_RECORD_ATTEMPT = statement("record_attempt")
_LEARN_ACCEPTED = statement("learn_accepted")
_LEARN_REFUSED = statement("learn_refused")
_RENEW = statement("renew")
_RELEASE = statement("release")
_NEXT_DUE = statement("next_due")
_BODY = statement("body")
_BODY_LIMITS = statement("body_limits")
_ORIGIN = statement("origin")
_ADDED = statement("added")
_SNAPSHOT = statement("snapshot")

_LAST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Claims:
    """What one claim brought: the deliveries, and how many leases of others (or our past) had expired."""

    deliveries: tuple[Delivery, ...]
    lapsed: int


@dataclass(frozen=True, slots=True)
class Limits:
    """`per_destination`: attempts in flight to one destination, over all relays; `lease`: seconds."""

    per_destination: int = 16
    lease: float = 60.0


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


class SqliteOutbox:
    """One relay's view of the file. Claims and settlements are batches: one transaction, one fsync each."""

    def __init__(self, path: Path, limits: Limits, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._limits = limits
        self._clock = clock
        self._writer = Writer(path)
        self._reader = connect_read_only(path)
        self._holder = secrets.token_hex(8)
        self._claims = 0
        self._last_served = 0
        self._origins: dict[int, str] = {}
        self._counted_to: int | None = None

    async def claim(self, room: int) -> Claims:
        """Lease at most `room` due deliveries, shared fairly between their destinations."""
        now = self._clock()
        if not self._anything_to_do(now):
            return Claims((), 0)
        async with self._writer.transaction() as connection:
            lapsed = connection.execute(_SWEEP, {"now": now}).rowcount
            seqs = self._choose(connection, room, now)
            rows = self._lease(connection, seqs, now) if seqs else []
        return Claims(tuple(rows), lapsed)

    def _anything_to_do(self, now: float) -> bool:
        """A read first, so that the poll of an idle relay takes no write lock."""
        return bool(self._read(_ANYTHING_TO_DO, now=now)[0][0])

    def _read(self, sql: str, **values: object) -> list[Any]:
        with store_errors():
            return self._reader.execute(sql, values).fetchall()

    def _choose(self, connection: sqlite3.Connection, room: int, now: float) -> list[int]:
        cap = self._limits.per_destination
        busy: dict[int, int] = dict(connection.execute(_IN_FLIGHT).fetchall())
        full = {destination for destination, leased in busy.items() if leased >= cap}
        turn = [id_ for id_ in self._due_destinations(connection, room + len(full), now) if id_ not in full][:room]
        if not turn:
            return []
        self._last_served = turn[-1]
        free = {destination: cap - busy.get(destination, 0) for destination in turn}
        return share(room, self._candidates(connection, turn, min(cap, room), now), free)

    def _due_destinations(self, connection: sqlite3.Connection, room: int, now: float) -> list[int]:
        """A ring: on from the destination served last, then round from the first."""
        after = {"after": self._last_served, "until": _LAST_ID, "room": room, "now": now}
        ids = [row[0] for row in connection.execute(_DUE_DESTINATIONS, after)]
        before = {"after": 0, "until": self._last_served, "room": room - len(ids), "now": now}
        return ids + [row[0] for row in connection.execute(_DUE_DESTINATIONS, before)]

    def _candidates(
        self, connection: sqlite3.Connection, turn: list[int], cap: int, now: float
    ) -> dict[int, list[int]]:
        values = {"destinations": json.dumps(turn), "cap": cap, "now": now}
        queues: dict[int, list[int]] = {destination: [] for destination in turn}
        for destination, seq in connection.execute(_CANDIDATES, values):
            queues[destination].append(seq)
        return queues

    def _lease(self, connection: sqlite3.Connection, seqs: list[int], now: float) -> list[Delivery]:
        self._claims += 1
        token = f"{self._holder}.{self._claims}"
        values = {"token": token, "until": now + self._limits.lease, "seqs": json.dumps(seqs)}
        rows = connection.execute(_LEASE, values).fetchall()
        return [self._delivery(connection, row, token) for row in sorted(rows, key=lambda row: (row[11], row[0]))]

    def _delivery(self, connection: sqlite3.Connection, row: Sequence[Any], token: str) -> Delivery:
        seq, id_, destination_id, url, method, kind, content_type, headers, *rest = row
        return Delivery(
            Lease(seq, token),
            id_,
            self._origin(connection, destination_id),
            url,
            Method(method),
            Kind(kind),
            content_type,
            json.loads(headers),
            *rest,
        )

    def _origin(self, connection: sqlite3.Connection, destination_id: int) -> str:
        if destination_id not in self._origins:
            self._origins[destination_id] = connection.execute(_ORIGIN, {"id": destination_id}).fetchone()[0]
        return self._origins[destination_id]

    async def settle(self, attempts: Sequence[Attempted]) -> tuple[Lease, ...]:
        """Write the ends of some attempts; returns the leases that were stale, for which nothing was changed."""
        async with self._writer.transaction() as connection:
            return tuple(attempt.delivery.lease for attempt in attempts if not _settle(connection, attempt))

    async def renew(self, leases: Iterable[Lease]) -> None:
        """Push the expiry of running attempts out by a whole lease."""
        seqs = json.dumps([lease.seq for lease in leases])
        values = {"seqs": seqs, "until": self._clock() + self._limits.lease, "holder": self._holder}
        async with self._writer.transaction() as connection:
            connection.execute(_RENEW, values)

    async def release(self, leases: Iterable[Lease]) -> None:
        """Give back claims whose attempts were cut short; the next attempt gets a fresh number."""
        async with self._writer.transaction() as connection:
            for lease in leases:
                connection.execute(_RELEASE, {"seq": lease.seq, "token": lease.token})

    def body(self, delivery: Delivery) -> bytes:
        """The body's bytes, the same on every attempt; read late, so that waiting deliveries hold none."""
        body: bytes = self._read(_BODY, seq=delivery.lease.seq)[0][0]
        return body

    def body_limits(self, origin: str) -> BodyLimits:
        """What is known of a destination's body limit."""
        rows = self._read(_BODY_LIMITS, origin=origin)
        return BodyLimits(*rows[0]) if rows else BodyLimits()

    def next_due(self) -> float | None:
        """When the earliest pending delivery is due; None with nothing pending."""
        due: float | None = self._read(_NEXT_DUE)[0][0]
        return due

    async def snapshot(self) -> Snapshot:
        """The gauges, counted in a thread on a connection of their own."""
        snapshot = await asyncio.to_thread(_snapshot, self._path, self._counted_to, self._clock())
        self._counted_to = snapshot.high_water
        return snapshot

    async def close(self) -> None:
        """Close both connections."""
        await self._writer.close()
        self._reader.close()


def _settle(connection: sqlite3.Connection, attempt: Attempted) -> bool:
    """Whether the lease still stood."""
    lease = attempt.delivery.lease
    values = {"seq": lease.seq, "token": lease.token, **_ending(attempt)}
    if connection.execute(_SETTLE, values).rowcount == 0:
        return False
    connection.execute(_RECORD_ATTEMPT, _record(attempt))
    _learn(connection, attempt)
    return True


def _ending(attempt: Attempted) -> dict[str, object]:
    open_end = {"due_at": None, "finished_at": attempt.finished_at, "reason": None}
    match attempt.verdict:
        case Delivered():
            return {**open_end, "state": State.DELIVERED.value}
        case Retry(due_at):
            return {"due_at": due_at, "finished_at": None, "reason": None, "state": State.PENDING.value}
        case Dead(reason):
            return {**open_end, "state": State.DEAD.value, "reason": reason.value}


def _record(attempt: Attempted) -> dict[str, object]:
    return {
        "seq": attempt.delivery.lease.seq,
        "number": attempt.delivery.number,
        "started_at": attempt.started_at,
        "lag": attempt.lag,
        "duration": attempt.answer.timing.total,
        "outcome": attempt.outcome.value,
        "status": attempt.answer.status,
        "peer": attempt.answer.peer,
        "detail": attempt.diagnosis,
        "excerpt": attempt.answer.excerpt,
    }


def _learn(connection: sqlite3.Connection, attempt: Attempted) -> None:
    known = {"origin": attempt.delivery.destination, "bytes": attempt.delivery.body_bytes}
    if attempt.outcome is Outcome.SUCCESS:
        connection.execute(_LEARN_ACCEPTED, known)
    elif attempt.outcome is Outcome.HTTP_413:
        connection.execute(_LEARN_REFUSED, known)


def _snapshot(path: Path, counted_to: int | None, now: float) -> Snapshot:
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
        oldest_due_age=max(0.0, now - due_at) if due_at is not None else 0.0,
        oldest_undelivered_age=max(0.0, now - created_at) if created_at is not None else 0.0,
        added={Kind(kind): count for kind, count in added},
        high_water=last or 0,
    )
