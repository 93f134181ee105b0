"""Real worker processes, and what their deaths mean to a job, to a waiting caller and to a probe."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from engine.errors import AudioError
from engine.jobs.executor import MOST_CRASHES, ExecutorPauses, JobExecutor
from engine.jobs.folder import AudioFolder
from engine.jobs.handler import TranscriptionHandler
from engine.jobs.observers import JobMetrics
from engine.jobs.recognition import Recognition
from engine.jobs.runner import Runner
from engine.jobs.store import JobStore
from engine.recognisers.workers.pool import TranscriptionPool
from engine.request import Failed, FailureCode
from engine.transcript import Transcript
from tests.engine.jobs.conftest import MEDIA, Rows, request, unused_fetcher
from tests.engine.processes import children
from tests.engine.recognisers.tiny import TINY

PATIENCE = 30.0
CLIP = Path(__file__).parents[2] / "clips" / "demo.flac"

pytestmark = pytest.mark.acceptance


@pytest.fixture
async def pool() -> AsyncIterator[TranscriptionPool]:
    pool = TranscriptionPool(1, {"default": TINY})
    yield pool
    await pool.stop()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def recognition(pool: TranscriptionPool, registry: CollectorRegistry) -> Recognition:
    return Recognition(pool, JobMetrics(registry, workers=1), PATIENCE)


def has_open(pid: int, path: Path) -> bool:
    return path.resolve() in {link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()}


async def kill_whoever_reads(path: Path) -> None:
    """Opening a named pipe to write waits until somebody has opened it to read."""
    descriptor = await asyncio.wait_for(asyncio.to_thread(os.open, path, os.O_WRONLY), PATIENCE)
    reader = os.pidfd_open(next(pid for pid in children() if has_open(pid, path)))
    signal.pidfd_send_signal(reader, signal.SIGKILL)
    await asyncio.to_thread(select.select, [reader], [], [], PATIENCE)  # readable once the process is gone
    os.close(reader)
    os.close(descriptor)


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """Audio that holds whoever reads it until it is killed."""
    path = tmp_path / "trap"
    os.mkfifo(path)
    return path


async def test_a_job_that_kills_its_worker_three_times_fails_with_a_callback(
    store: JobStore, recognition: Recognition, registry: CollectorRegistry, tmp_path: Path, rows: Rows
) -> None:
    folder = AudioFolder(tmp_path / "audio")
    folder.create()
    os.mkfifo(folder.path("job-1"))
    await store.accept(request(), MEDIA)
    handler = TranscriptionHandler(recognition.attempt, unused_fetcher(), folder, store)
    runner = Runner(store, JobExecutor(store, handler, ExecutorPauses(crash=0.0)), 1)
    for _ in range(MOST_CRASHES):
        await runner.run_once()
        await kill_whoever_reads(folder.path("job-1"))
        await asyncio.wait_for(runner.settled(), PATIENCE)
    assert await runner.run_once() == 0
    ((body,),) = rows("SELECT body FROM outspoken_bodies")
    assert isinstance(body, bytes)
    document = json.loads(body)
    assert document["request_id"] == "job-1"
    assert "ended the recogniser's process 3 times" in document["err_msg"]
    assert rows("SELECT state, crashes FROM outspoken_jobs") == [("failed", MOST_CRASHES)]
    assert registry.get_sample_value("engine_worker_deaths_total") == MOST_CRASHES


async def test_after_a_death_the_next_audio_is_transcribed(
    recognition: Recognition, registry: CollectorRegistry, trap: Path
) -> None:
    dying = asyncio.create_task(recognition.transcribe(request(), trap))
    await kill_whoever_reads(trap)
    told = await dying
    assert isinstance(told, Failed)
    assert told.code is FailureCode.INTERNAL
    heard = await recognition.transcribe(request(), CLIP)
    assert isinstance(heard, Transcript)
    assert heard.channels[0].words
    assert registry.get_sample_value("engine_audio_seconds_total") == heard.duration


async def test_audio_that_is_none_is_a_failure_of_the_audio(recognition: Recognition, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("no sound in here")
    told = await recognition.attempt(request(), path)
    assert isinstance(told, Failed)
    assert told.code is FailureCode.AUDIO


async def test_recognition_that_takes_too_long_is_given_up(pool: TranscriptionPool, trap: Path) -> None:
    metrics = JobMetrics(CollectorRegistry(), workers=1)
    told = await Recognition(pool, metrics, max_seconds=0.05).attempt(request(), trap)
    assert isinstance(told, Failed)
    assert told.code is FailureCode.TIMEOUT


async def test_audio_that_kills_whoever_looks_at_it_is_refused(recognition: Recognition, trap: Path) -> None:
    probing = asyncio.create_task(recognition.probe(trap, None))
    for _ in range(2):
        await kill_whoever_reads(trap)
    with pytest.raises(AudioError, match="convert it"):
        await probing
