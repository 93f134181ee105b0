"""Works on one job until it ends, once: a result that is written with its delivery, or another try.

A write that fails is tried again until it succeeds, so that no result is lost to a full disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from engine.errors import WorkerDied
from engine.jobs.store import Job, JobResult, JobStore
from engine.request import Failed, FailureCode
from engine.result_delivery import delivery_of
from relay.outbox.errors import StoreUnavailable
from relay.outbox.model import NewDelivery

MOST_CRASHES = 3

MOST_LAPSES = 5
"""Engines that may go quiet over a job before it is given up. More than crashes: a power cut, or an operator's kill, is
no fault of the audio's. Fewer than no end: audio that ends the engine itself would do so for ever, and take the jobs
beside it along each time. Those are not given up with it: the second lapse makes a job a suspect, and suspects are
worked on one at a time, so that only the culprit gets to five."""

_DIED = (
    f"The audio ended the recogniser's process {MOST_CRASHES} times, so it was given up. "
    "Convert it to WAV or FLAC, or send it in parts."
)
_BROKE = (
    f"The engine failed on this audio {MOST_CRASHES} times for a reason of its own. "
    "The operator finds the cause in the engine's log under this request's id."
)
_LAPSED = (
    f"The engine itself ended {MOST_LAPSES} times while it worked on this audio, so it was given up. "
    "Convert it to WAV or FLAC, or send it in parts."
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Crash:
    """The work broke off without a result: what a caller may know of the reason."""

    message: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The record of one job that ended, the same for every observer. Times are epoch seconds."""

    job: Job
    result: JobResult
    started_at: float
    finished_at: float


@dataclass(frozen=True, slots=True)
class ExecutorPauses:
    """In seconds: before a job whose work crashed is tried again, and between tries to write."""

    crash: float = 1.0
    write: float = 0.5
    longest_write: float = 10.0


class JobHandler(Protocol):
    """Who works on jobs; the tests have one that follows a script."""

    async def handle(self, job: Job) -> JobResult:
        """The job's result. Raises WorkerDied when the recogniser's process ended on the way."""

    async def clean_up(self, job: Job) -> None:
        """The job has ended: what the work needed of it may go."""


class JobExecutor:
    """Each of the `observers` is told of every job that ended; `clock` is in epoch seconds."""

    def __init__(
        self,
        store: JobStore,
        handler: JobHandler,
        pauses: ExecutorPauses = ExecutorPauses(),
        observers: Sequence[Callable[[Ended], None]] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._handler = handler
        self._pauses = pauses
        self._observers = tuple(observers)
        self._clock = clock
        self._ending: set[int] = set()

    @property
    def ending(self) -> Set[int]:
        """The numbers of jobs whose ends are being written: a lease that is gone from the store is no loss."""
        return self._ending

    async def carry_out(self, job: Job) -> None:
        """To its end, or until it is to be tried again. Raises nothing."""
        started_at = self._clock()
        try:
            log.info("job.started", **{"job.id": job.id, "crashes": job.crashes, "lapses": job.lapses})
            match await self._attempt(job):
                case JobResult() as result:
                    await self._finish(job, result, started_at)
                case Crash(message) if job.crashes + 1 >= MOST_CRASHES:
                    await self._finish(
                        replace(job, crashes=job.crashes + 1), _given_up(job, message), started_at, crashed=True
                    )
                case Crash():
                    await self._retry(job)
        except Exception:  # the lease lapses, and the job is taken up again
            log.exception("job.error", **{"job.id": job.id})

    async def _attempt(self, job: Job) -> JobResult | Crash:
        if job.lapses >= MOST_LAPSES:
            log.error("job.given_up", **{"job.id": job.id, "lapses": job.lapses})
            return _given_up(job, _LAPSED)
        try:
            return await self._handler.handle(job)
        except WorkerDied as error:
            log.warning("worker.died", **{"job.id": job.id, "crashes": job.crashes + 1, "detail": str(error)})
            return Crash(_DIED)
        except Exception:
            log.exception("job.error", **{"job.id": job.id, "crashes": job.crashes + 1})
            return Crash(_BROKE)

    async def _finish(self, job: Job, result: JobResult, started_at: float, *, crashed: bool = False) -> None:
        self._ending.add(job.seq)
        try:
            delivery = await self._delivery(job, result)
            if not await self._write(job, lambda: self._store.finish(job, result, delivery, crashed=crashed)):
                log.warning("job.lease.lost", **{"job.id": job.id})
                return
            self._announce(Ended(job, result, started_at, self._clock()))
            await self._handler.clean_up(job)
        finally:
            self._ending.discard(job.seq)

    @staticmethod
    async def _delivery(job: Job, result: JobResult) -> NewDelivery | None:
        if job.request.callback is None:
            return None
        # In a thread: to render hours of speech takes tenths of a second, for which no other request should wait.
        return await asyncio.to_thread(delivery_of, job.request, result.media, result.said)

    async def _retry(self, job: Job) -> None:
        if await self._write(job, lambda: self._store.retry(job, self._pauses.crash)):
            log.warning("job.retried", **{"job.id": job.id, "crashes": job.crashes + 1})

    async def _write(self, job: Job, write: Callable[[], Awaitable[bool]]) -> bool:
        """Until it is durable: the result is in memory only, and the lease is ours as long as nobody else can write."""
        pause = self._pauses.write
        while True:
            try:
                return await write()
            except StoreUnavailable as error:
                log.error(
                    "store.error", **{"operation": "finish", "kind": error.kind, "job.id": job.id, "retry_s": pause}
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._pauses.longest_write)

    def _announce(self, ended: Ended) -> None:
        for observer in self._observers:
            try:
                observer(ended)
            except Exception:  # watching never hurts
                log.exception("observer.error")


def _given_up(job: Job, message: str) -> JobResult:
    return JobResult(job.media, Failed(FailureCode.INTERNAL, message))
