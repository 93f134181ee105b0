"""One live session, seen from the engine: audio in, and events out of the worker process that it was given."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.errors import RecogniserUnavailable, WorkerDied
from engine.events import Broken, Final, Finished, LiveEvent, Partial
from engine.recognisers.whisper.passes import PassRecord
from engine.recognisers.workers import live_wire as wire
from engine.recognisers.workers.wire import Unloadable
from engine.request import FailureCode
from engine.transcript import Model

if TYPE_CHECKING:
    from engine.recognisers.workers.live_process import LiveProcess

UNLOADABLE = "the recogniser cannot be loaded; the log says why"

_AHEAD = 256 * 1024
"""Bytes of a session that may wait for the recogniser."""

_SLICE = 32 * 1024
"""Bytes in a frame."""


@dataclass(frozen=True, slots=True)
class PassMade:
    """A pass of a recogniser; `lag` is from the arrival of the audio that it needed to its result, in seconds, and None
    where nothing was told."""

    recogniser: str
    record: PassRecord
    lag: float | None


Tell = Callable[[PassMade], None]


class PooledRecognition:
    """One session: push audio, and iterate for events, until Finished or Broken, which comes last.

    Either of them, or `close`, gives its place back. `duration` is how many seconds of the audio were decoded so far,
    `channels` how many the events are numbered by; both are up to date with what the worker said last.
    """

    def __init__(self, number: int, worker: LiveProcess, recogniser: str, tell: Tell) -> None:
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
        """Seconds for which audio that is over has waited to be transcribed, or for which its worker owes a word; it
        grows while nothing is."""
        waited = time.monotonic() - self._waiting_since if self._waiting_since is not None else 0.0
        return max(0.0, waited, self._worker.silence if self.owed else 0.0)

    async def push(self, data: bytes) -> None:
        """Hand in bytes as the caller sent them. Waits while the recogniser is behind; does nothing once it ended."""
        for start in range(0, len(data), _SLICE):
            await self._room.wait()
            part = data[start : start + _SLICE]
            self._send(wire.AudioMessage(part))
            self._wait(len(part))

    async def finalize(self, channel: int | None = None) -> None:
        """What was pushed so far becomes final: a Final with `from_finalize` comes for the channel, or for each."""
        self._send(wire.FinalizeMessage(channel))

    async def finish(self) -> None:
        """No more audio comes: the last Finals, then Finished."""
        self._send(wire.FinishMessage())

    async def close(self) -> None:
        """Forget the session, at any time. Iterating ends."""
        if not self._over:
            self._send(wire.CloseMessage())
            self._end(None)

    async def __aiter__(self) -> AsyncIterator[LiveEvent]:
        """Once, by one reader."""
        while event := await self._events.get():
            yield event

    @property
    def owed(self) -> bool:
        """Whether the worker has something to do for it."""
        return self._waiting > 0

    def answer(self, answer: wire.LiveAnswer) -> None:
        """What the worker says; nothing counts after the end."""
        if self._over:
            return
        match answer:
            case wire.Opened(model):
                self.opened.set_result(model)
            case Unloadable():
                self.opened.set_exception(RecogniserUnavailable(UNLOADABLE))
                self._end(None)
            case wire.LiveProgress():
                self._step(answer)

    def fail(self) -> None:
        if not self.opened.done():
            self.opened.set_exception(WorkerDied("the worker process ended before the session began"))
        if not self._over:
            self._end(Broken(FailureCode.INTERNAL, "the recogniser ended in the middle; open another session"))

    def _step(self, step: wire.LiveProgress) -> None:
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

    def _send(self, message: wire.LiveMessage) -> None:
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
