"""Takes jobs from the queue, has them worked on, and sees each to its end: a delivery in the outbox.

A job ends once. Its lease is renewed while the work goes on; an engine that dies lets it lapse, and another takes the
job up. A write that fails is tried again until it succeeds, so that no result is lost to a full disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from engine.errors import WorkerDied
from engine.jobs.store import Job, JobResult, JobStore
from engine.request import Failed, FailureCode
from engine.result_delivery import delivery_of
from relay.outbox.errors import StoreUnavailable
from relay.outbox.model import NewDelivery
from relay.service.loop import Loop, turning

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
class RunnerTimings:
    """How often and how long, in seconds. `poll` finds jobs of engines that died; our own wake the runner."""

    lease: float = 60.0
    poll: float = 1.0
    drain: float = 30.0
    crash_pause: float = 1.0
    write_pause: float = 0.5
    longest_write_pause: float = 10.0


class JobHandler(Protocol):
    """Who works on jobs; the tests have one that follows a script."""

    async def handle(self, job: Job) -> JobResult:
        """The job's result. Raises WorkerDied when the recogniser's process ended on the way."""

    async def clean_up(self, job: Job) -> None:
        """The job has ended: what the work needed of it may go."""


class Runner:
    """At most `workers` jobs at once: a request that is answered while its caller waits never queues behind more."""

    def __init__(
        self,
        store: JobStore,
        handler: JobHandler,
        workers: int,
        pace: RunnerTimings = RunnerTimings(),
        observers: Sequence[Callable[[Ended], None]] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Each of the `observers` is told of every job that ended; `clock` is in epoch seconds."""
        self._store = store
        self._handler = handler
        self._workers = workers
        self._pace = pace
        self._observers = tuple(observers)
        self._clock = clock
        self._running: dict[asyncio.Task[None], Job] = {}
        self._ending: set[int] = set()
        self._awake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._leasing = Loop("lease", self._lease, pace.poll, wake=self._awake)
        self._renewing = Loop("renew", self._renew, pace.lease / 3)

    def wake(self) -> None:
        """There is something to do."""
        self._awake.set()

    @property
    def turns(self) -> int:
        """Of the loop that takes jobs, whether they brought any or failed."""
        return self._leasing.turns

    @property
    def turned_at(self) -> float:
        """When that loop last went well, on the monotonic clock."""
        return self._leasing.succeeded_at

    def trouble(self) -> str | None:
        """Why its last turns failed, or None."""
        return self._leasing.trouble() or self._renewing.trouble()

    @property
    def draining(self) -> bool:
        """Whether no more jobs are taken."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Take no more jobs; `run` returns when those under way have ended, or `drain` seconds have passed."""
        self._stopping.set()
        self.wake()

    async def run(self) -> None:
        """Take jobs until stopped, then drain."""
        try:
            async with turning(self._renewing):
                await self._leasing.run(until=self._stopping)
                await self._drain()
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def run_once(self) -> int:
        """Start as many due jobs as there is room for; returns how many."""
        return (await self._leasing.run_once())[1] or 0

    async def _lease(self) -> int:
        jobs = await self._store.lease(self._workers - len(self._running))
        for job in jobs:
            self._start(job)
        return len(jobs)

    async def settled(self) -> None:
        """Return when no job is under way."""
        while self._running:
            await asyncio.wait(self._running)

    async def renew_once(self) -> None:
        """Push out the leases of the jobs under way. Work on those that were deleted, or taken over, is broken off."""
        await self._renewing.run_once()

    async def _renew(self) -> None:
        if not self._running:
            return
        running = dict(self._running)
        held = await self._store.renew(list(running.values()))
        for task, job in running.items():
            if job.seq not in held | self._ending and not task.done():
                log.warning("job.lease.lost", **{"job.id": job.id})
                task.cancel()

    async def _drain(self) -> None:
        log.info("engine.draining", jobs=len(self._running), drain_s=self._pace.drain)
        if self._running:
            await asyncio.wait(self._running, timeout=self._pace.drain)
        unfinished = dict(self._running)
        if not unfinished:
            return
        for task in unfinished:
            task.cancel()
        await asyncio.wait(unfinished)
        await self._release(list(unfinished.values()))

    async def _release(self, jobs: list[Job]) -> None:
        try:
            await self._store.release(jobs)
        except StoreUnavailable as error:  # their leases lapse instead
            log.error("store.error", operation="release", kind=error.kind, remedy=error.remedy)
        else:
            log.info("engine.released", jobs=len(jobs))

    def _start(self, job: Job) -> None:
        task = asyncio.create_task(self._carry_out(job))
        self._running[task] = job
        task.add_done_callback(self._free)

    def _free(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self.wake()

    async def _carry_out(self, job: Job) -> None:
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
        if await self._write(job, lambda: self._store.retry(job, self._pace.crash_pause)):
            log.warning("job.retried", **{"job.id": job.id, "crashes": job.crashes + 1})

    async def _write(self, job: Job, write: Callable[[], Awaitable[bool]]) -> bool:
        """Until it is durable: the result is in memory only, and the lease is ours as long as nobody else can write."""
        pause = self._pace.write_pause
        while True:
            try:
                return await write()
            except StoreUnavailable as error:
                log.error(
                    "store.error", **{"operation": "finish", "kind": error.kind, "job.id": job.id, "retry_s": pause}
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._pace.longest_write_pause)

    def _announce(self, ended: Ended) -> None:
        for observer in self._observers:
            try:
                observer(ended)
            except Exception:  # watching never hurts
                log.exception("observer.error")


def _given_up(job: Job, message: str) -> JobResult:
    return JobResult(job.media, Failed(FailureCode.INTERNAL, message))
