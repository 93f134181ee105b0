"""Real worker processes: what they answer, how they end, and that the event loop never waits for them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.audio.decode import AudioInfo
from engine.errors import AudioError, WorkerDied
from engine.recognisers.base import RecognitionOptions, Spec
from engine.recognisers.workers import wire
from engine.recognisers.workers.pool import Transcribe, TranscriptionPool
from engine.request import RawFormat, SpeakerBounds
from engine.transcript import Channel, Gap, GapReason, Model, Segment, Transcript, Word
from tests.engine.audio.encoding import CLIPS, DEMO, STEREO
from tests.engine.processes import children, command
from tests.engine.recognisers.tiny import TINY

RECOGNISERS = {"small": TINY}

pytestmark = pytest.mark.acceptance


@pytest.fixture
async def pool() -> AsyncIterator[TranscriptionPool]:
    """One worker, one prober."""
    pool = TranscriptionPool(1, RECOGNISERS)
    yield pool
    await pool.stop()


@pytest.fixture
async def fifo(tmp_path: Path) -> AsyncIterator[Path]:
    """A file that whoever opens it waits on, for as long as the test wants: nothing is ever written to it."""
    path = tmp_path / "endless"
    os.mkfifo(path)
    yield path


async def opened(fifo: Path) -> int:
    """Wait until somebody reads from the fifo: opening it to write blocks until then."""
    return await asyncio.to_thread(os.open, fifo, os.O_WRONLY)


def workers() -> set[int]:
    """The worker processes of this process."""
    return {pid for pid in children() if b"recognisers.workers." in command(pid)}


def hearing() -> int:
    """The one worker that recognises."""
    (pid,) = (pid for pid in workers() if b"--nice" in command(pid))
    return pid


def text(channel: Channel) -> str:
    return " ".join(word.text for word in channel.words)


RAW = RawFormat("pcm_mulaw", 8000, 1)


async def test_a_transcript_and_a_probe_come_back_whole(pool: TranscriptionPool) -> None:
    transcript, info = await asyncio.gather(
        pool.transcribe(Transcribe(str(STEREO), "small", split=True)), pool.probe(str(STEREO))
    )
    assert [text(channel) for channel in transcript.channels] == [
        "he asked her to call him back in the morning",
        "i would like to send this letter to my brother in the city",
    ]
    assert transcript.model.name == "tiny.en"
    assert info == AudioInfo(138695 / 44100, channels=2, sample_rate=44100, codec="flac", container="flac")


async def test_unusable_audio_is_told_to_the_caller_and_the_worker_lives_on(pool: TranscriptionPool) -> None:
    seen = []
    for _ in range(2):
        with pytest.raises(AudioError, match="corrupt"):
            await pool.transcribe(Transcribe(str(CLIPS / "demo.txt"), "small"))
        with pytest.raises(AudioError, match="corrupt"):
            await pool.probe(str(CLIPS / "demo.txt"))
        seen.append(workers())
    assert seen[0] == seen[1]
    assert len(seen[0]) == 2


async def test_the_limit_on_seconds_reaches_the_worker() -> None:
    pool = TranscriptionPool(1, RECOGNISERS, max_seconds=0.36)
    with pytest.raises(AudioError, match=r"longer than 0\.36 seconds"):
        await pool.transcribe(Transcribe(str(DEMO), "small"))
    await pool.stop()


async def test_a_worker_killed_in_the_middle_is_told_and_replaced(pool: TranscriptionPool, fifo: Path) -> None:
    task = asyncio.create_task(pool.transcribe(Transcribe(str(fifo), "small", raw=RAW)))
    writer = await opened(fifo)
    os.kill(hearing(), signal.SIGKILL)
    with pytest.raises(WorkerDied):
        await task
    os.close(writer)
    with pytest.raises(AudioError, match="corrupt"):
        await pool.transcribe(Transcribe(str(CLIPS / "demo.txt"), "small"))


async def test_a_bug_in_the_worker_is_a_death_and_not_a_verdict_on_the_audio(pool: TranscriptionPool) -> None:
    with pytest.raises(WorkerDied):
        await pool.transcribe(Transcribe("/nowhere/at/all", "small"))


async def test_a_worker_that_died_idle_is_replaced_unnoticed(pool: TranscriptionPool) -> None:
    for pid in workers():
        end = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        await readable(end)
        os.close(end)
    assert (await pool.probe(str(DEMO))).channels == 1


async def test_a_caller_who_goes_away_frees_the_worker(pool: TranscriptionPool, fifo: Path) -> None:
    task = asyncio.create_task(pool.transcribe(Transcribe(str(fifo), "small", raw=RAW)))
    writer = await opened(fifo)
    busy = hearing()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    os.close(writer)
    with pytest.raises(AudioError, match="corrupt"):
        await pool.transcribe(Transcribe(str(CLIPS / "demo.txt"), "small"))
    assert hearing() != busy


async def test_a_caller_who_gives_up_waiting_loses_only_his_turn(pool: TranscriptionPool, fifo: Path) -> None:
    running = asyncio.create_task(pool.transcribe(Transcribe(str(fifo), "small", raw=RAW)))
    writer = await opened(fifo)
    busy = hearing()
    impatient = asyncio.create_task(pool.transcribe(Transcribe(str(DEMO), "small")))
    patient = asyncio.create_task(pool.transcribe(Transcribe(str(CLIPS / "demo.txt"), "small")))
    await asyncio.sleep(0)
    impatient.cancel()
    os.close(writer)
    with pytest.raises(AudioError, match="empty"):
        await running
    with pytest.raises(AudioError, match="corrupt"):
        await patient
    assert hearing() == busy


async def test_work_is_done_in_the_order_it_came(pool: TranscriptionPool, fifo: Path) -> None:
    order: list[int] = []

    async def refused(number: int) -> None:
        with pytest.raises(AudioError):
            await pool.transcribe(Transcribe(str(fifo if number == 0 else CLIPS / "demo.txt"), "small", raw=None))
        order.append(number)

    tasks = [asyncio.create_task(refused(number)) for number in range(5)]
    os.close(await opened(fifo))
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]


async def test_a_probe_waits_for_no_transcription_and_not_for_ever(fifo: Path, tmp_path: Path) -> None:
    other = tmp_path / "another"
    os.mkfifo(other)
    pool = TranscriptionPool(1, RECOGNISERS, probe_seconds=3)
    running = asyncio.create_task(pool.transcribe(Transcribe(str(fifo), "small")))
    writer = await opened(fifo)
    assert (await pool.probe(str(DEMO))).channels == 1
    with pytest.raises(AudioError, match="within 3 seconds"):
        await pool.probe(str(other))
    assert (await pool.probe(str(DEMO))).channels == 1
    await pool.stop()
    with pytest.raises(WorkerDied):
        await running
    os.close(writer)


async def test_stopping_ends_every_process_and_every_wait(fifo: Path) -> None:
    pool = TranscriptionPool(1, RECOGNISERS)
    running = asyncio.create_task(pool.transcribe(Transcribe(str(fifo), "small")))
    writer = await opened(fifo)
    waiting = asyncio.create_task(pool.transcribe(Transcribe(str(DEMO), "small")))
    await asyncio.sleep(0)
    await pool.stop()
    for task in (running, waiting):
        with pytest.raises(WorkerDied):
            await task
    os.close(writer)
    assert workers() == set()


async def test_the_loop_goes_on_while_two_workers_transcribe() -> None:
    pool = TranscriptionPool(2, RECOGNISERS)
    loop = asyncio.get_running_loop()
    work = asyncio.gather(*(pool.transcribe(Transcribe(str(STEREO), "small")) for _ in range(2)))
    began = turned_at = loop.time()
    longest = 0.0
    while not work.done():
        await asyncio.sleep(0.005)
        longest, turned_at = max(longest, loop.time() - turned_at), loop.time()
    first, second = await work
    await pool.stop()
    assert first == second
    assert longest < (turned_at - began) / 4  # one of these transcribed in the loop would take half of the time, or all


PARENT = """
import asyncio, sys
from engine.recognisers.workers.pool import Transcribe, TranscriptionPool
from tests.engine.recognisers.tiny import TINY
async def main():
    pool = TranscriptionPool(1, {"small": TINY}, keep=["small"])
    await pool.start()
    await pool.transcribe(Transcribe(sys.argv[1], "small"))
asyncio.run(main())
"""


async def test_workers_die_with_their_parent_even_while_busy(fifo: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(fifo)])
    writer = await opened(fifo)
    pids = [int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
    assert len(pids) == 2
    ends = [os.pidfd_open(pid) for pid in pids]
    parent.kill()
    parent.wait()
    for end in ends:
        await asyncio.wait_for(readable(end), 10)
        os.close(end)
    os.close(writer)


async def readable(descriptor: int) -> None:
    """A pidfd is readable once its process has ended."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(descriptor, event.set)
    await event.wait()
    loop.remove_reader(descriptor)


def test_what_libraries_print_does_not_reach_the_pool() -> None:
    noisy = (
        "import os, sys\nfrom engine.recognisers.workers import worker\n"
        "answers = worker.private_stdout()\nprint('noise', flush=True)\nos.write(1, b'more noise')\n"
        "worker.serve(sys.stdin.buffer, answers)\n"
    )
    task = wire.pack_task(wire.ProbeTask(str(DEMO), None))
    done = subprocess.run([sys.executable, "-c", noisy], input=task, capture_output=True, check=True)
    answer = wire.unpack_answer(done.stdout[wire.HEAD_BYTES :])
    assert answer == AudioInfo(11.12, channels=1, sample_rate=16000, codec="flac", container="flac")
    assert done.stderr == b"noise\nmore noise"


TRANSCRIPT = Transcript(
    Model("id", "name", "1", "arch"),
    1.5,
    2,
    (Channel((Segment((Word("it's", 0.1, 0.4, 0.9, "It's"), Word("好", 0.4, 0.5, 0.9, spaced=False))),)), Channel()),
    flaw="Some of the audio is damaged and was left out.",
    gaps=(Gap(0, 0.5, 1.5, GapReason.REPETITIVE),),
)
SWITCHED = replace(
    TRANSCRIPT,
    channels=(Channel((Segment((Word("hola", 0.1, 0.4, 0.9, language="es"),)),), "es", 0.75), Channel(language=None)),
)


ANSWERS = [
    TRANSCRIPT,
    SWITCHED,
    AudioInfo(None, 1, 8000, "g729", "g729"),
    wire.Unusable("empty"),
    wire.Unloadable(),
    wire.ProgressReport(12.5),
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_survive_the_wire(answer: wire.Answer | wire.ProgressReport) -> None:
    packed = wire.pack_answer(answer)
    assert wire.body_bytes(packed[: wire.HEAD_BYTES]) == len(packed) - wire.HEAD_BYTES
    assert wire.unpack_answer(packed[wire.HEAD_BYTES :]) == answer


@pytest.mark.parametrize(
    "task",
    [
        wire.ProbeTask("a", RAW),
        wire.TranscribeTask("a", None, split=True, spec=TINY, options=RecognitionOptions("en", ("Dashwood",))),
        wire.TranscribeTask(
            "a",
            None,
            split=False,
            spec=Spec(model="/m"),
            options=RecognitionOptions(languages=("es",), code_switching=True, speakers=SpeakerBounds(2, 3)),
        ),
    ],
)
def test_tasks_survive_the_wire(task: wire.Task) -> None:
    assert wire.unpack_task(wire.pack_task(task)[wire.HEAD_BYTES :]) == task
