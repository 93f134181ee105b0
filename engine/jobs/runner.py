"""Takes jobs from the queue, has them worked on, as many at once as there are workers, and drains.

A job's lease is renewed while the work goes on; an engine that dies lets it lapse, and another takes the job up.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from engine.jobs.executor import JobExecutor
from engine.jobs.store import Job, JobStore
from relay.outbox.errors import StoreUnavailable
from relay.service.loop import Loop, turning

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RunnerTimings:
    """How often and how long, in seconds. `poll` finds jobs of engines that died; our own wake the runner."""

    lease: float = 60.0
    poll: float = 1.0
    drain: float = 30.0


class Runner:
    """At most `workers` jobs at once: a request that is answered while its caller waits never queues behind more."""

    def __init__(
        self, store: JobStore, executor: JobExecutor, workers: int, pace: RunnerTimings = RunnerTimings()
    ) -> None:
        self._store = store
        self._executor = executor
        self._workers = workers
        self._pace = pace
        self._running: dict[asyncio.Task[None], Job] = {}
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
        jobs = await self._store.lease(self._workers - len(self._running), self._running.values())
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
            if job.seq not in held | self._executor.ending and not task.done():
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
        task = asyncio.create_task(self._executor.carry_out(job))
        self._running[task] = job
        task.add_done_callback(self._free)

    def _free(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self.wake()
