"""All live sessions of this engine: which may begin, how one does, and how they end when the engine does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

from engine.audio.recording import AudioRecording
from engine.dialects.live import EndReason, LiveRequest
from engine.errors import Busy, RecogniserUnavailable, TooSlow, WorkerDied
from engine.events import LiveOptions
from engine.live.calibration import Calibration
from engine.live.callbacks import CallbackStream, CallbackWriter
from engine.live.capacity import Capacity, Full, Impossible, KeyLimited, Limited, Speech, speech
from engine.live.conversation import Conversation, Lateness, LiveRecognition, SessionEnded
from engine.live.session import Session, SessionLimits, VendorProtocol
from engine.recognisers.whisper.passes import Costs
from engine.transcript import Model

_LAST_SECONDS = 1.0
_REFUSALS = (Busy, TooSlow, RecogniserUnavailable, WorkerDied)


class LiveRecogniser(Protocol):
    """What sessions need of the LivePool; the tests have one whose words are their own."""

    async def open(self, recogniser: str, options: LiveOptions) -> LiveRecognition:
        """Begin a session. Raises Busy, RecogniserUnavailable, WorkerDied."""

    async def measure(self, recogniser: str) -> Costs:
        """What the recogniser costs here. Raises as `open` does."""


Reason = Literal["capacity", "key", "limit", "memory", "stopping", "unavailable"]


@dataclass(frozen=True, slots=True)
class SessionRefused:
    """A session that could not begin. `detail` is for the operator."""

    asked: LiveRequest
    reason: Reason
    detail: str


MakeProtocol = Callable[[Model, float], VendorProtocol]
"""The vendor's side of a session, by the model that transcribes it and the moment at which it begins."""

LiveRecord = SessionEnded | SessionRefused | Lateness
Observer = Callable[[LiveRecord], None]


class LiveSessions:
    """Begins sessions while the machine can keep all of them in real time, tells observers what becomes of them, and
    ends those that are left."""

    def __init__(
        self,
        recogniser: LiveRecogniser,
        callbacks: CallbackWriter,
        capacity: Capacity,
        *observers: Observer,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._recogniser = recogniser
        self._callbacks = callbacks
        self._capacity = capacity
        self._calibration = Calibration(recogniser.measure, capacity)
        self._observers = observers
        self._clock = clock
        # By the request's id, like those that are under way: of which key, and what it takes.
        self._admitted: dict[str, tuple[str | None, Speech]] = {}
        self._under_way: dict[str, Conversation] = {}
        self._stopping = False

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def under_way(self) -> tuple[Conversation, ...]:
        return tuple(self._under_way.values())

    @property
    def lag(self) -> float:
        """Seconds for which audio has waited to be transcribed, in the session where it has waited longest."""
        return max((conversation.lag for conversation in self._under_way.values()), default=0.0)

    async def measure(self, recognisers: Iterable[str]) -> None:
        """Find out what the recognisers cost, one after another, before anybody needs them."""
        await self._calibration.measure_all(recognisers)

    async def check(self, asked: LiveRequest) -> None:
        """Whether there is room for a session now, which it takes later. Raises as `open` does."""
        try:
            await self._admit(asked)
        except _REFUSALS as error:
            self._refuse(asked, error)
            raise

    async def open(
        self,
        asked: LiveRequest,
        limits: SessionLimits,
        make_protocol: MakeProtocol,
        headers: Mapping[str, str],
        ended: Callable[[SessionEnded], None] = lambda _: None,
        *,
        resumable: bool = False,
        recorder: AudioRecording | None = None,
    ) -> Conversation:
        """Begin a session. `headers` go with each message to its callback; `ended` is told of its end, and `recorder`
        is handed the audio.

        Raises Busy where there is no room for it, TooSlow, RecogniserUnavailable, WorkerDied, StoreUnavailable.
        """
        recognition = await self._recognition(asked)
        try:
            stream = await self._callback(asked, headers)
        except BaseException:
            self._admitted.pop(asked.request.id, None)
            await recognition.close()
            raise
        clock = _steady(self._clock)
        session = Session(make_protocol(recognition.model, clock()), limits, clock(), asked.byte_rate)
        observe = partial(self._observe, ended)
        conversation = Conversation(
            asked, session, recognition, stream, clock, observe, resumable=resumable, recorder=recorder
        )
        self._under_way[asked.request.id] = conversation
        conversation.start()
        return conversation

    def _observe(self, ended: Callable[[SessionEnded], None], record: SessionEnded | Lateness) -> None:
        self._tell(record)
        if isinstance(record, SessionEnded):
            self._under_way.pop(record.asked.request.id, None)
            self._admitted.pop(record.asked.request.id, None)
            ended(record)

    async def _recognition(self, asked: LiveRequest) -> LiveRecognition:
        try:
            self._admitted[asked.request.id] = asked.request.key_id, await self._admit(asked)
            return await self._recogniser.open(asked.request.recogniser, asked.options)
        except BaseException as error:
            self._admitted.pop(asked.request.id, None)
            if isinstance(error, _REFUSALS):
                self._refuse(asked, error)
            raise

    async def _admit(self, asked: LiveRequest) -> Speech:
        """What it takes, if that is there; nobody comes between the answer and whoever takes it."""
        if self._stopping:
            raise Busy("the server is stopping", "stopping")
        recogniser = asked.request.recogniser
        await self._calibration.ensure(recogniser)
        wanted = speech(recogniser, asked.options)
        key_id = asked.request.key_id
        own = [taken for key, taken in self._admitted.values() if key == key_id] if key_id else []
        decision = self._capacity.decide(wanted, [taken for _, taken in self._admitted.values()], own)
        if isinstance(decision, Full | Impossible) and not self._admitted:
            self._calibration.doubt(recogniser)
        match decision:
            case Full(needed, left):
                raise Busy(f"it needs {needed:.2f} cores, and {left:.2f} are left", "capacity")
            case Limited(most):
                raise Busy(f"{most} live sessions are under way, as many as may be", "limit")
            case KeyLimited(share):
                raise Busy(f"its key has {len(own)} live sessions, and may have {share:.0%} of the room", "key")
            case Impossible(needed, left):
                raise TooSlow(f"it needs {needed:.2f} cores, and there are {left:.2f}")
        return wanted

    def _refuse(self, asked: LiveRequest, error: Exception) -> None:
        self._tell(SessionRefused(asked, _reason(error), str(error)))

    def _tell(self, record: LiveRecord) -> None:
        for observer in self._observers:
            observer(record)

    async def _callback(self, asked: LiveRequest, headers: Mapping[str, str]) -> CallbackStream | None:
        request = asked.request
        if request.callback is None:
            return None
        url, owner = request.callback.url, request.key_id or ""
        return await self._callbacks.open(request.id, url, headers, request.traceparent, owner)

    async def stop(self, seconds: float) -> None:
        """Begin no more, and let those under way finish for so long; what is left then is broken off."""
        self._stopping = True
        for ending, wait in ((EndReason.STOPPING, seconds), (EndReason.FAILED, _LAST_SECONDS)):
            conversations = tuple(self._under_way.values())
            waiting = {asyncio.create_task(conversation.over()) for conversation in conversations}
            for conversation in conversations:
                conversation.end(ending)
            late = (await asyncio.wait(waiting, timeout=wait))[1] if waiting else ()
            for task in late:
                task.cancel()


def _reason(error: Exception) -> Reason:
    match error:
        case Busy(reason=reason):
            return reason
        case TooSlow():
            return "capacity"
        case _:
            return "unavailable"


def _steady(clock: Callable[[], float]) -> Callable[[], float]:
    """The same epoch seconds, but no correction of the clock can turn them back."""
    offset = clock() - time.monotonic()
    return lambda: time.monotonic() + offset
