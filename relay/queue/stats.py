"""Statistics: the gauges of the outbox at one moment, counted away from whoever asks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.outbox.model import Kind
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database, Files
from relay.queue.holding import HELD

WORST = 10
"""Destinations that are told apart: a label may not have as many values as there are receivers."""

_SNAPSHOT = statement("snapshot", __package__)
_ADDED = statement("added", __package__)
_QUEUES = statement("queues", __package__)
_DESTINATION_STATES = statement("destination_states", __package__)
_LEFT_ALONE = statement("left_alone", __package__)
_FULL = statement("full", __package__)
_ACTS = statement("acts", __package__)
_LAST_ACT = "SELECT coalesce(max(id), 0) FROM outspoken_audit"

_ACT_SECONDS = 600.0  # a bulk act goes through its slices in less


@dataclass(frozen=True, slots=True)
class Queues:
    """What is pending. `ready` is due and may go; `held` is due, but its destination is left alone or takes no more.

    The ages are of the oldest in each, in seconds past due; 0 where there is none. `worst` has the origins for which
    most is pending.
    """

    ready: int
    scheduled: int
    held: int
    ready_age: float
    held_age: float
    worst: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Since:
    """What happened since the snapshot before, whoever did it: deliveries added, by kind; deliveries that operators
    cancelled or replayed, these by source; breakers that opened and closed."""

    added: Mapping[Kind, int]
    replayed: Mapping[str, int]
    cancelled: int
    opened: int
    closed: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The gauges at one moment. Ages are in seconds, 0 when there is nothing to wait for.

    `destination_states` counts origins; `held_up` are the origins that are left alone or take no more for now.
    `key_age` is that of the oldest key which signs, `backup_at` when the outbox was backed up last, in epoch seconds,
    or 0.
    """

    taken_at: float
    took: float
    queues: Queues
    in_flight: int
    dead: int
    oldest_undelivered_age: float
    destination_states: Mapping[str, int]
    held_up: frozenset[str]
    files: Files
    since: Since
    key_age: float
    backup_at: float


_Places = frozenset[tuple[str, str]]


class QueueStats:
    """Counts, and remembers up to where it has counted. Nothing counts as new the first time. For one thread a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._intake = _Intake()
        self._open: _Places | None = None
        self._acts = _Acts()

    def snapshot(self, now: float, slots: int) -> Snapshot:
        """Count. A destination has that many `slots`. Raises StoreUnavailable."""
        began = time.perf_counter()
        with self._database.reading() as connection:
            totals = connection.execute(_SNAPSHOT, {"now": now}).fetchone()
            alone = connection.execute(_LEFT_ALONE).fetchall()
            full = connection.execute(_FULL, {"now": now, "slots": slots}).fetchall()
            full_ones = [origin for (origin,) in full] + [origin for origin, path, _ in alone if not path]
            held_up = frozenset([origin for origin, _, _ in alone] + full_ones)
            queues = _queues(connection.execute(_QUEUES, {"now": now}).fetchall(), frozenset(full_ones), now)
            destination_states = dict(connection.execute(_DESTINATION_STATES).fetchall())
            now_open = frozenset((origin, path) for origin, path, is_open in alone if is_open)
            since = self._since(connection, self._intake.next(totals[3] or 0, *totals[4:6]), now_open, now)
            files = self._database.files(connection)
        in_flight, dead, created_at, _, _, _, key_created_at, backup_at = totals
        return Snapshot(
            taken_at=now,
            took=time.perf_counter() - began,
            queues=queues,
            in_flight=in_flight,
            dead=dead,
            oldest_undelivered_age=_age(created_at, now),
            destination_states=destination_states,
            held_up=held_up,
            files=files,
            since=since,
            key_age=_age(key_created_at, now),
            backup_at=backup_at or 0.0,
        )

    def _since(
        self, connection: Connection, intake: tuple[int, int], now_open: frozenset[tuple[str, str]], now: float
    ) -> Since:
        rows = connection.execute(_ADDED, {"after": intake[0], "last": intake[1]})
        added = {Kind(kind): count for kind, count in rows}
        was_open = now_open if self._open is None else self._open
        replayed, cancelled = self._acts.read(connection, now)
        self._open = now_open
        return Since(added, replayed, cancelled, len(now_open - was_open), len(was_open - now_open))


class _Intake:
    """Up to which number what was added is counted: up to where nothing is under way any more."""

    def __init__(self) -> None:
        self._counted_to: int | None = None
        self._waiting: tuple[int, int] | None = None  # a number, and a transaction before which all have to end

    def next(self, last: int, oldest: int, following: int) -> tuple[int, int]:
        """Behind which number to count now, and up to which.

        `last` is the last that was committed; of the transactions under way `oldest` is the first, and `following` the
        number of the next to begin.
        """
        before = last if self._counted_to is None else self._counted_to
        settled = before
        if oldest == following:
            settled, self._waiting = last, None
        elif self._waiting is None:
            self._waiting = last, following
        elif oldest >= self._waiting[1]:
            settled, self._waiting = self._waiting[0], (last, following)
        self._counted_to = max(before, settled)
        return before, self._counted_to


class _Acts:
    """Bulk acts of operators, whose lines in the audit grow while they are at it."""

    def __init__(self) -> None:
        self._after: int | None = None
        self._done: dict[int, int] = {}

    def read(self, connection: Connection, now: float) -> tuple[Mapping[str, int], int]:
        """Deliveries replayed, by source, and cancelled, since the last call."""
        if self._after is None:
            self._after = connection.execute(_LAST_ACT).fetchone()[0]
        replayed, cancelled = Counter[str](), 0
        for id_, at, act, source, done in connection.execute(_ACTS, {"after": self._after}).fetchall():
            more = done - self._done.get(id_, 0)
            self._done[id_] = done
            if act == "delivery.replay":
                replayed[source] += more
            else:
                cancelled += more
            if at < now - _ACT_SECONDS:
                self._after = max(self._after, id_)
                del self._done[id_]
        return replayed, cancelled


def _queues(rows: Sequence[Any], full: frozenset[str], now: float) -> Queues:
    """Folded here and not in SQL: there are a few rows for each origin with something pending."""
    due = [row for row in rows if row[3]]
    held = [row for row in due if row[1] == HELD or row[0] in full]
    free = [row for row in due if row[1] != HELD and row[0] not in full]
    waiting = Counter[str]()
    for origin, _, count, *_ in rows:
        waiting[origin] += count
    return Queues(
        ready=sum(row[3] for row in free),
        scheduled=sum(row[2] - row[3] for row in rows),
        held=sum(row[3] for row in held),
        ready_age=_age(min((row[4] for row in free), default=None), now),
        held_age=_age(min((row[4] for row in held), default=None), now),
        worst=dict(waiting.most_common(WORST)),
    )


def _age(since: float | None, now: float) -> float:
    return 0.0 if since is None else max(0.0, now - since)
