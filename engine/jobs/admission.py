"""Who may come in while the recognisers are busy: a bound on what waits, judged before a byte of a body is read.

A place is taken before the look at the store's numbers, and what counts beside them are the places that were taken
earlier: however many look at once, no more get in than there is room for. A place is given back when its request has
been answered: by then its job is in the store's numbers. What several engines on one database admit in the same moment
may exceed the bounds by as much as is under way.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from engine.jobs.executor import Ended
from engine.jobs.store import NO_KEY, Backlog

_LONGEST_WAIT = 60.0  # as long as the vendors' clients wait without giving up
_WEIGHT = 0.1  # of the job that ended last, in the mean


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """What may wait: jobs in all, bytes of audio of unfinished jobs, jobs of one key that has no bound of its own."""

    jobs: int = 10_000
    bytes: int = 64 * 1024**3
    per_key_jobs: int = 5_000


class Bound(StrEnum):
    """Which bound a request met, as a closed set: the label of a metric."""

    JOBS = "jobs"
    BYTES = "bytes"
    KEY = "key"


class QueueFull(Exception):
    """There is no room now. The message names the bound; `wait` is after how many seconds there may be some."""

    def __init__(self, message: str, wait: int) -> None:
        super().__init__(message)
        self.wait = wait


class BacklogSource(Protocol):
    """What admission needs of the JobStore; the tests have one whose numbers they set."""

    async def backlog(self, key_id: str) -> Backlog:
        """The numbers of now. Raises StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """The places taken at one moment: of one key, in all, and the bytes of audio that they stand for."""

    key_jobs: int
    jobs: int
    bytes: int


class WaitEstimate:
    """An observer of jobs: how long it takes until there is room for one more, by the mean of the latest jobs."""

    def __init__(self, workers: int, first_guess: float = 5.0) -> None:
        self._workers = workers
        self._mean = first_guess

    def __call__(self, ended: Ended) -> None:
        took = max(0.0, ended.finished_at - ended.started_at)
        self._mean += _WEIGHT * (took - self._mean)

    @property
    def seconds(self) -> int:
        """When the next worker is free, on average, from 1 to 60."""
        return math.ceil(min(max(self._mean / self._workers, 1.0), _LONGEST_WAIT))


class Admission:
    """The bounds, and the places taken by requests that are under way in this engine."""

    def __init__(
        self,
        store: BacklogSource,
        bounds: QueueBounds,
        wait: WaitEstimate,
        refused: Callable[[Bound], None] = lambda _: None,
    ) -> None:
        """`refused` is told of every request for which there is no room, and which bound it met."""
        self._store = store
        self._bounds = bounds
        self._wait = wait
        self._refused = refused
        self._places: Counter[str] = Counter()
        self._bytes = 0

    async def enter(self, key_id: str | None, size: int = 0) -> Reservation:
        """Take a place for one job with so many bytes, 0 where nobody knows yet. Raises QueueFull, StoreUnavailable."""
        place = Reservation(self, key_id or NO_KEY, size)
        reserved = self._reserved(place.key)
        self._places[place.key] += 1
        self._bytes += size
        try:
            backlog = await self._store.backlog(place.key)
            self._judge_jobs(backlog, reserved)
            self._judge_bytes(backlog, reserved, size)
        except BaseException:
            place.leave()
            raise
        return place

    def _reserved(self, key: str) -> Reserved:
        return Reserved(self._places[key], self._places.total(), self._bytes)

    def _judge_jobs(self, backlog: Backlog, reserved: Reserved) -> None:
        most = self._bounds.per_key_jobs if backlog.key_bound is None else backlog.key_bound
        if backlog.key_jobs + reserved.key_jobs >= most:
            raise self._full(Bound.KEY, f"{most} requests of this key wait already, which is as many as may.")
        if backlog.jobs + reserved.jobs >= self._bounds.jobs:
            raise self._full(Bound.JOBS, f"{self._bounds.jobs} requests wait already, which is as many as may.")

    def _judge_bytes(self, backlog: Backlog, reserved: Reserved, size: int) -> None:
        if backlog.bytes + reserved.bytes + size > self._bounds.bytes:
            raise self._full(Bound.BYTES, f"With this audio more than {self._bounds.bytes} bytes of it would wait.")

    def _full(self, bound: Bound, message: str) -> QueueFull:
        self._refused(bound)
        return QueueFull(message, self._wait.seconds)

    async def grow(self, place: Reservation, more: int) -> None:
        """Let a body of unknown size have so many bytes more. Raises QueueFull, StoreUnavailable."""
        reserved = self._reserved(place.key)
        self._swell(place, more)
        try:
            self._judge_bytes(await self._store.backlog(place.key), reserved, more)
        except BaseException:
            self._swell(place, -more)
            raise

    def _swell(self, place: Reservation, more: int) -> None:
        place.size += more
        self._bytes += more

    def leave(self, place: Reservation) -> None:
        self._places[place.key] -= 1
        if not self._places[place.key]:
            del self._places[place.key]
        self._bytes -= place.size


class Reservation:
    """Room for one request, until it leaves."""

    def __init__(self, admission: Admission, key: str, size: int) -> None:
        self._admission = admission
        self._arrived = 0
        self.key = key
        self.size = size

    async def arrived(self, count: int) -> None:
        """So many more bytes of the body came. Raises QueueFull where they were not announced and there is no room."""
        self._arrived += count
        if self._arrived > self.size:
            await self._admission.grow(self, self._arrived - self.size)

    def leave(self) -> None:
        """Give the room back; once."""
        self._admission.leave(self)
