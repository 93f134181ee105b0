"""Worker processes, and whose turn it is.

Recognition is native code that holds the interpreter for seconds: in processes of its own, the event loop stays free.
Probing has its own process, so that an upload never waits for a transcription.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from engine.audio.decode import MAX_SECONDS, AudioInfo
from engine.errors import AudioError, WorkerDied
from engine.recognisers import wire
from engine.recognisers.base import Options, Spec
from engine.request import RawFormat
from engine.transcript import Transcript

PROBE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Transcribe:
    """One piece of work: the file at `path`, heard by a recogniser, mixed to one channel or `split` into its own."""

    path: str
    recogniser: str
    split: bool = False
    raw: RawFormat | None = None
    options: Options = field(default_factory=Options)


class Pool:
    """`size` workers that recognise and `probers` that only look. Work waits its turn, first come, first served.

    A worker that dies, or whose caller goes away, is replaced; nothing else notices.
    """

    def __init__(
        self,
        size: int,
        recognisers: Mapping[str, Spec],
        probers: int = 1,
        *,
        probe_seconds: float = PROBE_SECONDS,
        max_seconds: float = MAX_SECONDS,
    ) -> None:
        self._recognisers = dict(recognisers)
        # Niced, because on a small machine the loop must win the core the moment a packet comes; probing is a caller
        # waiting for an answer, and is not.
        self._hearing = _Lane(size, "--nice")
        self._looking = _Lane(probers)
        self._probe_seconds = probe_seconds
        self._max_seconds = max_seconds

    async def start(self) -> None:
        """Start the processes; a recogniser is loaded by the first task that needs it."""
        await asyncio.gather(self._hearing.start(), self._looking.start())

    async def stop(self) -> None:
        """Kill the processes and wait for their end. Work in progress ends with WorkerDied."""
        await asyncio.gather(self._hearing.stop(), self._looking.stop())

    async def transcribe(self, task: Transcribe) -> Transcript:
        """Raises AudioError for audio that cannot be used, WorkerDied when the process ended in the middle."""
        spec = self._recognisers[task.recogniser]
        hear = wire.Hear(task.path, task.raw, task.split, spec, task.options, self._max_seconds)
        answer = await self._hearing.ask(hear)
        assert isinstance(answer, Transcript)
        return answer

    async def probe(self, path: str, raw: RawFormat | None = None) -> AudioInfo:
        """Raises AudioError for audio that cannot be decoded, or not in time; WorkerDied as `transcribe` does."""
        try:
            answer = await self._looking.ask(wire.Look(path, raw), self._probe_seconds)
        except TimeoutError:
            message = f"the audio could not be read within {self._probe_seconds:g} seconds; send it in another format"
            raise AudioError(message) from None
        assert isinstance(answer, AudioInfo)
        return answer


class _Lane:
    """Workers of one sort, and the queue of those that are idle."""

    def __init__(self, size: int, *arguments: str) -> None:
        self._workers = [_Worker(arguments) for _ in range(size)]
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()

    async def start(self) -> None:
        await asyncio.gather(*(worker.start() for worker in self._workers))
        for worker in self._workers:
            self._idle.put_nowait(worker)

    async def stop(self) -> None:
        await asyncio.gather(*(worker.stop() for worker in self._workers))

    async def ask(self, task: wire.Task, seconds: float | None = None) -> Transcript | AudioInfo:
        """Wait for a turn, however long; then at most `seconds` for the answer."""
        worker = await self._idle.get()
        try:
            async with asyncio.timeout(seconds):
                answer = await worker.ask(task)
        finally:
            self._idle.put_nowait(worker)
        if isinstance(answer, wire.Unusable):
            raise AudioError(answer.message)
        return answer


class _Worker:
    """One seat: a process at a time, replaced when it is gone."""

    def __init__(self, arguments: tuple[str, ...]) -> None:
        self._arguments = arguments
        self._process: Process | None = None
        self._ending: set[asyncio.Task[int]] = set()
        self._stopped = False

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "engine.recognisers.worker", *self._arguments, stdin=PIPE, stdout=PIPE
        )

    async def stop(self) -> None:
        self._stopped = True
        self._kill()
        await asyncio.gather(*self._ending)

    async def ask(self, task: wire.Task) -> wire.Answer:
        """Anything but an answer, cancellation included, costs the process its life: it may be in any state."""
        try:
            return await self._exchange(task)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self._kill()
            raise WorkerDied("the worker process ended in the middle of its work") from error
        except BaseException:
            self._kill()
            raise

    async def _exchange(self, task: wire.Task) -> wire.Answer:
        process = await self._living()
        assert process.stdin and process.stdout
        process.stdin.write(wire.pack_task(task))
        await process.stdin.drain()
        head = await process.stdout.readexactly(wire.HEAD_BYTES)
        body = await process.stdout.readexactly(wire.body_bytes(head))
        return await asyncio.to_thread(wire.unpack_answer, body)  # megabytes for hours of audio

    async def _living(self) -> Process:
        if self._stopped:
            raise WorkerDied("the workers were stopped")
        if self._process and _ended(self._process):
            self._kill()  # it died while it was idle, and nobody's work with it
        if self._process is None:
            await self.start()
        assert self._process
        return self._process

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        ending = asyncio.create_task(process.wait())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


def _ended(process: Process) -> bool:
    """Ask the kernel, because the event loop may not have heard of it yet; the child is left for the loop to reap."""
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
