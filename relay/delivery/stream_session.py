"""One stream on its way: its socket, from the handshake to the last word."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from relay.delivery.courier import blocked
from relay.delivery.stream_state import GOING_AWAY, CarriedStream, StreamEnding
from relay.guard.rules import Refusal
from relay.guard.url import Target
from relay.outbox.model import KillReason
from relay.policy.attempt import Answer, Attempted, Finish, HeldStream, Timing
from relay.policy.request_headers import Headers
from relay.queue.streams import LiveStreams
from relay.transports.websocket import WebSocketTransport
from relay.transports.websocket_connection import WebSocketConnection

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Gateway:
    """How a stream reaches its receiver: `read` is the guard's reading of a URL, `seal` makes the headers of a
    handshake."""

    store: LiveStreams
    transport: WebSocketTransport
    read: Callable[[str], Target | Refusal]
    seal: Callable[[HeldStream, Target, float], Awaitable[Headers]]
    clock: Callable[[], float] = time.time


class StreamSession:
    """Opens one socket and talks to its end. `record` takes the end of a message, `room` hears that there is room for
    more of them where there was none."""

    def __init__(
        self, stream: HeldStream, gateway: Gateway, record: Callable[[Attempted], None], room: Callable[[], None]
    ) -> None:
        self.state = CarriedStream(stream)
        self._gateway = gateway
        self._clock = gateway.clock
        self._record = record
        self._room = room
        self._stirred = asyncio.Event()

    def stir(self) -> None:
        """The state has changed, or the socket has news."""
        self._stirred.set()

    async def run(self) -> StreamEnding:
        """Carry the stream. Whatever happens is an ending."""
        try:
            ending = await self._converse()
        except Exception as error:
            log.error("stream.crashed", stream=self.state.stream.key, exc_info=error)
            return StreamEnding(Finish(self.state.stream.id, KillReason.INTERNAL))
        self.announce(ending)
        return ending

    def announce(self, ending: StreamEnding) -> None:
        state, stream = self.state, self.state.stream
        if ending.finish.reason is None:
            log.info("stream.closed", stream=stream.key, destination=stream.origin, delivered=state.confirmed)
            return
        log.warning(
            "stream.killed",
            stream=stream.key,
            destination=stream.origin,
            reason=ending.finish.reason.value,
            diagnosis=ending.diagnosis,
            delivered=state.confirmed,
            unconfirmed=state.unconfirmed,
        )

    async def _converse(self) -> StreamEnding:
        stream, gateway, started_at = self.state.stream, self._gateway, self._clock()
        if not await gateway.store.may_be_called(stream.origin, stream.path):
            return self.state.left_alone()
        target = gateway.read(stream.url)
        if isinstance(target, Refusal):
            return await self._not_opened(blocked(target), (), started_at)
        headers = await gateway.seal(stream, target, started_at)
        opened = await gateway.transport.open(target, headers, self.stir)
        if isinstance(opened, Answer):
            return await self._not_opened(opened, headers, started_at)
        try:
            return await self._talk(opened, headers)
        finally:
            await opened.close(self.state.close_code or GOING_AWAY)

    async def _not_opened(self, answer: Answer, headers: Headers, started_at: float) -> StreamEnding:
        first = self.state.first()
        if first is None and (messages := await self._gateway.store.messages(self.state.stream, 0, 1)):
            first = messages[0][0]
        return self.state.not_opened(first, answer, headers, started_at, self._clock())

    async def _talk(self, socket: WebSocketConnection, headers: Headers) -> StreamEnding:
        state, stream = self.state, self.state.stream
        state.opened(self._clock())
        log.info("stream.opened", stream=stream.key, destination=stream.origin, peer=socket.answer.peer)
        self.stir()
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            while socket.lost is None and (body := state.next_body(self._clock())) is not None:
                await socket.send(body)
            self._confirm(socket, headers)
            why = socket.lost
            lost = None if why is None else why.answer(Timing(0.0), socket.answer.peer, reused=True)
            if ending := state.ending(lost, headers, self._clock()):
                return ending

    def _confirm(self, socket: WebSocketConnection, headers: Headers) -> None:
        was_full = self.state.room <= 0
        for attempt in self.state.confirm(socket.confirmed, socket.answer, headers, self._clock()):
            self._record(attempt)
        if was_full and self.state.room > 0:
            self._room()
