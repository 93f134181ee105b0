"""All live sessions of this engine: which may begin, how one does, and how they end when the engine does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import structlog

from engine.dialects.live import Ending, LiveRequest
from engine.errors import Busy, RecogniserUnavailable, TooSlow, WorkerDied
from engine.events import LiveOptions
from engine.live.callbacks import CallbackStream, CallbackWriter, Trouble
from engine.live.capacity import Capacity, Full, Impossible, Limited, Speech, speech
from engine.live.conversation import Conversation, Lateness, LiveRecognition, SessionEnded
from engine.live.session import Limits, Session, VendorProtocol
from engine.recognisers.whisper.passes import Costs
from engine.transcript import Model

_LAST_SECONDS = 1.0
_PATIENCE_SECONDS = 8.0
_DOUBT_SECONDS = 60.0
_REFUSALS = (Busy, TooSlow, RecogniserUnavailable, WorkerDied)
_REMEDY = "use a smaller model, a faster machine, or sessions without interim results"

log = structlog.get_logger()


class LiveRecogniser(Protocol):
    """Who hears sessions."""

    async def open(self, recogniser: str, options: LiveOptions) -> LiveRecognition:
        """Begin to hear one. Raises Busy, RecogniserUnavailable, WorkerDied."""

    async def measure(self, recogniser: str) -> Costs:
        """What hearing costs here. Raises as `open` does."""


Reason = Literal["capacity", "limit", "memory", "stopping", "unavailable"]


@dataclass(frozen=True, slots=True)
class SessionRefused:
    """A session that could not begin. `detail` is for the operator."""

    asked: LiveRequest
    reason: Reason
    detail: str


MakeProtocol = Callable[[Model, float], VendorProtocol]
"""The vendor's side of a session, by the model that hears it and the moment at which it begins."""

LiveRecord = SessionEnded | SessionRefused | Lateness
Observer = Callable[[LiveRecord], None]


class Sessions:
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
        self._observers = observers
        self._clock = clock
        self._admitted: dict[str, Speech] = {}
        self._under_way: set[Conversation] = set()
        self._measuring: dict[str, asyncio.Task[None]] = {}
        self._measured_at: dict[str, float] = {}
        self._stopping = False

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def lag(self) -> float:
        """Seconds for which audio has waited to be heard, in the session where it has waited longest."""
        return max((conversation.lag for conversation in self._under_way), default=0.0)

    async def measure(self, recognisers: Iterable[str]) -> None:
        """Find out what the recognisers cost, one after another, before anybody needs them."""
        for recogniser in recognisers:
            with suppress(*_REFUSALS):
                await asyncio.shield(self._measurement(recogniser))

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
        limits: Limits,
        make_protocol: MakeProtocol,
        headers: Mapping[str, str],
        ended: Callable[[SessionEnded], None] = lambda _: None,
        *,
        resumable: bool = False,
    ) -> Conversation:
        """Begin a session. `headers` go with each message to its callback; `ended` hears of its end.

        Raises Busy where there is no room for it, TooSlow, RecogniserUnavailable, WorkerDied, StoreUnavailable.
        """

        def tell(record: SessionEnded | Lateness) -> None:
            self._tell(record)
            if isinstance(record, SessionEnded):
                self._under_way.discard(conversation)
                self._admitted.pop(asked.request.id, None)
                ended(record)

        def in_trouble(trouble: Trouble) -> None:
            conversation.in_trouble(trouble)

        recognition = await self._recognition(asked)
        try:
            stream = await self._callback(asked, headers, in_trouble)
        except BaseException:
            self._admitted.pop(asked.request.id, None)
            await recognition.close()
            raise
        clock = _steady(self._clock)
        session = Session(make_protocol(recognition.model, clock()), limits, clock(), asked.byte_rate)
        conversation = Conversation(asked, session, recognition, stream, clock, tell, resumable=resumable)
        self._under_way.add(conversation)
        conversation.start()
        return conversation

    async def _recognition(self, asked: LiveRequest) -> LiveRecognition:
        try:
            self._admitted[asked.request.id] = await self._admit(asked)
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
        if not self._capacity.knows(recogniser):
            await self._know(recogniser)
        wanted = speech(recogniser, asked.options)
        decision = self._capacity.decide(wanted, self._admitted.values())
        if isinstance(decision, Full | Impossible) and not self._admitted:
            self._doubt(recogniser)
        match decision:
            case Full(needed, left):
                raise Busy(f"it needs {needed:.2f} cores, and {left:.2f} are left", "capacity")
            case Limited(most):
                raise Busy(f"{most} live sessions are under way, as many as may be", "limit")
            case Impossible(needed, left):
                raise TooSlow(f"it needs {needed:.2f} cores, and there are {left:.2f}")
        return wanted

    async def _know(self, recogniser: str) -> None:
        """What it costs; but a caller waits only so long for the answer to a handshake."""
        try:
            await asyncio.wait_for(asyncio.shield(self._measurement(recogniser)), _PATIENCE_SECONDS)
        except TimeoutError:
            raise Busy("it is not known yet what the recogniser costs", "capacity") from None

    def _doubt(self, recogniser: str) -> None:
        """A machine that had much to do when it was measured may have time now, and while it hears nobody, nothing else
        would tell."""
        if time.monotonic() - self._measured_at.get(recogniser, 0.0) > _DOUBT_SECONDS:
            self._measurement(recogniser)

    def _measurement(self, recogniser: str) -> asyncio.Task[None]:
        """The one that is under way, or another."""
        if recogniser not in self._measuring:
            task = self._measuring[recogniser] = asyncio.create_task(self._measure(recogniser))
            task.add_done_callback(partial(self._measured, recogniser))
        return self._measuring[recogniser]

    def _measured(self, recogniser: str, task: asyncio.Task[None]) -> None:
        del self._measuring[recogniser]
        if not task.cancelled() and (error := task.exception()):
            log.warning("live.unmeasured", recogniser=recogniser, reason=str(error))

    async def _measure(self, recogniser: str) -> None:
        costs = await self._recogniser.measure(recogniser)
        self._capacity.measured(recogniser, costs)
        self._measured_at[recogniser] = time.monotonic()
        known = {"recogniser": recogniser, "sessions": self._capacity.sessions(recogniser)}
        log.info("live.measured", final_s=round(costs.final, 4), interim_s=round(costs.interim, 4), **known)
        if isinstance(found := self._capacity.decide(Speech(recogniser), ()), Impossible):
            cores = {"needed_cores": round(found.needed, 2), "cores": round(found.left, 2)}
            log.warning("live.too_slow", recogniser=recogniser, **cores, remedy=_REMEDY)

    def _refuse(self, asked: LiveRequest, error: Exception) -> None:
        self._tell(SessionRefused(asked, _reason(error), str(error)))

    def _tell(self, record: LiveRecord) -> None:
        for observer in self._observers:
            observer(record)

    async def _callback(
        self, asked: LiveRequest, headers: Mapping[str, str], tell: Callable[[Trouble], None]
    ) -> CallbackStream | None:
        request = asked.request
        if request.callback is None:
            return None
        return await self._callbacks.open(request.id, request.callback.url, headers, tell, request.traceparent)

    async def stop(self, seconds: float) -> None:
        """Begin no more, and let those under way finish for so long; what is left then is broken off."""
        self._stopping = True
        for ending, patience in ((Ending.STOPPING, seconds), (Ending.FAILED, _LAST_SECONDS)):
            waiting = {asyncio.create_task(conversation.over()) for conversation in self._under_way}
            for conversation in tuple(self._under_way):
                conversation.end(ending)
            late = (await asyncio.wait(waiting, timeout=patience))[1] if waiting else ()
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
