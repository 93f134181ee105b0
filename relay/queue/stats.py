"""Statistics: the gauges of the outbox at one moment, counted away from whoever asks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from relay.outbox.model import Kind
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database, Files

WORST = 10
"""Destinations that are told apart: a label may not have as many values as there are receivers."""

_SNAPSHOT = statement("snapshot", __package__)
_ADDED = statement("added", __package__)

_NUMBERS = 9  # columns of the statement, before those that are JSON
_NO_ACT = 2**62  # behind which nothing is
_ACT_SECONDS = 600.0  # a bulk act goes through its slices in less


@dataclass(frozen=True, slots=True)
class QueueDepths:
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
class QueueChanges:
    """What happened since the snapshot before, whoever did it: deliveries added, by kind; deliveries that operators
    cancelled or replayed, these by source; breakers that opened and closed."""

    added: Mapping[Kind, int]
    replayed: Mapping[str, int]
    cancelled: int
    opened: int
    closed: int


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """The gauges at one moment. Ages are in seconds, 0 when there is nothing to wait for.

    `destination_states` counts origins; `held_up` are the origins that are left alone or take no more for now.
    `key_age` is that of the oldest key which signs, `backup_at` when the outbox was backed up last, in epoch seconds,
    or 0.
    """

    taken_at: float
    took: float
    queues: QueueDepths
    in_flight: int
    dead: int
    oldest_undelivered_age: float
    destination_states: Mapping[str, int]
    held_up: frozenset[str]
    files: Files
    since: QueueChanges
    key_age: float
    backup_at: float


_Places = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Counted:
    """What the statement brings, column by column."""

    in_flight: int
    dead: int
    oldest_created_at: float | None
    last_seq: int | None
    oldest_transaction: int
    next_transaction: int
    key_created_at: float | None
    backup_at: float | None
    last_act: int
    queues: list[Any]
    destination_states: dict[str, int]
    left_alone: list[Any]
    full: list[str]
    acts: list[Any]


class QueueStats:
    """Counts, and remembers up to where it has counted. Nothing counts as new the first time. For one thread a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._intake = _Intake()
        self._open: _Places | None = None
        self._acts = _Acts()

    def snapshot(self, connection: Connection, now: float, slots: int) -> QueueSnapshot:
        """Count. A destination has that many `slots`."""
        began = time.perf_counter()
        counted = _count(connection, {"now": now, "slots": slots, "worst": WORST, "after_act": self._acts.after})
        full = frozenset(counted.full + [origin for origin, path, _ in counted.left_alone if not path])
        return QueueSnapshot(
            taken_at=now,
            queues=_queues(now, *counted.queues),
            in_flight=counted.in_flight,
            dead=counted.dead,
            oldest_undelivered_age=_age(counted.oldest_created_at, now),
            destination_states=counted.destination_states,
            held_up=full | {origin for origin, _, _ in counted.left_alone},
            files=self._database.files(connection),
            since=self._since(connection, counted, now),
            key_age=_age(counted.key_created_at, now),
            backup_at=counted.backup_at or 0.0,
            took=time.perf_counter() - began,
        )

    def _since(self, connection: Connection, counted: _Counted, now: float) -> QueueChanges:
        after, last = self._intake.next(counted.last_seq or 0, counted.oldest_transaction, counted.next_transaction)
        rows = connection.execute(_ADDED, {"after": after, "last": last}) if last > after else ()
        added = {Kind(kind): count for kind, count in rows}
        now_open = frozenset((origin, path) for origin, path, is_open in counted.left_alone if is_open)
        was_open = now_open if self._open is None else self._open
        replayed, cancelled = self._acts.read(counted.acts, counted.last_act, now)
        self._open = now_open
        return QueueChanges(added, replayed, cancelled, len(now_open - was_open), len(was_open - now_open))


def _count(connection: Connection, values: Mapping[str, Any]) -> _Counted:
    row = connection.execute(_SNAPSHOT, values).fetchone()
    return _Counted(*row[:_NUMBERS], *map(orjson.loads, row[_NUMBERS:]))


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

    @property
    def after(self) -> int:
        """Behind which line to read."""
        return _NO_ACT if self._after is None else self._after

    def read(self, acts: Sequence[Any], last: int, now: float) -> tuple[Mapping[str, int], int]:
        """Deliveries replayed, by source, and cancelled, since the last call; `last` is the last line of all."""
        if self._after is None:
            self._after = last
        replayed, cancelled = Counter[str](), 0
        for id_, at, act, source, done in acts:
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


def _queues(
    now: float,
    ready: int,
    scheduled: int,
    held: int,
    ready_since: float | None,
    held_since: float | None,
    worst: Mapping[str, int],
) -> QueueDepths:
    return QueueDepths(ready, scheduled, held, _age(ready_since, now), _age(held_since, now), worst)


def _age(since: float | None, now: float) -> float:
    return 0.0 if since is None else max(0.0, now - since)
