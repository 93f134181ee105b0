"""Admission: a request gets a place in the queue before its body is read, or a 429 that says when to come again. Then
the body is read, in pieces and within bounds.

A client that asked (`Expect: 100-continue`) is not told to go on before it has a place. Any other may be sending
already: the answer goes out, what still arrives is dropped for a few seconds, and only then the connection is closed.
Closed at once it would be reset, and the client might never see the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler

from engine.api.errors import Rejected
from engine.dialects.deepgram import BadRequest
from engine.errors import TooLarge
from engine.jobs.admission import Admission, Reservation

_CHUNK = 256 * 1024
_CONTINUE = "100-continue"
_INCOMPLETE = BadRequest("ASR_UNPROCESSABLE_ENTITY", "Unable to read the entire client request.", 422)


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request may take: bytes of audio, and seconds between two pieces of its body. `keep_alive` is how many
    seconds a caller who waits for a result hears nothing."""

    upload: int = 2 * 1024**3
    stall: float = 60.0
    keep_alive: float = 5.0


class Body:
    """A request's body as it arrives, to be read once."""

    def __init__(self, http: web.Request, limit: int, stall: float, place: Reservation | None = None) -> None:
        """At most `limit` bytes, `stall` seconds between two pieces, and in a place no more than there is room for."""
        self._http = http
        self._limit = limit
        self._stall = stall
        self._place = place

    async def pieces(self) -> AsyncIterator[bytes]:
        """Raises TooLarge, QueueFull, and Rejected where the caller falls silent or leaves."""
        if (self._http.content_length or 0) > self._limit:
            raise TooLarge(self._limit)
        await self._continue()
        received = 0
        while chunk := await self._piece():
            received += len(chunk)
            if received > self._limit:
                raise TooLarge(self._limit)
            if self._place:
                await self._place.arrived(len(chunk))
            yield chunk

    async def weigh(self, fetched: int) -> None:
        """Count bytes that were fetched in the request's name. Raises QueueFull where there is no room for them."""
        if self._place:
            await self._place.arrived(fetched)

    async def whole(self) -> bytes:
        """All of it, where the limit is low enough for that. Raises as `pieces` does."""
        return b"".join([piece async for piece in self.pieces()])

    async def _continue(self) -> None:
        """Tell a client that waits for it to send its body."""
        if _asks_first(self._http) and self._http.version >= HttpVersion11:
            await self._http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._http.writer.output_size = 0  # or aiohttp takes the answer's head for sent

    async def _piece(self) -> bytes:
        try:
            async with asyncio.timeout(self._stall):
                return await self._http.content.read(_CHUNK)
        except (TimeoutError, ConnectionError, web.RequestPayloadError):
            raise Rejected(_INCOMPLETE) from None


@asynccontextmanager
async def admitted(
    http: web.Request, admission: Admission, key_id: str | None, limit: int, stall: float
) -> AsyncIterator[Body]:
    """The body of a request that has a place in the queue: inside of the block, which ends with the answer. One that
    does not announce its size is weighed as it comes.

    Raises TooLarge for one that announces more than `limit` bytes, QueueFull where there is no room for it, and
    StoreUnavailable.
    """
    size = http.content_length or 0
    if size > limit:
        raise TooLarge(limit)
    place = await admission.enter(key_id, size)
    try:
        yield Body(http, limit, stall, place)
    finally:
        place.leave()


def is_json(http: web.Request) -> bool:
    """Whether the body claims to be JSON; everything else is taken for bytes, whatever its name."""
    return http.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "application/json"


async def defer_continue(http: web.Request) -> None:
    """In place of aiohttp's own answer to `Expect`, which asks for a body before anybody looked at the request."""
    if not _asks_first(http):
        raise web.HTTPExpectationFailed


@web.middleware
async def close_unread(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Ends connections on which a body was left unread."""
    response = await handler(request)
    if not response.prepared and not request.content.is_eof():
        response.force_close()
    return response


def _asks_first(http: web.Request) -> bool:
    return http.headers.get("Expect", "").lower() == _CONTINUE
