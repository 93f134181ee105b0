"""The runner: every job ends once, as one delivery, whatever its audio, the recogniser or the disk do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine.errors import WorkerDied
from engine.jobs.archive import Archive
from engine.jobs.executor import MOST_CRASHES, MOST_LAPSES, Ended, ExecutorPauses, JobExecutor, JobHandler
from engine.jobs.folder import AudioFolder
from engine.jobs.runner import Runner, RunnerTimings
from engine.jobs.store import Job, JobResult, JobStore
from engine.request import Failed, FailureCode
from relay.outbox.errors import StoreUnavailable
from relay.outbox.model import NewDelivery
from relay.outbox.store import Database
from tests.engine.jobs.conftest import (
    BROKEN,
    IN_A_FILE,
    LEASE_SECONDS,
    MEDIA,
    TRANSCRIPT,
    Clock,
    Rows,
    SmallDisk,
    request,
)

PATIENCE = 60.0
QUICK = RunnerTimings(lease=LEASE_SECONDS, poll=60.0, drain=PATIENCE)


def runner_of(
    store: JobStore,
    handler: JobHandler,
    workers: int,
    pace: RunnerTimings,
    observers: Sequence[Callable[[Ended], None]] = (),
) -> Runner:
    """With hardly a pause after what failed."""
    return Runner(store, JobExecutor(store, handler, ExecutorPauses(crash=0.0, write=0.001), observers), workers, pace)


@dataclass
class ScriptedHandler:
    """Handles each job as the script says, in turn; the last entry for ever after. A gate holds work until it opens."""

    script: list[JobResult | Exception] = field(default_factory=lambda: [JobResult(MEDIA, TRANSCRIPT)])
    gate: asyncio.Event | None = None
    begun: list[str] = field(default_factory=list)
    cleaned: list[str] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, job: Job) -> JobResult:
        async with self.news:
            self.begun.append(job.id)
            self.news.notify_all()
        if self.gate:
            await self.gate.wait()
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        return step

    async def clean_up(self, job: Job) -> None:
        self.cleaned.append(job.id)

    async def until_begun(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE), self.news:
            await self.news.wait_for(lambda: len(self.begun) >= count)


async def crank(runner: Runner, turns: int = 1) -> None:
    for _ in range(turns):
        await runner.run_once()
        await asyncio.wait_for(runner.settled(), PATIENCE)


async def test_a_job_becomes_one_delivery_under_its_own_id(store: JobStore, rows: Rows) -> None:
    await store.accept(request(), MEDIA)
    heard: list[Ended] = []
    handler = ScriptedHandler()
    await crank(runner_of(store, handler, 1, QUICK, [heard.append]), turns=2)
    assert rows("SELECT id, kind, state FROM outspoken_deliveries") == [("job-1", "final", "pending")]
    assert rows("SELECT state FROM outspoken_jobs") == [("done",)]
    assert [ended.job.id for ended in heard] == handler.begun == handler.cleaned == ["job-1"]


async def test_a_failure_is_delivered_too(store: JobStore, rows: Rows) -> None:
    await store.accept(request(), MEDIA)
    handler = ScriptedHandler([JobResult(MEDIA, Failed(FailureCode.AUDIO, "the file holds no audio"))])
    await crank(runner_of(store, handler, 1, QUICK))
    assert rows("SELECT id, kind FROM outspoken_deliveries") == [("job-1", "error")]
    assert rows("SELECT state, error_code FROM outspoken_jobs") == [("failed", "audio")]


async def test_no_more_jobs_are_taken_than_there_are_workers(store: JobStore) -> None:
    for number in range(3):
        await store.accept(request(f"job-{number}"), MEDIA)
    gate = asyncio.Event()
    handler = ScriptedHandler(gate=gate)
    runner = runner_of(store, handler, 2, QUICK)
    assert [await runner.run_once(), await runner.run_once()] == [2, 0]
    gate.set()
    await runner.settled()
    assert await runner.run_once() == 1
    await runner.settled()


@pytest.mark.parametrize(
    ("fault", "blame"),
    [
        (WorkerDied("signal 11"), "The audio ended the recogniser's process 3 times"),
        (RuntimeError("a bug"), "The engine failed on this audio 3 times"),
    ],
    ids=["the worker dies", "a bug"],
)
async def test_audio_that_cannot_be_worked_on_fails_with_a_callback_after_three_times(
    store: JobStore, rows: Rows, fault: Exception, blame: str
) -> None:
    await store.accept(request(), MEDIA)
    handler = ScriptedHandler([fault])
    runner = runner_of(store, handler, 1, QUICK)
    await crank(runner, turns=MOST_CRASHES - 1)
    assert rows("SELECT state, crashes FROM outspoken_jobs") == [("queued", MOST_CRASHES - 1)]
    assert rows("SELECT id FROM outspoken_deliveries") == []
    await crank(runner, turns=2)
    assert rows("SELECT state, crashes, error_code FROM outspoken_jobs") == [("failed", MOST_CRASHES, "internal")]
    ((body,),) = rows("SELECT body FROM outspoken_bodies")
    assert isinstance(body, bytes)
    assert blame in json.loads(body)["err_msg"]
    assert len(handler.begun) == MOST_CRASHES


async def test_a_crash_does_not_doom_a_job(store: JobStore, rows: Rows) -> None:
    await store.accept(request(), MEDIA)
    handler = ScriptedHandler([WorkerDied(), WorkerDied(), JobResult(MEDIA, TRANSCRIPT)])
    await crank(runner_of(store, handler, 1, QUICK), turns=3)
    assert rows("SELECT state, crashes FROM outspoken_jobs") == [("done", 2)]


async def lapse(store: JobStore, clock: Clock, times: int, room: int = 1) -> None:
    """As many engines go quiet, each over what it had leased."""
    for _ in range(times):
        await store.lease(room)
        clock.advance(LEASE_SECONDS)


async def test_audio_that_ends_the_engine_itself_fails_with_a_callback_after_five_times(
    store: JobStore, rows: Rows, clock: Clock
) -> None:
    await store.accept(request(), MEDIA)
    await lapse(store, clock, MOST_LAPSES - 1)
    handler = ScriptedHandler()
    await lapse(store, clock, 1)
    await crank(runner_of(store, handler, 1, QUICK))
    assert handler.begun == []
    assert rows("SELECT state, error_code, lapses, crashes FROM outspoken_jobs") == [
        ("failed", "internal", MOST_LAPSES, 0)
    ]
    ((body,),) = rows("SELECT body FROM outspoken_bodies")
    assert isinstance(body, bytes)
    assert "The engine itself ended 5 times" in json.loads(body)["err_msg"]


async def test_a_few_power_cuts_do_not_doom_a_job(store: JobStore, rows: Rows, clock: Clock) -> None:
    await store.accept(request(), MEDIA)
    await lapse(store, clock, MOST_LAPSES - 1)
    await crank(runner_of(store, ScriptedHandler(), 1, QUICK))
    assert rows("SELECT state, lapses FROM outspoken_jobs") == [("done", MOST_LAPSES - 1)]


async def test_jobs_beside_audio_that_ends_the_engine_are_not_given_up_with_it(
    store: JobStore, rows: Rows, clock: Clock
) -> None:
    for name in ("culprit", "beside-1", "beside-2"):
        await store.accept(request(name), MEDIA)
    while rows("SELECT 1 FROM outspoken_jobs WHERE state IN ('queued', 'leased')"):
        leased = await store.lease(4)
        if any(job.id == "culprit" and job.lapses < MOST_LAPSES for job in leased):
            clock.advance(LEASE_SECONDS)  # the engine ends before any of them does
            continue
        for job in leased:
            await store.finish(job, BROKEN if job.lapses >= MOST_LAPSES else JobResult(MEDIA, TRANSCRIPT), None)
    assert rows("SELECT id, state FROM outspoken_jobs ORDER BY id") == [
        ("beside-1", "done"),
        ("beside-2", "done"),
        ("culprit", "failed"),
    ]


async def test_work_on_a_deleted_job_is_broken_off(store: JobStore, database: Database, tmp_path: Path) -> None:
    for name in ("deleted", "kept"):
        await store.accept(request(name), MEDIA)
    gate = asyncio.Event()
    handler = ScriptedHandler(gate=gate)
    runner = runner_of(store, handler, 2, QUICK)
    await runner.run_once()
    await handler.until_begun(2)
    archive = Archive(database, AudioFolder(tmp_path))
    await archive.delete("deleted", None)
    await archive.close()
    await runner.renew_once()
    gate.set()
    await asyncio.wait_for(runner.settled(), PATIENCE)
    assert handler.cleaned == ["kept"]


async def test_work_whose_lease_was_lost_adds_nothing(
    store: JobStore, database: Database, clock: Clock, rows: Rows
) -> None:
    await store.accept(request(), MEDIA)
    gate = asyncio.Event()
    slow_handler, heard = ScriptedHandler(gate=gate), list[Ended]()
    slow = runner_of(store, slow_handler, 1, QUICK, [heard.append])
    await slow.run_once()
    await slow_handler.until_begun(1)
    clock.advance(LEASE_SECONDS)
    other = JobStore(database, LEASE_SECONDS)
    await crank(runner_of(other, ScriptedHandler(), 1, QUICK))
    gate.set()
    await slow.settled()
    await other.close()
    assert rows("SELECT id FROM outspoken_deliveries") == [("job-1",)]
    assert (heard, slow_handler.cleaned) == ([], [])


async def test_renewed_jobs_stay_ours(store: JobStore, clock: Clock) -> None:
    await store.accept(request(), MEDIA)
    gate = asyncio.Event()
    runner = runner_of(store, ScriptedHandler(gate=gate), 2, QUICK)
    await runner.run_once()
    clock.advance(LEASE_SECONDS - 1)
    await runner.renew_once()
    clock.advance(LEASE_SECONDS - 1)
    assert await runner.run_once() == 0
    gate.set()
    await runner.settled()


async def test_a_clock_that_is_set_forward_takes_no_job_from_the_engine_that_works_on_it(
    store: JobStore, clock: Clock, rows: Rows
) -> None:
    await store.accept(request(), MEDIA)
    gate = asyncio.Event()
    handler = ScriptedHandler(gate=gate)
    runner = runner_of(store, handler, 2, QUICK)
    await runner.run_once()
    clock.advance(2 * LEASE_SECONDS)
    assert await runner.run_once() == 0
    gate.set()
    await runner.settled()
    assert handler.begun == ["job-1"]
    assert rows("SELECT state, lapses FROM outspoken_jobs") == [("done", 0)]


class WatchedStore(JobStore):
    """Says when a write could not be kept."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, LEASE_SECONDS)
        self.refused = asyncio.Event()

    async def finish(self, job: Job, result: JobResult, delivery: NewDelivery | None, *, crashed: bool = False) -> bool:
        try:
            return await super().finish(job, result, delivery, crashed=crashed)
        except StoreUnavailable:
            self.refused.set()
            raise


@IN_A_FILE
async def test_a_full_disk_delays_the_result_and_loses_nothing(disk: SmallDisk, rows: Rows) -> None:
    long, gate = "x" * 1_000_000, asyncio.Event()
    store = WatchedStore(disk)
    await store.accept(request(), MEDIA)
    runner = runner_of(store, ScriptedHandler([JobResult(MEDIA, Failed(FailureCode.AUDIO, long))], gate), 1, QUICK)
    await runner.run_once()
    await disk.fill()
    gate.set()
    await asyncio.wait_for(store.refused.wait(), PATIENCE)
    assert rows("SELECT state FROM outspoken_jobs") == [("leased",)]
    assert rows("SELECT id FROM outspoken_deliveries") == []
    await disk.free()
    await asyncio.wait_for(runner.settled(), PATIENCE)
    assert rows("SELECT state FROM outspoken_jobs") == [("failed",)]
    assert rows("SELECT id FROM outspoken_deliveries") == [("job-1",)]
    await store.close()


async def test_an_observer_that_breaks_hurts_nobody(store: JobStore, rows: Rows) -> None:
    def broken(_: Ended) -> None:
        raise RuntimeError("no log today")

    await store.accept(request(), MEDIA)
    handler, heard = ScriptedHandler(), list[Ended]()
    await crank(runner_of(store, handler, 1, QUICK, [broken, heard.append]), turns=2)
    assert rows("SELECT state FROM outspoken_jobs") == [("done",)]
    assert [ended.job.id for ended in heard] == handler.begun == handler.cleaned == ["job-1"]


async def test_a_wake_up_is_heeded_at_once(store: JobStore) -> None:
    handler = ScriptedHandler()
    runner = runner_of(store, handler, 1, QUICK)  # QUICK polls once a minute
    running = asyncio.create_task(runner.run())
    for number in range(3):
        await store.accept(request(f"job-{number}"), MEDIA)
        runner.wake()
        await handler.until_begun(number + 1)
    runner.stop()
    await asyncio.wait_for(running, PATIENCE)


async def test_jobs_of_an_engine_that_died_are_found_without_a_wake_up(
    store: JobStore, database: Database, clock: Clock
) -> None:
    dead = JobStore(database, LEASE_SECONDS)
    await dead.accept(request(), MEDIA)
    await dead.lease(1)
    await dead.close()
    handler = ScriptedHandler()
    runner = runner_of(store, handler, 1, RunnerTimings(poll=0.001))
    running = asyncio.create_task(runner.run())
    clock.advance(LEASE_SECONDS)
    await handler.until_begun(1)
    runner.stop()
    await asyncio.wait_for(running, PATIENCE)


async def test_stopping_lets_running_jobs_end_and_takes_no_more(store: JobStore, rows: Rows) -> None:
    for number in range(2):
        await store.accept(request(f"job-{number}"), MEDIA)
    gate = asyncio.Event()
    handler = ScriptedHandler(gate=gate)
    runner = runner_of(store, handler, 1, QUICK)
    running = asyncio.create_task(runner.run())
    await handler.until_begun(1)
    runner.stop()
    gate.set()
    await asyncio.wait_for(running, PATIENCE)
    assert rows("SELECT id, state FROM outspoken_jobs ORDER BY id") == [("job-0", "done"), ("job-1", "queued")]


async def test_what_does_not_end_in_time_is_released_for_the_next_engine(store: JobStore, rows: Rows) -> None:
    await store.accept(request(), MEDIA)
    handler = ScriptedHandler(gate=asyncio.Event())
    runner = runner_of(store, handler, 1, RunnerTimings(drain=0.0))
    running = asyncio.create_task(runner.run())
    await handler.until_begun(1)
    runner.stop()
    await asyncio.wait_for(running, PATIENCE)
    assert rows("SELECT state, crashes FROM outspoken_jobs") == [("queued", 0)]
    assert rows("SELECT id FROM outspoken_deliveries") == []


class StoreAwayAtFirst(JobStore):
    """Whose database is."""

    asked = 0

    async def lease(self, room: int, running: Collection[Job] = ()) -> tuple[Job, ...]:
        self.asked += 1
        if self.asked < 3:
            raise StoreUnavailable("io")
        return await super().lease(room, running)


async def test_the_runner_outlives_a_database_that_is_away(database: Database) -> None:
    store = StoreAwayAtFirst(database, LEASE_SECONDS)
    await store.accept(request(), MEDIA)
    handler = ScriptedHandler()
    runner = runner_of(store, handler, 1, RunnerTimings(poll=0.001))
    running = asyncio.create_task(runner.run())
    await handler.until_begun(1)
    runner.stop()
    await asyncio.wait_for(running, PATIENCE)
    await store.close()
