"""Recordings: the durable queue, what works on it, and what is counted and forgotten of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from engine.audio.fetch import HttpFetcher
from engine.errors import RecogniserUnavailable, WorkerDied
from engine.jobs.admission import Admission, QueueBounds, WaitEstimate
from engine.jobs.archive import Archive
from engine.jobs.audio_store import AudioStore
from engine.jobs.executor import Ended, JobExecutor
from engine.jobs.handler import TranscriptionHandler
from engine.jobs.intake import Intake
from engine.jobs.observers import JobGauges, JobLog, JobMetrics, JobSpans
from engine.jobs.recognition import Recognition
from engine.jobs.retention import JobRetention, prune
from engine.jobs.runner import Runner, RunnerTimings
from engine.jobs.store import JobStore
from engine.recognisers.base import Spec
from engine.recognisers.workers.memory import MemoryBudget
from engine.recognisers.workers.pool import TranscriptionPool
from engine.recognisers.workers.scheduler import LoadChange
from engine.settings import EngineSection
from relay.guard.rules import Rules
from relay.outbox.errors import ConfigError
from relay.outbox.store import Database
from relay.service.loop import Loop, turning
from relay.service.traces import Spans

_STATS_SECONDS = 5.0
_PRUNE_SECONDS = 3600.0

log = structlog.get_logger()


class RecordedSpeech:
    """What the HTTP server needs of recordings; they are worked on inside of `running`, while the `runner` runs."""

    def __init__(
        self,
        engine: EngineSection,
        database: Database,
        rules: Rules,
        specs: Mapping[str, Spec],
        budget: MemoryBudget,
        fetcher: HttpFetcher,
        registry: CollectorRegistry,
    ) -> None:
        metrics, wait = JobMetrics(registry, engine.workers), WaitEstimate(engine.workers)
        self._clock = database.now
        self._spans = Spans(engine.traces.endpoint, "engine") if engine.traces.endpoint else None
        self._pool = _pool(engine, specs, budget)
        self.audio = engine.audio.store(engine.audio_dir)
        self.store = JobStore(database, engine.lease_seconds)
        self.archive = Archive(database, self.audio)
        self.admission = Admission(self.store, QueueBounds(**asdict(engine.queue)), wait, metrics.refused)
        self.recognition = Recognition(self._pool, metrics, engine.max_work_seconds)
        handler = TranscriptionHandler(
            self.recognition.attempt, fetcher, self.audio, self.store, tries=engine.fetch.tries
        )
        pace = RunnerTimings(lease=engine.lease_seconds, drain=engine.drain_seconds)
        observers: list[Callable[[Ended], None]] = [JobLog(rules), metrics, wait]
        if self._spans:
            observers.append(JobSpans(self._spans))
        executor = JobExecutor(self.store, handler, observers=observers, clock=database.now)
        self.runner = runner = Runner(self.store, executor, engine.workers, pace)
        JobGauges(registry, draining=lambda: runner.draining)
        self.intake = Intake(self.store, self.audio, runner.wake)
        kept = JobRetention(**asdict(engine.retention))
        self._loops = (
            Loop("stats", partial(_count, metrics, self.store), _STATS_SECONDS),
            Loop("prune", partial(_prune, database, self.audio, self.store, kept), _PRUNE_SECONDS),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Recognisers that are to be preloaded are there inside of the block. Raises ConfigError, OSError."""
        async with AsyncExitStack() as stack:
            if self._spans:
                stack.push_async_callback(asyncio.to_thread, self._spans.close)
            stack.push_async_callback(self.store.close)
            stack.push_async_callback(self.archive.close)
            self.audio.create()
            log.info("audio.tidied", files=await self.audio.tidy(self.store.need_audio, self._clock()))
            stack.push_async_callback(self._pool.stop)
            await self._pool.start()
            try:
                await self._pool.load()
            except (RecogniserUnavailable, WorkerDied) as error:
                raise ConfigError(f"engine.preload: {error}") from error
            await stack.enter_async_context(turning(*self._loops))
            yield


def _pool(engine: EngineSection, specs: Mapping[str, Spec], budget: MemoryBudget) -> TranscriptionPool:
    return TranscriptionPool(
        engine.workers,
        specs,
        max_seconds=engine.max_audio_seconds,
        idle_seconds=engine.models_idle_seconds,
        budget=budget,
        keep=engine.preload,
        tell=_log_change,
    )


def _log_change(change: LoadChange) -> None:
    said = {"recogniser": change.recogniser, "memory_bytes": change.memory, "reason": change.why}
    log.info("recogniser.loading" if change.why == "needed" else "recogniser.unloaded", **said)


async def _count(metrics: JobMetrics, store: JobStore) -> None:
    metrics.counted(await store.snapshot())


async def _prune(database: Database, audio: AudioStore, store: JobStore, kept: JobRetention) -> None:
    forgotten = await prune(database, audio, store.need_audio, kept, database.now())
    log.info("retention.pruned", **asdict(forgotten))
