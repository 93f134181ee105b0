"""Worker processes, and whose turn it is.

Recognition is native code that holds the interpreter for seconds: in processes of its own, the event loop stays free.
Probing has its own process, so that an upload never waits for a transcription.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from engine.audio.decode import MAX_SECONDS, AudioInfo
from engine.errors import AudioError, RecogniserUnavailable
from engine.recognisers.base import Progress, RecognitionOptions, Spec
from engine.recognisers.workers import wire
from engine.recognisers.workers.memory import MemoryBudget
from engine.recognisers.workers.process import WORKER, WorkerProcess
from engine.recognisers.workers.scheduler import LoadChange, WorkerScheduler
from engine.request import RawFormat
from engine.transcript import Transcript

PROBE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Transcribe:
    """The file at `path` is transcribed by a recogniser, mixed to one channel or `split` into its own."""

    path: str
    recogniser: str
    split: bool = False
    raw: RawFormat | None = None
    options: RecognitionOptions = field(default_factory=RecognitionOptions)


class TranscriptionPool:
    """At most `size` files are transcribed at once, and `probers` files looked at. Work waits its turn, first come,
    first served.

    A worker that dies, or whose caller goes away, is replaced; nothing else notices. A recogniser is loaded by the
    first task that needs it, or by `load` if it is one of those to `keep`. It is unloaded after `idle_seconds` without
    a task (None: never), or when others need its part of the memory `budget` (None: unlimited). `tell` is told of both.
    """

    def __init__(
        self,
        size: int,
        recognisers: Mapping[str, Spec],
        probers: int = 1,
        *,
        probe_seconds: float = PROBE_SECONDS,
        max_seconds: float = MAX_SECONDS,
        idle_seconds: float | None = None,
        budget: MemoryBudget | None = None,
        keep: Collection[str] = (),
        tell: Callable[[LoadChange], None] = lambda _: None,
        worker: str = WORKER,
    ) -> None:
        self._recognisers = dict(recognisers)
        self._keep = tuple(keep)
        self._scheduler = WorkerScheduler(size, idle_seconds, budget or MemoryBudget(), tell, keep, worker)
        self._looking = _ProbePool(probers, worker)
        self._probe_seconds = probe_seconds
        self._max_seconds = max_seconds

    async def start(self) -> None:
        """Start the processes, where there are recognisers to keep. Else each is started by its first work."""
        if self._keep:
            await asyncio.gather(self._scheduler.start(), self._looking.start())

    async def load(self) -> None:
        """Load the recognisers to keep. Raises RecogniserUnavailable, WorkerDied."""
        await asyncio.gather(*map(self._load, self._keep))

    async def stop(self) -> None:
        """Kill the processes and wait for their end. Work in progress ends with WorkerDied."""
        await asyncio.gather(self._scheduler.stop(), self._looking.stop())

    async def transcribe(self, task: Transcribe, progress: Progress | None = None) -> Transcript:
        """What is said in the file. `progress` is told how many seconds of it are done, about once for each.

        Raises AudioError for audio that cannot be used, RecogniserUnavailable for a recogniser that cannot be loaded,
        WorkerDied when the process ended in the middle.
        """
        spec = self._recognisers.get(task.recogniser)
        if spec is None:
            raise RecogniserUnavailable(f"recogniser {task.recogniser!r} is no longer configured")
        wanted = progress is not None
        work = wire.TranscribeTask(task.path, task.raw, task.split, spec, task.options, self._max_seconds, wanted)
        match await self._scheduler.ask(task.recogniser, work, progress):
            case Transcript() as transcript:
                return transcript
            case wire.Unloadable():
                raise _unloadable(task.recogniser)
            case answer:
                raise AudioError(_reason(answer))

    async def _load(self, recogniser: str) -> None:
        answer = await self._scheduler.ask(recogniser, wire.LoadTask(self._recognisers[recogniser]))
        if isinstance(answer, wire.Unloadable):
            raise _unloadable(recogniser)

    async def probe(self, path: str, raw: RawFormat | None = None) -> AudioInfo:
        """Raises AudioError for audio that cannot be decoded, or not in time; WorkerDied as `transcribe` does."""
        try:
            answer = await self._looking.ask(wire.ProbeTask(path, raw, self._max_seconds), self._probe_seconds)
        except TimeoutError:
            message = f"the audio could not be read within {self._probe_seconds:g} seconds; send it in another format"
            raise AudioError(message) from None
        if isinstance(answer, AudioInfo):
            return answer
        raise AudioError(_reason(answer))


class _ProbePool:
    """Workers that need no recogniser, and the queue of those that are idle."""

    def __init__(self, size: int, worker: str) -> None:
        self._workers = [WorkerProcess(worker) for _ in range(size)]
        self._idle: asyncio.Queue[WorkerProcess] = asyncio.Queue()
        for idle in self._workers:
            self._idle.put_nowait(idle)

    async def start(self) -> None:
        await asyncio.gather(*(worker.start() for worker in self._workers))

    async def stop(self) -> None:
        await asyncio.gather(*(worker.stop() for worker in self._workers))

    async def ask(self, task: wire.ProbeTask, seconds: float) -> wire.Answer:
        """Wait for a turn, however long; then at most `seconds` for the answer."""
        worker = await self._idle.get()
        try:
            async with asyncio.timeout(seconds):
                return await worker.ask(task)
        finally:
            self._idle.put_nowait(worker)


def _unloadable(recogniser: str) -> RecogniserUnavailable:
    return RecogniserUnavailable(f"recogniser {recogniser!r} cannot be loaded; the engine's log says why")


def _reason(answer: wire.Answer) -> str:
    assert isinstance(answer, wire.Unusable)
    return answer.message
