"""One worker process of live sessions at a time, replaced when it is gone, and what is said to it and by it.

Audio that kills it ends the sessions in it, each with Broken, and nothing else; the next session has a new one.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE, Process
from collections.abc import Coroutine, Sequence
from typing import Any

from engine.errors import Busy, RecogniserUnavailable, WorkerDied
from engine.recognisers.base import Spec
from engine.recognisers.whisper.passes import Costs
from engine.recognisers.workers import live_wire as wire
from engine.recognisers.workers.live_recognition import UNLOADABLE, PooledRecognition, Tell
from engine.recognisers.workers.memory import Holding, MemoryBudget, UnloadReason, peak_memory
from engine.recognisers.workers.process import ended, environment

_MEASURING_SECONDS = 300.0
"""How long it may take to load and measure a recogniser."""

_LONGEST = 16 * 1024**2
"""Bytes that an answer may have."""


class LiveProcess:
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
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, stdin=PIPE, stdout=PIPE, env=environment()
                )
                reader = asyncio.create_task(self._serve(self._process))
                self._readers.add(reader)
                reader.add_done_callback(self._readers.discard)

    async def stop(self) -> None:
        self._stopped = True
        self._kill()
        if self._readers:
            await asyncio.wait(self._readers)

    async def open(self, recogniser: str, number: int, message: wire.OpenMessage) -> PooledRecognition:
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
            self.send(number, wire.MeasureMessage(spec))
            async with asyncio.timeout(_MEASURING_SECONDS):
                return await found
        except TimeoutError:
            raise WorkerDied(f"measuring took more than {_MEASURING_SECONDS:g} seconds") from None
        finally:
            del self._measuring[number]
            if not self.recognitions and not self._measuring and not self._stopped:
                self._kill()
                await self.start()  # another one, empty

    def send(self, number: int, message: wire.LiveMessage) -> None:
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
            holding.take()

    def _unload(self, why: UnloadReason) -> Coroutine[Any, Any, None]:  # noqa: ARG002 (nobody is told, yet)
        """For others, while there is no session here."""
        ending = self._process
        self._kill()
        return _ended(ending)

    @property
    def silence(self) -> float:
        """Seconds since the process last said something, or was first told to."""
        return asyncio.get_running_loop().time() - self._quiet_since

    def leave(self, number: int) -> None:
        self.recognitions.pop(number, None)
        if not self.recognitions and not self._stopped:
            self._rest()

    def _rest(self) -> None:
        """There is no session here: others may have the memory, and after a while nobody needs it."""
        loop = asyncio.get_running_loop()
        peak = peak_memory(self._process.pid) if self._process else None
        for holding in self._holdings.values():
            holding.give_back(loop.time())
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
            pass  # whichever it was: the sessions in this process are lost
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
        """End the process and the sessions in it; the next session has another."""
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


def _settle(found: asyncio.Future[Costs], answer: wire.LiveAnswer) -> None:
    match answer:
        case wire.Measured(costs):
            found.set_result(costs)
        case _:
            found.set_exception(RecogniserUnavailable(UNLOADABLE))
