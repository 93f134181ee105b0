"""Several recognisers in real processes: loaded when needed, unloaded by ending the process, within a budget.

What is loaded when does not depend on what it is: most of them are stand-ins, which cost nothing.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import wave
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from engine.errors import AudioError, RecogniserUnavailable
from engine.jobs.observers import JobMetrics
from engine.jobs.recognition import Recognition
from engine.recognisers.base import Spec
from engine.recognisers.workers.memory import MemoryBudget, UnloadReason
from engine.recognisers.workers.pool import Transcribe, TranscriptionPool
from engine.recognisers.workers.process import WORKER
from engine.recognisers.workers.scheduler import LoadChange
from engine.request import Failed, FailureCode, RawFormat, Request
from tests.engine.audio.encoding import CLIPS, DEMO
from tests.engine.processes import command
from tests.engine.recognisers.tiny import TINY
from tests.engine.recognisers.workers.standin import MODULE
from tests.engine.recognisers.workers.test_pool import opened, readable, workers

pytestmark = pytest.mark.acceptance

# One model under different names: what each is expected to take is what the pool is told.
GIB = 1024**3  # more than any of them takes in truth: what was seen counts where it is more than what was expected
SMALL, LARGE, OTHER = (replace(TINY, memory=memory * GIB) for memory in (10, 90, 80))
RECOGNISERS = {"small": SMALL, "large": LARGE, "other": OTHER}
RAW = RawFormat("pcm_mulaw", 8000, 1)
PATIENCE = 20
Make = Callable[..., Awaitable[TranscriptionPool]]


@pytest.fixture
def told() -> list[LoadChange]:
    """What the pool said of loading and unloading."""
    return []


@pytest.fixture
async def make(told: list[LoadChange]) -> AsyncIterator[Make]:
    """Start a pool; it is stopped in the end."""
    pools: list[TranscriptionPool] = []

    async def make(
        size: int = 1,
        *,
        idle: float | None = None,
        memory: int | None = None,
        keep: Collection[str] = (),
        worker: str = MODULE,
        **more: Spec,
    ) -> TranscriptionPool:
        settings: Any = {"idle_seconds": idle, "keep": keep, "tell": told.append, "worker": worker}
        budget = MemoryBudget(None if memory is None else memory * GIB)
        pools.append(TranscriptionPool(size, RECOGNISERS | more, budget=budget, **settings))
        await pools[-1].start()
        return pools[-1]

    yield make
    await asyncio.gather(*(pool.stop() for pool in pools))


@pytest.fixture
def quiet(tmp_path: Path) -> str:
    """A tenth of a second of silence: heard in no time."""
    path = tmp_path / "quiet.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(3200))
    return str(path)


@pytest.fixture
async def trap(tmp_path: Path) -> Path:
    """A file whose reader waits for as long as the test wants."""
    path = tmp_path / "endless"
    os.mkfifo(path)
    return path


def hearers() -> set[int]:
    """The processes that recognise."""
    return {pid for pid in workers() if b"--nice" in command(pid)}


def said(told: list[LoadChange]) -> list[str]:
    return [f"{one.recogniser} {one.why}" for one in told]


async def gone(pid: int) -> None:
    """Wait until the process has ended, and so given all of its memory back."""
    end = os.pidfd_open(pid)
    try:
        await asyncio.wait_for(readable(end), PATIENCE)
    finally:
        os.close(end)


async def test_recognisers_live_side_by_side_and_are_loaded_once(
    make: Make, quiet: str, told: list[LoadChange]
) -> None:
    pool = await make()
    for name in ("small", "large", "small", "large"):
        await pool.transcribe(Transcribe(quiet, name))
    assert said(told) == ["small needed", "large needed"]
    assert len(hearers()) == 2


async def test_nothing_is_loaded_before_there_is_work_and_nothing_started_that_nobody_keeps(
    make: Make, told: list[LoadChange]
) -> None:
    await make()
    assert (told, hearers()) == ([], set())
    await make(keep=["small"])
    assert (told, len(hearers())) == ([], 1)


async def test_a_recogniser_without_work_is_unloaded_with_its_process(
    make: Make, quiet: str, told: list[LoadChange]
) -> None:
    pool = await make(idle=0.05, keep=["other"])
    (pid,) = hearers()
    await pool.transcribe(Transcribe(quiet, "small"))
    await gone(pid)
    assert said(told) == ["small needed", "small idle"]
    await pool.transcribe(Transcribe(quiet, "small"))
    assert pid not in hearers()


async def test_one_at_work_is_not_idle_however_long_it_takes(quiet: str, trap: Path) -> None:
    told: list[LoadChange] = []
    rested = asyncio.Event()

    def tell(moved: LoadChange) -> None:
        told.append(moved)
        if moved.why == "idle":
            rested.set()

    pool = TranscriptionPool(2, RECOGNISERS, idle_seconds=0.2, tell=tell, worker=MODULE)
    await pool.transcribe(Transcribe(quiet, "small"))
    busy = asyncio.create_task(pool.transcribe(Transcribe(str(trap), "small", raw=RAW)))
    writer = await opened(trap)
    await pool.transcribe(Transcribe(quiet, "other"))
    await asyncio.wait_for(rested.wait(), PATIENCE)
    assert said(told) == ["small needed", "other needed", "other idle"]
    os.close(writer)
    with pytest.raises(AudioError, match="empty"):
        await busy
    await pool.stop()


async def test_to_make_room_what_was_used_least_recently_is_unloaded(
    make: Make, quiet: str, told: list[LoadChange]
) -> None:
    pool = await make(memory=100)
    await pool.transcribe(Transcribe(quiet, "large"))
    (pid,) = hearers()
    end = os.pidfd_open(pid)
    await pool.transcribe(Transcribe(quiet, "small"))
    await pool.transcribe(Transcribe(quiet, "other"))
    await asyncio.wait_for(readable(end), PATIENCE)
    os.close(end)
    assert said(told) == ["large needed", "small needed", "large memory", "other needed"]


async def test_what_is_at_work_is_waited_for(make: Make, quiet: str, trap: Path, told: list[LoadChange]) -> None:
    pool = await make(2, memory=100)
    busy = asyncio.create_task(pool.transcribe(Transcribe(str(trap), "large", raw=RAW)))
    writer = await opened(trap)
    waiting = asyncio.create_task(pool.transcribe(Transcribe(quiet, "other")))
    behind = asyncio.create_task(pool.transcribe(Transcribe(quiet, "small")))
    await asyncio.sleep(0)
    assert said(told) == ["large needed"]
    os.close(writer)
    with pytest.raises(AudioError, match="empty"):
        await busy
    await asyncio.gather(waiting, behind)
    assert said(told) == ["large needed", "large memory", "other needed", "small needed"]


async def test_who_gives_up_waiting_for_memory_lets_the_next_pass(
    make: Make, quiet: str, trap: Path, told: list[LoadChange]
) -> None:
    pool = await make(2, memory=100)
    busy = asyncio.create_task(pool.transcribe(Transcribe(str(trap), "large", raw=RAW)))
    writer = await opened(trap)
    waiting = asyncio.create_task(pool.transcribe(Transcribe(quiet, "other")))
    behind = asyncio.create_task(pool.transcribe(Transcribe(quiet, "small")))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait_for(behind, PATIENCE)
    assert said(told) == ["large needed", "small needed"]
    os.close(writer)
    with pytest.raises(AudioError, match="empty"):
        await busy


async def test_a_recogniser_larger_than_all_memory_fails_its_own_job_and_no_other(make: Make, quiet: str) -> None:
    pool = await make(memory=50)
    huge = pool.transcribe(Transcribe(quiet, "large"))
    small = pool.transcribe(Transcribe(quiet, "small"))
    outcomes = await asyncio.gather(huge, small, return_exceptions=True)
    assert isinstance(outcomes[0], RecogniserUnavailable)
    assert f"'large' needs {90 * GIB} bytes" in str(outcomes[0])
    assert not isinstance(outcomes[1], BaseException)


async def test_a_job_whose_recogniser_is_too_large_ends_with_that_reason(make: Make, quiet: str) -> None:
    metrics = JobMetrics(CollectorRegistry(), workers=1)
    recognition = Recognition(await make(memory=50), metrics, max_seconds=PATIENCE)
    failed = await recognition.attempt(Request("id", "deepgram", "nova-3", recogniser="large"), Path(quiet))
    assert isinstance(failed, Failed)
    assert failed.code is FailureCode.INTERNAL
    assert f"'large' needs {90 * GIB} bytes of memory" in failed.message


async def test_a_model_that_cannot_be_loaded_is_said_without_its_path(
    make: Make, quiet: str, tmp_path: Path, told: list[LoadChange]
) -> None:
    for file in ("config.json", "model.bin", "tokenizer.json", "vocabulary.json"):
        (tmp_path / file).write_text("{}")
    pool = await make(worker=WORKER, broken=Spec(model=str(tmp_path), name="broken"))
    for _ in range(2):
        with pytest.raises(
            RecogniserUnavailable, match="'broken' cannot be loaded; the engine's log says why"
        ) as error:
            await pool.transcribe(Transcribe(quiet, "broken"))
        assert str(tmp_path) not in str(error.value)
    await pool.transcribe(Transcribe(quiet, "small"))
    assert len(hearers()) == 1


async def test_a_recogniser_that_is_no_longer_configured_is_said(make: Make, quiet: str) -> None:
    pool = await make()
    with pytest.raises(RecogniserUnavailable, match="'former' is no longer configured"):
        await pool.transcribe(Transcribe(quiet, "former"))


async def test_who_asks_hears_how_far_it_is(make: Make) -> None:
    pool = await make()
    heard: list[float] = []
    transcript = await pool.transcribe(Transcribe(str(DEMO), "small"), lambda seconds, _: heard.append(seconds))
    assert heard
    assert heard == sorted(heard)
    assert heard[-1] <= transcript.duration
    assert (await pool.probe(str(CLIPS / "stereo.flac"))).channels == 2


def test_the_engine_itself_never_loads_what_only_its_workers_need() -> None:
    heavy = "{'faster_whisper', 'ctranslate2', 'onnxruntime', 'huggingface_hub', 'numpy'}"
    code = f"import sys, engine.app.daemon, engine.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_worker_never_loads_what_only_the_engine_needs() -> None:
    code = "import sys, engine.recognisers.workers.worker; print({'aiohttp', 'asyncio', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "set()"


async def test_what_is_kept_is_loaded_before_there_is_work_and_stays(quiet: str, told: list[LoadChange]) -> None:
    rested = asyncio.Event()

    def tell(moved: LoadChange) -> None:
        told.append(moved)
        if moved.why == "idle":
            rested.set()

    pool = TranscriptionPool(2, RECOGNISERS, idle_seconds=0.05, keep=["small"], tell=tell, worker=MODULE)
    await pool.start()
    await pool.load()
    assert said(told) == ["small needed"]
    await pool.transcribe(Transcribe(quiet, "small"))
    await pool.transcribe(Transcribe(quiet, "other"))
    await asyncio.wait_for(rested.wait(), PATIENCE)
    assert said(told) == ["small needed", "other needed", "other idle"]
    await pool.stop()


async def test_what_is_kept_and_cannot_be_loaded_is_said_at_once(tmp_path: Path) -> None:
    pool = TranscriptionPool(1, {"broken": Spec(model=str(tmp_path), name="broken")}, keep=["broken"])
    await pool.start()
    with pytest.raises(RecogniserUnavailable, match="'broken' cannot be loaded"):
        await pool.load()
    await pool.stop()


async def test_what_a_process_took_at_its_peak_is_what_counts(quiet: str, told: list[LoadChange]) -> None:
    expected = 1024**2
    budget = MemoryBudget(2 * 1024**2)
    pool = TranscriptionPool(
        2,
        {name: replace(TINY, memory=expected) for name in ("one", "two")},
        budget=budget,
        tell=told.append,
        worker=MODULE,
    )
    await pool.start()
    await pool.transcribe(Transcribe(quiet, "one"))
    assert budget.used == 2 * expected, "all that there is, because it takes more"
    await pool.transcribe(Transcribe(quiet, "two"))
    assert [(one.recogniser, one.memory, one.why) for one in told] == [
        ("one", expected, "needed"),
        ("one", 2 * expected, "memory"),
        ("two", expected, "needed"),
    ]
    await pool.stop()


async def test_what_others_hold_is_unloaded_with_their_consent_when_it_is_idle(
    quiet: str, told: list[LoadChange]
) -> None:
    budget = MemoryBudget(100 * GIB)
    pool = TranscriptionPool(1, RECOGNISERS, budget=budget, tell=told.append, worker=MODULE)
    gave_up = asyncio.Event()

    def unload(why: UnloadReason) -> Coroutine[Any, Any, Any]:
        gave_up.set()
        return asyncio.sleep(0)

    live = budget.hold("live", 60 * GIB, unload)
    assert live
    waiting = asyncio.create_task(pool.transcribe(Transcribe(quiet, "large")))
    await pool.probe(str(DEMO))
    assert not gave_up.is_set(), "it is at work"
    live.busy = False
    budget.changed()
    await waiting
    assert gave_up.is_set()
    assert said(told) == ["large needed"]
    await pool.stop()
