"""One live session between its ends: the caller's socket, the recogniser, the outbox, and the clock.

What happens is told to the pure session; what it answers is done. The recogniser is asked in turn, so that a slow one
slows the caller's socket down; what it says goes out past whoever waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import structlog

from engine.audio.recording import AudioRecording
from engine.dialects.live import EndReason, LiveRequest, Message
from engine.events import LiveEvent
from engine.live.callbacks import Behind, CallbackStream, Lost
from engine.live.caller import Caller, CallerMessages
from engine.live.session import Action, Conclude, End, Flush, Note, Push, Session, Tell
from engine.transcript import Model

_TICK_SECONDS = 0.5

log = structlog.get_logger()


class LiveRecognition(Protocol):
    """One session in a recogniser: audio in, events out. `duration` is in seconds of audio decoded, `lag` the seconds
    for which audio that is over has waited to be transcribed."""

    @property
    def model(self) -> Model: ...
    @property
    def duration(self) -> float: ...
    @property
    def channels(self) -> int: ...
    @property
    def lag(self) -> float: ...
    async def push(self, data: bytes) -> None: ...
    async def finalize(self, channel: int | None = None) -> None: ...
    async def finish(self) -> None: ...
    async def close(self) -> None: ...
    def __aiter__(self) -> AsyncIterator[LiveEvent]: ...


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The record of one session, the same for every observer. Times are in epoch seconds, `audio` in seconds."""

    asked: LiveRequest
    ending: EndReason
    began_at: float
    ended_at: float
    audio: float
    audio_bytes: int
    told_caller: int
    told_callback: int


@dataclass(frozen=True, slots=True)
class Lateness:
    """A session fell behind by so many seconds, or is in time again."""

    asked: LiveRequest
    lag: float
    is_late: bool


class Conversation:
    """One session. `resumable`: whether a caller whose connection broke may come back to it."""

    def __init__(
        self,
        asked: LiveRequest,
        session: Session,
        recognition: LiveRecognition,
        stream: CallbackStream | None,
        clock: Callable[[], float],
        observe: Callable[[SessionEnded | Lateness], None],
        *,
        resumable: bool = False,
        recorder: AudioRecording | None = None,
    ) -> None:
        """`clock` is in epoch seconds and never goes back. `observe` is told when the session falls behind, is in
        time again, and ends; `recorder` is handed the audio."""
        self._asked = asked
        self._session = session
        self._recognition = recognition
        self._callback = stream
        self._clock = clock
        self._observe = observe
        self._recorder = recorder
        self._messages = CallerMessages(resumable=resumable)
        self._turn = asyncio.Lock()  # of those who ask the recogniser
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to read what the recogniser says, and to look at the clock and at the callback."""
        self._do(self._session.begin(self._clock()))
        self._spawn(self._read_recognition())
        self._spawn(self._watch_clock())
        if self._callback:
            self._spawn(self._watch_callback(self._callback))

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    @property
    def asked(self) -> LiveRequest:
        return self._asked

    @property
    def began_at(self) -> float:
        """In epoch seconds."""
        return self._session.began_at

    @property
    def audio(self) -> float:
        """Seconds of it that were decoded."""
        return self._recognition.duration

    @property
    def lag(self) -> float:
        """Seconds for which audio that is over has waited to be transcribed."""
        return 0.0 if self.is_over else self._recognition.lag

    async def over(self) -> None:
        """Wait until the session has ended, and everything of it was given back."""
        await self._over.wait()
        while others := self._tasks - {asyncio.current_task()}:
            await asyncio.wait(others)

    def end(self, ending: EndReason, detail: str = "") -> None:
        """Have it end, for a reason of somebody else's."""
        self._do(self._session.end(ending, detail, self._clock()))

    async def attend(self, caller: Caller) -> None:
        """Serve one socket of the caller's, until either ends. A new one takes the place of an old one."""
        await self._messages.connect(caller)
        writing = asyncio.create_task(self._messages.write_to(caller))
        try:
            async for data in caller:
                await self._perform(self._session.receive(data, self._clock()))
                await self._slow_down()
            if ending := self._messages.disconnected(caller):
                self.end(ending)
        finally:
            if not self.is_over:
                writing.cancel()
            await asyncio.wait({writing})

    async def _slow_down(self) -> None:
        if pause := self._session.pause(self._clock()):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), pause)

    async def _read_recognition(self) -> None:
        try:
            async for event in self._recognition:
                self._do(self._session.recognised(event, self._recognition.channels, self._clock()))
        except Exception as error:  # whatever broke, the caller must not wait for ever
            log.error("live.failed", request_id=self._asked.request.id, exc_info=error)
        self.end(EndReason.FAILED, "The recogniser stopped listening.")

    async def _watch_clock(self) -> None:
        while not self.is_over:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), _TICK_SECONDS)
            self._do(self._session.lag(self.lag, self._recognition.channels, self._clock()))
            self._do(self._session.tick(self._clock()))

    async def _watch_callback(self, stream: CallbackStream) -> None:
        async for trouble in stream.troubles():
            match trouble:
                case Lost(reason=reason):
                    self.end(EndReason.CALLBACK_LOST, f"({reason})")
                case Behind(waiting=waiting):
                    self.end(EndReason.CALLBACK_BEHIND, f"({waiting} wait)")

    def _do(self, actions: Sequence[Action]) -> None:
        """Where nobody waits for the recogniser."""
        for action in actions:
            match action:
                case Tell(message=message):
                    self._say(message)
                case Note(lag=lag, is_late=is_late):
                    self._observe(Lateness(self._asked, lag, is_late))
                case End():
                    self._close(action)
                case _:
                    self._spawn(self._ask(action))

    async def _perform(self, actions: Sequence[Action]) -> None:
        """Where the caller waits for the recogniser: what follows is said when it has taken what came."""
        for action in actions:
            if isinstance(action, Push | Flush | Conclude):
                await self._ask(action)
            else:
                self._do((action,))

    async def _ask(self, action: Push | Flush | Conclude) -> None:
        """Of the recogniser, in the order in which it was wanted."""
        async with self._turn:
            match action:
                case Push(data=data):
                    if self._recorder:
                        await self._recorder.add(data)
                    await self._recognition.push(data)
                    self._session.taken(self._recognition.duration, self._clock())
                case Flush(channel=channel):
                    await self._recognition.finalize(channel)
                case Conclude():
                    await self._recognition.finish()

    def _say(self, message: Message) -> None:
        if message.to_callback and self._callback:
            self._callback.put(orjson.dumps(message.to_callback), partial=message.partial)
        if message.to_caller and not self._messages.put(orjson.dumps(message.to_caller).decode()):
            self.end(EndReason.LEFT)

    def _close(self, end: End) -> None:
        self._over.set()
        self._messages.close(end.goodbye)
        if self._callback:
            self._callback.end()
        self._spawn(self._recognition.close())
        self._observe(
            SessionEnded(
                self._asked,
                end.ending,
                self._session.began_at,
                self._clock(),
                self._recognition.duration,
                self._session.audio_bytes,
                told_caller=self._messages.count,
                told_callback=self._callback.count if self._callback else 0,
            )
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
