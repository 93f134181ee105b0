"""Live sessions in real worker processes: places, backpressure, ends of every kind, and real speech."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine.recognisers.pocketsphinx import PocketSphinx

from engine.audio.decode import decode
from engine.errors import Busy, RecogniserUnavailable, WorkerDied
from engine.events import Broken, Final, Finished, LiveEvent, LiveOptions, Partial, SpeechStarted
from engine.recognisers.base import Options
from engine.recognisers.workers.live_pool import LivePool, PooledRecognition
from engine.request import FailureCode, RawFormat
from tests.engine.audio.encoding import DEMO, STEREO, encode
from tests.engine.recognisers.whisper.standin import DYING, GOOD, HANGING, MISSING, MODEL, MODULE

RAW = RawFormat("pcm_s16le", 16000, 1)
OPTIONS = LiveOptions(raw=RAW, interim=True, endpointing=0.3)
STANDINS = {"good": GOOD, "dying": DYING, "hanging": HANGING, "missing": MISSING}
SECOND = 32000
SILENCE = bytes(SECOND)


def sound(path: Path = DEMO) -> bytes:
    with decode(path, split=False) as audio:
        return b"".join(block for (block,) in audio)


@asynccontextmanager
async def listening(workers: int = 1, sessions: int = 4, **options: Any) -> AsyncIterator[LivePool]:
    pool = LivePool(STANDINS, workers=workers, sessions=sessions, worker=MODULE, **options)
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
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    pids = {int(pid) for task in tasks for pid in _read(task / "children").split()}
    return {pid for pid in pids if b"live_worker" in _read(Path(f"/proc/{pid}/cmdline"))}


def _read(entry: Path) -> bytes:
    """Nothing, of a thread or a process that is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return entry.read_bytes()
    return b""


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
    assert told[0] == told[1] == told[2] == told[3]


async def test_sessions_are_spread_over_the_processes() -> None:
    async with listening(workers=2) as pool:
        for _ in range(2):
            await pool.open("good", OPTIONS)
        one, other = workers()
        os.kill(one, signal.SIGKILL)
        os.kill(other, 0)


async def test_beyond_the_bound_a_session_is_turned_away_until_a_place_is_free() -> None:
    async with listening(sessions=2) as pool:
        first, second = [await pool.open("good", OPTIONS) for _ in range(2)]
        with pytest.raises(Busy, match="2 live sessions are under way"):
            await pool.open("good", OPTIONS)
        await first.close()
        third = await pool.open("good", OPTIONS)
        assert isinstance((await listened(second, SILENCE))[-1], Finished)
        assert isinstance((await listened(third, SILENCE))[-1], Finished)
        assert pool.count == 0


async def test_finalizing_is_answered_while_the_session_goes_on() -> None:
    async with listening() as pool:
        recognition = await pool.open("good", OPTIONS)
        await recognition.push(SILENCE)
        await recognition.finalize()
        told = recognition.__aiter__()
        assert await anext(told) == Final(0, 0.99, 0.0, (), from_finalize=True)
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


async def test_a_worker_that_hangs_is_ended() -> None:
    async with listening(stall_seconds=0.3) as pool:
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


@asynccontextmanager
async def pocketsphinx() -> AsyncIterator[LivePool]:
    pool = LivePool({"small": TINY})
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


async def test_speech_is_guessed_at_within_a_second_and_understood_when_it_is_over() -> None:
    options = LiveOptions(raw=RAW, interim=True, vad_events=True, endpointing=0.01)
    async with pocketsphinx() as pool:
        told = await listened(await pool.open("small", options), sound()[: int(3.4 * SECOND)])
    started, partial = (next(one for one in told if isinstance(one, kind)) for kind in (SpeechStarted, Partial))
    assert isinstance(started, SpeechStarted)
    assert isinstance(partial, Partial)
    assert partial.start + partial.duration - started.at < 1.0
    assert [text([final]) for final in finals(told)] == ["good morning and thank you for calling"]


async def test_each_channel_is_understood_by_itself_word_for_word_as_in_a_file(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.wav", "pcm_s16le", clip=STEREO, layout="stereo")
    with decode(path, split=True) as audio:
        channels = PocketSphinx().transcribe(audio, Options()).channels
    async with pocketsphinx() as pool:
        recognition = await pool.open("small", LiveOptions(multichannel=True))
        told = await listened(recognition, path.read_bytes())
    for number, channel in enumerate(channels):
        assert tuple(word for final in finals(told, number) for word in final.words) == channel.words
    assert recognition.channels == 2


class Purse:
    """So many bytes, and no more."""

    def __init__(self, left: int) -> None:
        self.left = left

    def reserve(self, recogniser: str, memory: int) -> bool:
        fits = memory <= self.left
        self.left -= memory if fits else 0
        return fits

    async def cleared(self) -> None:
        """Nothing had to go."""

    def release(self, memory: int) -> None:
        self.left += memory


async def test_a_recogniser_for_which_there_is_no_memory_turns_its_sessions_away() -> None:
    purse = Purse(100)
    recognisers = {"small": replace(GOOD, memory=60), "other": replace(GOOD, memory=50, beam_size=1)}
    pool = LivePool(recognisers, memory=purse, worker=MODULE)
    await pool.start()
    first = await pool.open("small", OPTIONS)
    second = await pool.open("small", OPTIONS)
    assert purse.left == 40
    with pytest.raises(Busy, match="no 50 bytes of memory"):
        await pool.open("other", OPTIONS)
    await first.close()
    pool.spare()
    assert purse.left == 40  # somebody is heard still
    (pid,) = workers()
    async with gone(pid):
        await second.close()
        pool.spare()
    assert purse.left == 100
    assert isinstance((await listened(await pool.open("other", OPTIONS), SILENCE))[-1], Finished)
    await pool.stop()
    assert purse.left == 100
