"""A caller's WebSocket, as sessions see it. What is refused is refused before the upgrade, with an answer to read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import WebSocketError, WSCloseCode, WSMsgType, web

from engine.api.errors import REQUEST_ID, TOO_MANY, Rejected
from engine.dialects.deepgram import BadRequest
from engine.dialects.live import EndReason, Goodbye
from engine.dialects.statuses import status_name
from engine.errors import Busy, RecogniserUnavailable, TooSlow, WorkerDied

_SEND_SECONDS = 10.0
_CLOSE_SECONDS = 2.0
_LONGEST_REASON = 123  # bytes: a close frame has room for no more
_FOR_GOOD = frozenset({0, WSCloseCode.OK, WSCloseCode.GOING_AWAY})  # 0: a close frame without a code
_RETRY_SECONDS = "5"

REFUSALS = (Busy, TooSlow, RecogniserUnavailable, WorkerDied)
"""Why a session cannot begin."""

_NO_UPGRADE = BadRequest(
    "UPGRADE_REQUIRED", "Live audio is sent over a WebSocket: connect with a ws:// or wss:// client.", 426
)
_NO_ROOM = BadRequest("TOO_MANY_REQUESTS", TOO_MANY, 429, "No more live sessions fit in now.")
_NO_CAPACITY = BadRequest("TOO_MANY_REQUESTS", TOO_MANY, 429, "No more live sessions can be kept in real time now.")
_TOO_SLOW = "The recogniser of this model is too slow for live sessions on this server. Use another model."
_NO_RECOGNISER = BadRequest(
    "SERVICE_UNAVAILABLE", "The recogniser of this model cannot be used now. The server's log says why.", 503
)


class CallerSocket:
    """One connection. `protocol` of those that were offered, which a browser insists on, is the first."""

    def __init__(self, http: web.Request, max_message: int) -> None:
        """Raises Rejected for a request that cannot become a WebSocket."""
        offered = http.headers.get("Sec-WebSocket-Protocol", "").partition(",")[0].strip()
        # Not compressed: that would cost each session more memory than everything else of it.
        self.response = web.WebSocketResponse(
            protocols=(offered,) if offered else (), compress=False, max_msg_size=max_message, timeout=_CLOSE_SECONDS
        )
        if not self.response.can_prepare(http):
            raise Rejected(_NO_UPGRADE, {"Upgrade": "websocket"})
        self._http = http
        self.farewell: EndReason | None = None

    async def open(self) -> None:
        """Upgrade the connection. ConnectionError where the caller has left."""
        self.response.headers["dg-request-id"] = self._http[REQUEST_ID]
        await self.response.prepare(self._http)

    async def send(self, text: str) -> None:
        """Write a message. Who does not read for long is taken for gone."""
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                await self.response.send_str(text)
        except TimeoutError:
            if self._http.transport:
                self._http.transport.abort()
            raise ConnectionAbortedError from None

    async def close(self, goodbye: Goodbye) -> None:
        """Say goodbye. No news to a caller who said so first."""
        reason = goodbye.reason.encode()[:_LONGEST_REASON].decode(errors="ignore").encode()
        await self.response.close(code=goodbye.code, message=reason)

    async def __aiter__(self) -> AsyncIterator[bytes | str]:
        """The messages, until there are no more."""
        while True:
            message = await self.response.receive()
            if message.type not in {WSMsgType.BINARY, WSMsgType.TEXT}:
                self.farewell = _farewell(message.type, message.data)
                return
            yield message.data


def refusal(error: Busy | TooSlow | RecogniserUnavailable | WorkerDied, too_slow: int = 503) -> Rejected:
    """The answer to a session that cannot begin. `too_slow` is the status where none ever can."""
    match error:
        case TooSlow():
            return Rejected(BadRequest(status_name(too_slow), _TOO_SLOW, too_slow))
        case Busy(reason="capacity"):
            reply = _NO_CAPACITY
        case Busy():
            reply = _NO_ROOM
        case _:
            reply = _NO_RECOGNISER
    return Rejected(reply, {"Retry-After": _RETRY_SECONDS})


def _farewell(kind: WSMsgType, data: object) -> EndReason | None:
    """None where the connection broke, after which a caller may come back."""
    if kind is WSMsgType.CLOSE and data in _FOR_GOOD:
        return EndReason.LEFT
    if kind is WSMsgType.ERROR and isinstance(data, WebSocketError) and data.code == WSCloseCode.MESSAGE_TOO_BIG:
        return EndReason.TOO_LARGE
    return None
