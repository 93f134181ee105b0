"""Live recognition, seen from the engine: sessions, each heard in one of a few worker processes that many share.

Audio that kills a worker ends the sessions in it, each with Broken, and nothing else; the next session has a new one.
"""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from engine.audio.decode import MAX_SECONDS
from engine.errors import Busy, RecogniserUnavailable, WorkerDied
from engine.events import Broken, Final, Finished, LiveEvent, LiveOptions, Partial
from engine.recognisers.base import Spec
from engine.recognisers.whisper.passes import Costs, PassRecord
from engine.recognisers.workers import live_wire as wire
from engine.recognisers.workers.memory import Holding, MemoryBudget, Why, peak_memory
from engine.recognisers.workers.process import ended
from engine.request import FailureCode
from engine.transcript import Model

WORKER = "engine.recognisers.workers.live_worker"
"""The module that a worker process runs; whoever brings another speaks the frames of `workers.live_wire`."""

STALL_SECONDS = 60.0
"""How long a worker may owe an answer, or make one pass, before it counts as hung."""

NICENESS = 5
"""Of live workers: the event loop must win the core the moment a packet comes, and they before what is recorded."""

_MEASURING_SECONDS = 300.0
"""How long it may take to load and measure a recogniser."""

_AHEAD = 256 * 1024
"""Bytes of a session that may wait for the recogniser."""

_SLICE = 32 * 1024
"""Bytes in a frame."""

_UNLOADABLE = "the recogniser cannot be loaded; the log says why"

_LONGEST = 16 * 1024**2
"""Bytes that an answer may have."""


@dataclass(frozen=True, slots=True)
class PassMade:
    """A pass of a recogniser; `lag` is from the arrival of the audio that it needed to its result, in seconds, and None
    where nothing was told."""

    recogniser: str
    record: PassRecord
    lag: float | None


Tell = Callable[[PassMade], None]


class PooledRecognition:
    """One session: push audio, and iterate for what is heard, until Finished or Broken, which comes last.

    Either of them, or `close`, gives its place back. `duration` is how many seconds of the audio were decoded so far,
    `channels` how many the events are numbered by; both are up to date with what the worker said last.
    """

    def __init__(self, number: int, worker: _Worker, recogniser: str, tell: Tell) -> None:
        self._number = number
        self._worker = worker
        self._recogniser = recogniser
        self._tell = tell
        self._events: asyncio.Queue[LiveEvent | None] = asyncio.Queue()
        self._room = asyncio.Event()
        self._room.set()
        self._waiting = 0
        self._waiting_since: float | None = None
        self._over = False
        self.opened: asyncio.Future[Model] = asyncio.get_running_loop().create_future()
        self.duration = 0.0
        self.channels = 1

    @property
    def model(self) -> Model:
        return self.opened.result()

    @property
    def lag(self) -> float:
        """Seconds for which audio that is over has waited to be heard, or for which its worker owes a word; it grows
        while nothing is heard."""
        waited = time.monotonic() - self._waiting_since if self._waiting_since is not None else 0.0
        return max(0.0, waited, self._worker.silence if self.owed else 0.0)

    async def push(self, data: bytes) -> None:
        """Hand in bytes as the caller sent them. Waits while the recogniser is behind; does nothing once it ended."""
        for start in range(0, len(data), _SLICE):
            await self._room.wait()
            part = data[start : start + _SLICE]
            self._send(wire.Audio(part))
            self._wait(len(part))

    async def finalize(self, channel: int | None = None) -> None:
        """What was pushed so far becomes final: a Final with `from_finalize` comes for the channel, or for each."""
        self._send(wire.Finalize(channel))

    async def finish(self) -> None:
        """No more audio comes: the last Finals, then Finished."""
        self._send(wire.Finish())

    async def close(self) -> None:
        """Forget the session, at any time. Iterating ends."""
        if not self._over:
            self._send(wire.Close())
            self._end(None)

    async def __aiter__(self) -> AsyncIterator[LiveEvent]:
        """Once, by one reader."""
        while event := await self._events.get():
            yield event

    @property
    def owed(self) -> bool:
        """Whether the worker has something to do for it."""
        return self._waiting > 0

    def answer(self, answer: wire.Answer) -> None:
        """What the worker says; nothing counts after the end."""
        if self._over:
            return
        match answer:
            case wire.Opened(model):
                self.opened.set_result(model)
            case wire.Unloadable():
                self.opened.set_exception(RecogniserUnavailable(_UNLOADABLE))
                self._end(None)
            case wire.Step():
                self._step(answer)

    def fail(self) -> None:
        """The worker is gone."""
        if not self.opened.done():
            self.opened.set_exception(WorkerDied("the worker process ended before the session began"))
        if not self._over:
            self._end(Broken(FailureCode.INTERNAL, "the recogniser ended in the middle; open another session"))

    def _step(self, step: wire.Step) -> None:
        self.duration, self.channels, self._waiting_since = step.duration, step.channels, step.waiting_since
        if step.made:
            told = any(isinstance(event, Partial | Final) for event in step.events)
            lag = max(0.0, time.monotonic() - step.made.due_at) if told else None
            self._tell(PassMade(self._recogniser, step.made, lag))
        for event in step.events:
            if isinstance(event, Finished | Broken):
                self._end(event)
                return
            self._events.put_nowait(event)
        self._wait(-step.taken)

    def _send(self, message: wire.Message) -> None:
        if not self._over:
            self._worker.send(self._number, message)

    def _wait(self, bytes_more: int) -> None:
        self._waiting += bytes_more
        if self._over or self._waiting < _AHEAD:
            self._room.set()
        else:
            self._room.clear()

    def _end(self, last: Finished | Broken | None) -> None:
        self._over = True
        self._waiting, self._waiting_since = 0, None
        self._room.set()
        if last:
            self._events.put_nowait(last)
        self._events.put_nowait(None)
        self._worker.leave(self._number)


class LivePool:
    """Sessions, spread over `workers` processes, each of which makes so many `passes` at a time.

    A process is ended, and its recognisers with it, after `idle_seconds` without a session (None: never), or when
    others need its part of the memory `budget` (None: unlimited). `tell` hears of every pass.
    """

    def __init__(
        self,
        recognisers: Mapping[str, Spec],
        *,
        workers: int = 1,
        passes: int = 1,
        max_seconds: float = MAX_SECONDS,
        idle_seconds: float | None = None,
        stall_seconds: float = STALL_SECONDS,
        budget: MemoryBudget | None = None,
        tell: Tell = lambda _: None,
        worker: str = WORKER,
    ) -> None:
        self._recognisers = dict(recognisers)
        budget = budget or MemoryBudget()
        options = ("--nice", str(NICENESS), "--passes", str(passes), "--stall", str(stall_seconds))
        command = (sys.executable, "-m", worker, *options)
        self._workers = [_Worker(command, idle_seconds, stall_seconds, budget, tell) for _ in range(workers)]
        self._max_seconds = max_seconds
        self._numbers = count(1)

    async def start(self) -> None:
        """Start the processes, without recognisers."""
        await asyncio.gather(*(worker.start() for worker in self._workers))

    async def stop(self) -> None:
        """Kill the processes and wait for their end. Sessions under way end with Broken."""
        await asyncio.gather(*(worker.stop() for worker in self._workers))

    @property
    def count(self) -> int:
        """Sessions under way."""
        return sum(len(worker.recognitions) for worker in self._workers)

    async def open(self, recogniser: str, options: LiveOptions) -> PooledRecognition:
        """Begin a session, once the recogniser is loaded.

        Raises Busy where there is no memory for it now; RecogniserUnavailable where it cannot be loaded; WorkerDied.
        """
        spec = self._spec(recogniser)
        worker = min(self._workers, key=lambda one: (len(one.recognitions), spec not in one.loaded))
        return await worker.open(recogniser, next(self._numbers), wire.Open(spec, options, self._max_seconds))

    async def measure(self, recogniser: str) -> Costs:
        """What hearing costs here while nothing else is done. A process that was idle before holds nothing afterwards.

        Raises as `open` does.
        """
        worker = min(self._workers, key=lambda one: len(one.recognitions))
        return await worker.measure(recogniser, next(self._numbers), self._spec(recogniser))

    def _spec(self, recogniser: str) -> Spec:
        if (spec := self._recognisers.get(recogniser)) is None:
            raise RecogniserUnavailable(f"recogniser {recogniser!r} is not configured")
        return spec


class _Worker:
    """A process at a time, started when there is a session for it, and the sessions in it."""

    def __init__(
        self,
        command: Sequence[str],
        idle_seconds: float | None,
        stall_seconds: float,
        budget: MemoryBudget,
        tell: Tell,
    ) -> None:
        self._command = command
        self._tell = tell
        self._idle_seconds = idle_seconds
        self._stall_seconds = stall_seconds
        self._budget = budget
        self._holdings: dict[Spec, Holding] = {}
        self._process: Process | None = None
        self._starting = asyncio.Lock()
        self._readers: set[asyncio.Task[None]] = set()
        self._unloading: asyncio.TimerHandle | None = None
        self._stopped = False
        self._quiet_since = 0.0
        self._measuring: dict[int, asyncio.Future[Costs]] = {}
        self.recognitions: dict[int, PooledRecognition] = {}
        self.loaded: set[Spec] = set()

    async def start(self) -> None:
        async with self._starting:
            if self._stopped:
                raise WorkerDied("the workers were stopped")
            if self._process is None:
                self._process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE)
                reader = asyncio.create_task(self._serve(self._process))
                self._readers.add(reader)
                reader.add_done_callback(self._readers.discard)

    async def stop(self) -> None:
        self._stopped = True
        self._kill()
        if self._readers:
            await asyncio.wait(self._readers)

    async def open(self, recogniser: str, number: int, message: wire.Open) -> PooledRecognition:
        self._hold(recogniser, message.spec)
        recognition = self.recognitions[number] = PooledRecognition(number, self, recogniser, self._tell)
        if self._unloading:
            self._unloading.cancel()
        try:
            await self._budget.settled()
            await self.start()
            self.send(number, message)
            await recognition.opened
        except BaseException:
            await recognition.close()
            raise
        self.loaded.add(message.spec)
        return recognition

    async def measure(self, recogniser: str, number: int, spec: Spec) -> Costs:
        self._hold(recogniser, spec)
        found: asyncio.Future[Costs] = asyncio.get_running_loop().create_future()
        self._measuring[number] = found
        try:
            await self._budget.settled()
            await self.start()
            self.send(number, wire.Measure(spec))
            async with asyncio.timeout(_MEASURING_SECONDS):
                return await found
        except TimeoutError:
            raise WorkerDied(f"measuring took more than {_MEASURING_SECONDS:g} seconds") from None
        finally:
            del self._measuring[number]
            if not self.recognitions and not self._measuring and not self._stopped:
                self._kill()
                await self.start()  # another one, empty

    def send(self, number: int, message: wire.Message) -> None:
        """Never waits: sessions bound what they send by what was taken."""
        if self._process and self._process.stdin:
            if not self._owes:
                self._quiet_since = asyncio.get_running_loop().time()
            self._process.stdin.write(wire.pack_message(number, message))

    def _hold(self, recogniser: str, spec: Spec) -> None:
        """Memory for the model, which the process keeps until its end; its sessions share it."""
        if spec not in self._holdings:
            holding = self._budget.hold(recogniser, spec.memory, self._unload)
            if holding is None:
                raise Busy(
                    f"the recognisers at work leave no {spec.memory} bytes of memory for another live session", "memory"
                )
            self._holdings[spec] = holding
        for holding in self._holdings.values():
            holding.busy = True

    def _unload(self, why: Why) -> Coroutine[Any, Any, None]:  # noqa: ARG002 (nobody is told, yet)
        """For others, while nobody is heard here."""
        ending = self._process
        self._kill()
        return _ended(ending)

    @property
    def silence(self) -> float:
        """Seconds since the process last said something, or was first told to."""
        return asyncio.get_running_loop().time() - self._quiet_since

    def leave(self, number: int) -> None:
        """The session is over."""
        self.recognitions.pop(number, None)
        if not self.recognitions and not self._stopped:
            self._rest()

    def _rest(self) -> None:
        """Nobody is heard here: others may have the memory, and after a while nobody needs it."""
        loop = asyncio.get_running_loop()
        peak = peak_memory(self._process.pid) if self._process else None
        for holding in self._holdings.values():
            holding.busy, holding.used_at = False, loop.time()
            if len(self._holdings) == 1:
                self._budget.measured(holding, peak)
        self._budget.changed()
        if self._idle_seconds is not None:
            self._unloading = loop.call_later(self._idle_seconds, self._kill)

    @property
    def _owes(self) -> bool:
        return any(recognition.owed for recognition in self.recognitions.values())

    async def _serve(self, process: Process) -> None:
        """Pass on what the process says, until it is gone or has nothing sensible to say."""
        try:
            assert process.stdout
            await self._read(process.stdout)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError, ValueError, KeyError, TypeError):
            pass  # whichever it was: what this process hears is lost
        finally:
            if self._process is process:
                self._kill()
            await process.wait()

    async def _read(self, answers: asyncio.StreamReader) -> None:
        while True:
            try:
                async with asyncio.timeout(self._stall_seconds):
                    head = await answers.readexactly(wire.HEAD_BYTES)
            except TimeoutError:
                self._judge()
                continue
            length, number, _ = wire.head(head)
            if length > _LONGEST:
                raise ValueError("a frame that no recogniser has a reason for")
            body = await answers.readexactly(length)
            self._quiet_since = asyncio.get_running_loop().time()
            if recognition := self.recognitions.get(number):
                recognition.answer(wire.unpack_answer(body))
            elif found := self._measuring.get(number):
                _settle(found, wire.unpack_answer(body))

    def _judge(self) -> None:
        """Raises TimeoutError when the process owes an answer for too long."""
        if self._owes and self.silence >= self._stall_seconds:
            raise TimeoutError

    def _kill(self) -> None:
        """End the process and whatever is heard in it; the next session has another."""
        process, self._process = self._process, None
        self.loaded.clear()
        for recognition in list(self.recognitions.values()):
            recognition.fail()
        for found in self._measuring.values():
            if not found.done():
                found.set_exception(WorkerDied("the worker process ended while it was measured"))
        if self._unloading:
            self._unloading.cancel()
        if process and not ended(process):
            process.kill()
        holdings, self._holdings = self._holdings, {}
        for holding in holdings.values():
            self._budget.release(holding)


async def _ended(process: Process | None) -> None:
    if process:
        await process.wait()


def _settle(found: asyncio.Future[Costs], answer: wire.Answer) -> None:
    match answer:
        case wire.Measured(costs):
            found.set_result(costs)
        case _:
            found.set_exception(RecogniserUnavailable(_UNLOADABLE))
