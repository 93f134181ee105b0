"""`GET /v1/listen`, upgraded: audio comes in as it is spoken, what is heard goes out to the caller or to a callback."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from engine.api.auth import Keys, authenticate_socket, session_id
from engine.api.deepgram.recorded import PATH
from engine.api.errors import REQUEST_ID, Rejected
from engine.api.socket import Socket, refusal
from engine.api.trace import traceparent
from engine.dialects.catalogue import Catalogue
from engine.dialects.deepgram import (
    BadRequest,
    DeepgramProtocol,
    RawReader,
    callback_headers,
    invalid_callback,
    parse_live,
    unresolved_callback,
)
from engine.dialects.live import Ending, LiveRequest
from engine.errors import Busy, RecogniserUnavailable, TooSlow, WorkerDied
from engine.live.conversation import Conversation, SessionEnded
from engine.live.reopening import Reopening
from engine.live.session import Limits
from engine.live.sessions import Sessions
from engine.request import RawFormat
from engine.transcript import Model
from relay.guard.resolver import Resolver, Unresolved, admit
from relay.guard.rules import Refusal
from relay.guard.url import LIVE


@dataclass(frozen=True, slots=True)
class LiveParts:
    """What the endpoint works with. `mirror`: whether callers see what goes to their callbacks. `max_message` is in
    bytes."""

    keys: Keys
    catalogue: Catalogue
    raw_format: RawReader
    byte_rate: Callable[[RawFormat | None], float | None]
    resolver: Resolver
    sessions: Sessions
    limits: Limits = field(default_factory=Limits)
    max_message: int = 1024 * 1024
    mirror: bool = False
    clock: Callable[[], float] = time.time


def live_routes(parts: LiveParts) -> list[web.RouteDef]:
    """The endpoint, ready to be added to an application."""
    return [web.get(PATH, ListenLive(parts).answer, allow_head=False)]


class ListenLive:
    """The endpoint, one method per step."""

    def __init__(self, parts: LiveParts) -> None:
        self._parts = parts
        self._reopening = Reopening()

    async def answer(self, http: web.Request) -> web.StreamResponse:
        """Serve one session."""
        socket = Socket(http, self._parts.max_message)
        conversation = await self._begin(await self._read(http), session_id(http))
        try:
            await socket.open()
            await conversation.attend(socket)
        finally:
            conversation.end(Ending.LEFT)
        return socket.response

    async def _read(self, http: web.Request) -> LiveRequest:
        parts = self._parts
        asked = parse_live(
            list(http.rel_url.query.items()),
            key_id=await authenticate_socket(http, parts.keys),
            request_id=http[REQUEST_ID],
            catalogue=parts.catalogue,
            raw_format=parts.raw_format,
            byte_rate=parts.byte_rate,
            traceparent=traceparent(http),
        )
        if isinstance(asked, BadRequest):
            raise Rejected(asked)
        if asked.request.callback:
            await self._judge_callback(asked.request.callback.url, session_id(http))
        return asked

    async def _judge_callback(self, url: str, client: str) -> None:
        match await admit(url, self._parts.resolver, LIVE):
            case Refusal(message=message):
                raise Rejected(invalid_callback(f"callback: {message}"))
            case Unresolved(detail=detail):
                raise Rejected(unresolved_callback(f"callback: {detail}"))
        if wait := self._reopening.wait(client, url, self._parts.clock()):
            raise Rejected(_just_lost(wait), {"Retry-After": str(wait)})

    async def _begin(self, asked: LiveRequest, client: str) -> Conversation:
        def protocol(model: Model, now: float) -> DeepgramProtocol:
            return DeepgramProtocol(asked, model, now, mirror=self._parts.mirror)

        def remember(ended: SessionEnded) -> None:
            if client and ended.ending is Ending.CALLBACK_LOST and asked.request.callback:
                self._reopening.lost(client, asked.request.callback.url, self._parts.clock())

        try:
            headers = callback_headers(asked.request)
            return await self._parts.sessions.open(asked, self._parts.limits, protocol, headers, remember)
        except (Busy, TooSlow, RecogniserUnavailable, WorkerDied) as error:
            raise refusal(error) from None


def _just_lost(wait: int) -> BadRequest:
    message = f"callback: the one before was lost a moment ago; mend the receiver, or try again in {wait} s."
    return BadRequest("TOO_MANY_REQUESTS", f"Too many requests. Please try again later. {message}", 429)
