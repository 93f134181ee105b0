"""All live sessions of this engine: how one begins, how many there are, and how they end when the engine does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from engine.dialects.live import Ending, LiveRequest
from engine.errors import Busy
from engine.events import LiveOptions
from engine.live.callbacks import CallbackStream, CallbackWriter
from engine.live.conversation import Conversation, LiveRecognition, SessionEnded
from engine.live.session import Limits, Session, VendorProtocol
from engine.transcript import Model

_LAST_SECONDS = 1.0


class LiveRecogniser(Protocol):
    """Who hears sessions."""

    async def open(self, recogniser: str, options: LiveOptions) -> LiveRecognition:
        """Begin to hear one. Raises Busy, RecogniserUnavailable, WorkerDied."""


MakeProtocol = Callable[[Model, float], VendorProtocol]
"""The vendor's side of a session, by the model that hears it and the moment at which it begins."""

Observer = Callable[[SessionEnded], None]


class Sessions:
    """Begins sessions, tells observers of those that ended, and ends those that are left."""

    def __init__(
        self,
        recogniser: LiveRecogniser,
        callbacks: CallbackWriter,
        *observers: Observer,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._recogniser = recogniser
        self._callbacks = callbacks
        self._observers = observers
        self._clock = clock
        self._under_way: set[Conversation] = set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._under_way)

    async def open(
        self,
        asked: LiveRequest,
        limits: Limits,
        make_protocol: MakeProtocol,
        headers: Mapping[str, str],
        *observers: Observer,
        resumable: bool = False,
    ) -> Conversation:
        """Begin a session. `headers` go with each message to its callback. Raises Busy where there is no room for it,
        RecogniserUnavailable, WorkerDied, StoreUnavailable."""
        if self._stopping:
            raise Busy("the server is stopping")
        recognition = await self._recogniser.open(asked.request.recogniser, asked.options)
        try:
            stream = await self._callback(asked, headers)
        except BaseException:
            await recognition.close()
            raise

        def tell(ended: SessionEnded) -> None:
            self._under_way.discard(conversation)
            for observer in (*self._observers, *observers):
                observer(ended)

        clock = _steady(self._clock)
        session = Session(make_protocol(recognition.model, clock()), limits, clock(), asked.byte_rate)
        conversation = Conversation(asked, session, recognition, stream, clock, tell, resumable=resumable)
        self._under_way.add(conversation)
        conversation.start()
        return conversation

    async def _callback(self, asked: LiveRequest, headers: Mapping[str, str]) -> CallbackStream | None:
        request = asked.request
        if request.callback is None:
            return None
        return await self._callbacks.open(request.id, request.callback.url, headers, request.traceparent)

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


def _steady(clock: Callable[[], float]) -> Callable[[], float]:
    """The same epoch seconds, but no correction of the clock can turn them back."""
    offset = clock() - time.monotonic()
    return lambda: time.monotonic() + offset
