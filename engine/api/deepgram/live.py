"""`GET /v1/listen`, upgraded: audio comes in as it is spoken, what is heard goes out to the caller or to a callback."""

from __future__ import annotations

import math

from aiohttp import web

from engine.api.auth import authenticate_socket, session_id, traceparent
from engine.api.context import ApiContext
from engine.api.deepgram.recorded import judge_callback
from engine.api.errors import REQUEST_ID, TOO_MANY, Rejected
from engine.api.socket import REFUSALS, CallerSocket, refusal
from engine.audio.pcm import bytes_per_second, raw_format
from engine.dialects.deepgram import BadRequest, DeepgramProtocol, callback_headers, parse_live
from engine.dialects.live import EndReason, LiveRequest
from engine.dialects.warnings import Unsupported
from engine.live.conversation import Conversation, SessionEnded
from engine.live.session import SessionLimits
from engine.live.sessions import LiveSessions
from engine.transcript import Model
from relay.guard.url import LIVE

_LOST_SECONDS = 30.0
_MOST_LOST = 10_000


class LostCallbacks:
    """Whose callback was lost, for half a minute: Deepgram's JavaScript client opens again what was killed, thirty
    times, with the same callback. `now` is in seconds."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], float] = {}

    def add(self, client: str, url: str, now: float) -> None:
        """The callback at `url` was lost to a session of this client's."""
        self._until = {key: until for key, until in self._until.items() if until > now}
        if len(self._until) < _MOST_LOST:
            self._until[client, url] = now + _LOST_SECONDS

    def wait(self, client: str, url: str, now: float) -> int:
        """After how many seconds the same may be tried again; 0 for at once."""
        return max(0, math.ceil(self._until.get((client, url), now) - now))


class DeepgramLive:
    """Each request is one session, which ends with its socket: nobody comes back to it."""

    def __init__(
        self,
        api: ApiContext,
        sessions: LiveSessions,
        limits: SessionLimits,
        max_message: int,
        *,
        mirror: bool = False,
        unsupported: Unsupported = "warn",
    ) -> None:
        """`max_message` is in bytes; `mirror`: whether callers see what goes to their callbacks; `unsupported` is what
        becomes of parameters that cannot be honoured and do no harm when they are missing."""
        self._api = api
        self._sessions = sessions
        self._limits = limits
        self._max_message = max_message
        self._mirror = mirror
        self._unsupported: Unsupported = unsupported
        self._lost = LostCallbacks()

    async def answer(self, http: web.Request) -> web.StreamResponse:
        socket = CallerSocket(http, self._max_message)
        conversation = await self._begin(await self._read(http), session_id(http))
        try:
            await socket.open()
            await conversation.attend(socket)
        finally:
            conversation.end(EndReason.LEFT)
        return socket.response

    async def _read(self, http: web.Request) -> LiveRequest:
        asked = parse_live(
            list(http.rel_url.query.items()),
            key_id=await authenticate_socket(http, self._api.keys),
            request_id=http[REQUEST_ID],
            catalogue=self._api.catalogue,
            raw_format=raw_format,
            byte_rate=bytes_per_second,
            traceparent=traceparent(http),
            unsupported=self._unsupported,
        )
        if isinstance(asked, BadRequest):
            raise Rejected(asked)
        if asked.request.callback:
            url = asked.request.callback.url
            await judge_callback(asked.request, self._api.resolver, LIVE)
            if wait := self._lost.wait(session_id(http), url, self._api.clock()):
                raise Rejected(_just_lost(wait), {"Retry-After": str(wait)})
        return asked

    async def _begin(self, asked: LiveRequest, client: str) -> Conversation:
        def protocol(model: Model, now: float) -> DeepgramProtocol:
            return DeepgramProtocol(asked, model, now, mirror=self._mirror)

        def remember(ended: SessionEnded) -> None:
            if client and ended.ending is EndReason.CALLBACK_LOST and asked.request.callback:
                self._lost.add(client, asked.request.callback.url, self._api.clock())

        try:
            headers = callback_headers(asked.request)
            return await self._sessions.open(asked, self._limits, protocol, headers, remember)
        except REFUSALS as error:
            raise refusal(error) from None


def _just_lost(wait: int) -> BadRequest:
    message = f"callback: the one before was lost a moment ago; mend the receiver, or try again in {wait} s."
    return BadRequest("TOO_MANY_REQUESTS", TOO_MANY, 429, message)
