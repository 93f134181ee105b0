"""Live sessions in real worker processes: places, turns, lag, backpressure, ends of every kind, and real speech."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.audio.decode import decode
from engine.errors import Busy, RecogniserUnavailable, WorkerDied
from engine.events import Broken, Final, Finished, LiveEvent, LiveOptions, Partial, SpeechStarted
from engine.recognisers.whisper.live_session import MAX_WAITING_SECONDS
from engine.recognisers.workers.live_pool import NICENESS, LivePool
from engine.recognisers.workers.live_recognition import PassMade, PooledRecognition
from engine.recognisers.workers.memory import MemoryBudget
from engine.recognisers.workers.worker import NICENESS as RECORDED_NICENESS
from engine.request import FailureCode, RawFormat
from tests.clips import clip
from tests.engine.audio.encoding import DEMO, STEREO, encode
from tests.engine.processes import children, command
from tests.engine.recognisers.tiny import TINY
from tests.engine.recognisers.whisper.standin import DYING, GOOD, HANGING, MISSING, MODEL, MODULE, held

pytestmark = pytest.mark.acceptance

RAW = RawFormat("pcm_s16le", 16000, 1)
OPTIONS = LiveOptions(raw=RAW, interim=True, endpointing=0.3)
STANDINS = {"good": GOOD, "dying": DYING, "hanging": HANGING, "missing": MISSING}
SECOND = 32000
SILENCE = bytes(SECOND)


def sound(path: Path = DEMO) -> bytes:
    with decode(path, split=False) as audio:
        return b"".join(block for (block,) in audio)


@asynccontextmanager
async def listening(recognisers: Any = None, **options: Any) -> AsyncIterator[LivePool]:
    pool = LivePool(recognisers or STANDINS, worker=MODULE, **options)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


async def heard(recognition: PooledRecognition) -> list[LiveEvent]:
    return [one async for one in recognition]


async def listened(recognition: PooledRecognition, data: bytes, size: int = 3200) -> list[LiveEvent]:
    """All that is heard of the data."""

    async def push() -> None:
        for start in range(0, len(data), size):
            await recognition.push(data[start : start + size])
        await recognition.finish()

    pushing = asyncio.create_task(push())
    told = await heard(recognition)
    await pushing
    return told


def workers() -> set[int]:
    """The processes that listen for this one."""
    return {pid for pid in children() if MODULE.encode() in command(pid)}


@asynccontextmanager
async def gone(pid: int) -> AsyncIterator[None]:
    """Wait at the end until the process is."""
    ended, loop, descriptor = asyncio.Event(), asyncio.get_running_loop(), os.pidfd_open(pid)
    loop.add_reader(descriptor, ended.set)
    try:
        yield
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


@contextmanager
def locked(lock: Path) -> Iterator[None]:
    """While it is, the recogniser that is held hears nothing that is over."""
    lock.touch()
    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


async def until(condition: Any) -> None:
    """Let the loop turn until it is so."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def finals(told: list[LiveEvent], channel: int = 0) -> list[Final]:
    return [one for one in told if isinstance(one, Final) and one.channel == channel]


def text(finals: list[Final]) -> str:
    return " ".join(word.text for final in finals for word in final.words)


async def test_a_session_is_heard_to_its_end_and_says_what_it_was_given() -> None:
    data = sound()
    async with listening() as pool:
        recognition = await pool.open("good", OPTIONS)
        told = await listened(recognition, data)
    assert told[-1] == Finished(11.12, 1, hashlib.sha256(data).hexdigest())
    assert len(finals(told)) == 3
    assert (recognition.model, recognition.duration, recognition.channels) == (MODEL, 11.12, 1)


async def test_sessions_in_one_process_are_heard_side_by_side() -> None:
    data = sound()
    async with listening() as pool:
        recognitions = [await pool.open("good", OPTIONS) for _ in range(4)]
        told = await asyncio.gather(*(listened(recognition, data) for recognition in recognitions))
        assert len(workers()) == 1
    one, *others = ([event for event in events if not isinstance(event, Partial)] for events in told)
    assert all(other == one for other in others)


async def test_sessions_are_spread_over_the_processes() -> None:
    async with listening(workers=2) as pool:
        for _ in range(2):
            await pool.open("good", OPTIONS)
        one, other = workers()
        os.kill(one, signal.SIGKILL)
        os.kill(other, 0)


async def test_finalizing_is_answered_while_the_session_goes_on() -> None:
    async with listening() as pool:
        recognition = await pool.open("good", OPTIONS)
        await recognition.push(SILENCE)
        await recognition.finalize()
        told = recognition.__aiter__()
        assert await anext(told) == Final(0, 0.992, 0.0, (), from_finalize=True)
        assert isinstance((await listened(recognition, sound()))[-1], Finished)


async def test_finalizing_before_any_audio_is_answered() -> None:
    async with listening() as pool:
        recognition = await pool.open("good", LiveOptions(multichannel=True))
        await recognition.finalize()
        await recognition.finish()
        assert [type(one) for one in await heard(recognition)] == [Final, Finished]


async def test_audio_that_is_none_breaks_its_session_with_a_reason_for_the_caller() -> None:
    async with listening() as pool:
        recognition = await pool.open("good", LiveOptions())
        (told,) = await listened(recognition, b"no audio at all" * 1000)
        assert isinstance(told, Broken)
        assert (told.code, "corrupt" in told.message) == (FailureCode.AUDIO, True)
        assert pool.count == 0


async def test_a_session_longer_than_it_may_be_is_broken() -> None:
    async with listening(max_seconds=5) as pool:
        told = await listened(await pool.open("good", OPTIONS), sound())
        assert isinstance(told[-1], Broken)
        assert "longer than 5 seconds" in told[-1].message


async def test_a_caller_faster_than_the_recogniser_has_to_wait() -> None:
    async with listening() as pool:
        recognition = await pool.open("good", OPTIONS)
        (pid,) = workers()
        os.kill(pid, signal.SIGSTOP)
        pushing = asyncio.create_task(recognition.push(bytes(2 * 1024**2)))
        done, _ = await asyncio.wait({pushing}, timeout=0.2)
        assert not done
        os.kill(pid, signal.SIGCONT)
        await pushing
        await recognition.finish()
        assert isinstance((await heard(recognition))[-1], Finished)


async def test_closing_ends_the_iteration_and_frees_whoever_waits() -> None:
    async with listening() as pool:
        recognition = await pool.open("good", OPTIONS)
        (pid,) = workers()
        os.kill(pid, signal.SIGSTOP)
        pushing = asyncio.create_task(recognition.push(bytes(2 * 1024**2)))
        reading = asyncio.create_task(heard(recognition))
        await asyncio.wait({pushing}, timeout=0.1)
        await recognition.close()
        await pushing
        assert await reading == []
        os.kill(pid, signal.SIGCONT)


async def test_a_worker_that_dies_breaks_its_sessions_and_the_next_has_another() -> None:
    async with listening() as pool:
        bystander, dying = await pool.open("good", OPTIONS), await pool.open("dying", OPTIONS)
        told = await listened(dying, sound())
        assert isinstance(told[-1], Broken)
        assert told[-1].code is FailureCode.INTERNAL
        (other,) = await heard(bystander)
        assert isinstance(other, Broken)
        assert pool.count == 0
        assert isinstance((await listened(await pool.open("good", OPTIONS), sound()))[-1], Finished)


async def test_a_worker_dies_without_the_sessions_of_another() -> None:
    async with listening(workers=2) as pool:
        dying, bystander = await pool.open("dying", OPTIONS), await pool.open("good", OPTIONS)
        assert isinstance((await listened(dying, sound()))[-1], Broken)
        assert isinstance((await listened(bystander, sound()))[-1], Finished)


async def test_a_worker_with_a_pass_that_does_not_end_is_ended_though_it_takes_audio_in() -> None:
    async with listening(stall_seconds=0.3, passes=2) as pool:
        recognition = await pool.open("hanging", OPTIONS)
        data = sound()
        pushing = asyncio.create_task(recognition.push(data + data))
        assert isinstance((await heard(recognition))[-1], Broken)
        await pushing


async def test_a_worker_with_nothing_to_do_is_not_taken_for_hung() -> None:
    async with listening(stall_seconds=0.1) as pool:
        recognition = await pool.open("good", OPTIONS)
        await recognition.push(SILENCE)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await anext(recognition.__aiter__())
        assert isinstance((await listened(recognition, SILENCE))[-1], Finished)


async def test_a_recogniser_that_cannot_be_loaded_takes_no_place() -> None:
    async with listening() as pool:
        for name in ("missing", "unknown"):
            with pytest.raises(RecogniserUnavailable):
                await pool.open(name, OPTIONS)
        assert pool.count == 0


async def test_a_process_without_sessions_is_ended_after_a_while_and_started_again() -> None:
    async with listening(idle_seconds=0) as pool:
        (before,) = workers()
        recognition = await pool.open("good", OPTIONS)
        async with gone(before):
            await recognition.close()
        assert isinstance((await listened(await pool.open("good", OPTIONS), SILENCE))[-1], Finished)


async def test_stopping_breaks_what_is_under_way() -> None:
    async with listening() as pool:
        recognition = await pool.open("good", OPTIONS)
        await pool.stop()
        (told,) = await heard(recognition)
        assert isinstance(told, Broken)
        with pytest.raises(WorkerDied):
            await pool.open("good", OPTIONS)
        assert workers() == set()


async def test_audio_that_is_over_and_waits_is_the_lag_and_every_pass_says_how_late_it_was(tmp_path: Path) -> None:
    made: list[PassMade] = []
    recognisers = {"held": held(tmp_path / "lock")}
    async with listening(recognisers=recognisers, tell=made.append) as pool:
        with locked(tmp_path / "lock"):
            recognition = await pool.open("held", replace(OPTIONS, interim=False))
            assert recognition.lag == 0.0
            told = asyncio.create_task(listened(recognition, sound()))
            await until(lambda: recognition.duration > 11)  # all of it was taken in
            await until(lambda: recognition.lag > 0.5)  # a worker that says nothing for a moment is less
            waited = recognition.lag
            assert made == []
        await told
        assert recognition.lag == 0.0
    assert [(one.recogniser, one.record.final) for one in made] == [("held", True)] * 3
    assert max(one.lag or 0.0 for one in made) >= waited


async def test_a_worker_that_stands_still_is_lag_too() -> None:
    async with listening() as pool:
        recognition = await pool.open("good", OPTIONS)
        (pid,) = workers()
        os.kill(pid, signal.SIGSTOP)
        await recognition.push(SILENCE)
        await until(lambda: recognition.lag > 0)
        before = recognition.lag
        await until(lambda: recognition.lag > before)
        os.kill(pid, signal.SIGCONT)
        await until(lambda: recognition.lag == 0.0)


async def test_one_who_waits_keeps_nobody_else_waiting_while_there_is_another_pass(tmp_path: Path) -> None:
    recognisers = {"held": held(tmp_path / "lock"), "good": GOOD}
    async with listening(recognisers=recognisers, passes=2) as pool:
        with locked(tmp_path / "lock"):
            waiting = await pool.open("held", OPTIONS)
            told = asyncio.create_task(listened(waiting, sound()))
            await until(lambda: waiting.lag > 0)
            assert isinstance((await listened(await pool.open("good", OPTIONS), sound()))[-1], Finished)
            assert not told.done()
        assert len(finals(await told)) == 3


async def test_what_is_heard_late_is_taken_in_up_to_a_bound_and_then_its_caller_waits(tmp_path: Path) -> None:
    async with listening(recognisers={"held": held(tmp_path / "lock")}) as pool:
        with locked(tmp_path / "lock"):
            recognition = await pool.open("held", replace(OPTIONS, interim=False))
            told = asyncio.create_task(listened(recognition, sound() * 10))
            await until(lambda: recognition.duration > MAX_WAITING_SECONDS)
            done, _ = await asyncio.wait({told}, timeout=0.2)
            assert not done
            assert recognition.duration < MAX_WAITING_SECONDS + 15
        assert len(finals(await told)) == 30


async def test_a_caller_in_a_hurry_is_not_late_before_his_speech_would_be_over(tmp_path: Path) -> None:
    async with listening(recognisers={"held": held(tmp_path / "lock")}) as pool:
        with locked(tmp_path / "lock"):
            recognition = await pool.open("held", replace(OPTIONS, interim=False))
            await recognition.push(bytes(6 * SECOND) + sound())
            await until(lambda: recognition.duration > 15)
            await until(lambda: recognition.lag == 0.0)  # once all of it was taken in


async def test_live_workers_come_before_those_that_hear_what_was_recorded() -> None:
    async with listening():
        (pid,) = workers()
        # The process is nice to the loop as soon as it has read its arguments.
        await until(lambda: os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
    assert NICENESS < RECORDED_NICENESS


async def test_a_recogniser_is_measured_and_nothing_of_it_stays() -> None:
    async with listening() as pool:
        (before,) = workers()
        async with gone(before):
            costs = await pool.measure("good")
        assert costs.final > 0
        assert costs.interim > 0
        assert len(workers()) == 1
        assert pool.count == 0


async def test_measuring_leaves_sessions_alone() -> None:
    async with listening() as pool:
        recognition = await pool.open("good", OPTIONS)
        await pool.measure("good")
        assert isinstance((await listened(recognition, SILENCE))[-1], Finished)


@pytest.mark.parametrize(
    ("name", "error"), [("missing", RecogniserUnavailable), ("unknown", RecogniserUnavailable), ("dying", WorkerDied)]
)
async def test_what_cannot_be_loaded_or_dies_cannot_be_measured(name: str, error: type[Exception]) -> None:
    async with listening() as pool:
        with pytest.raises(error):
            await pool.measure(name)
        assert isinstance((await listened(await pool.open("good", OPTIONS), SILENCE))[-1], Finished)


async def test_a_recogniser_for_which_there_is_no_memory_refuses_its_sessions() -> None:
    budget = MemoryBudget(2**34)
    recognisers = {"small": replace(GOOD, memory=2**33), "other": replace(GOOD, memory=3 * 2**32, beam_size=1)}
    async with listening(recognisers=recognisers, budget=budget) as pool:
        first = await pool.open("small", OPTIONS)
        with pytest.raises(Busy, match="bytes of memory") as refused:
            await pool.open("other", OPTIONS)
        assert refused.value.reason == "memory"
        await first.close()
        assert isinstance((await listened(await pool.open("other", OPTIONS), SILENCE))[-1], Finished)
        assert budget.loaded == ("other",)


@asynccontextmanager
async def whisper() -> AsyncIterator[LivePool]:
    pool = LivePool({"tiny": TINY}, passes=2)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


async def listened_in_two(recognition: PooledRecognition, data: bytes) -> list[LiveEvent]:
    """All that is heard of the data, whose second half comes once there is an interim result of the first."""
    await recognition.push(data[: len(data) // 2])
    told: list[LiveEvent] = []
    async for event in recognition:
        if isinstance(event, Partial) and not any(isinstance(one, Partial) for one in told):
            await recognition.push(data[len(data) // 2 :])
            await recognition.finish()
        told.append(event)
    return told


async def test_real_speech_is_guessed_at_and_understood_by_channel_when_it_is_over(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.wav", "pcm_s16le", clip=STEREO, layout="stereo")
    options = LiveOptions(multichannel=True, interim=True, vad_events=True, endpointing=0.3)
    async with whisper() as pool:
        recognition = await pool.open("tiny", options)
        told = await listened_in_two(recognition, path.read_bytes())
    assert recognition.channels == 2
    assert recognition.model.arch == "whisper"
    assert {type(event) for event in told} >= {SpeechStarted, Partial, Final, Finished}
    said = [line.text.lower().rstrip(".") for line in clip("stereo").lines]
    assert [text(finals(told, channel)) for channel in (0, 1)] == said
