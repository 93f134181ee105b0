"""The door in front of the queue: a request gets a place before its body is read, or a 429 that says when to come.

A client that asked (`Expect: 100-continue`) is not told to go on before it has one. Any other may be sending already:
the answer goes out, what still arrives is dropped for a few seconds, and only then the connection is closed. Closed at
once it would be reset, and the client might never see the answer.
"""

from __future__ import annotations

from typing import Protocol

from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler

from engine.api.errors import Rejected
from engine.dialects.deepgram import BadRequest
from engine.errors import TooLarge
from engine.jobs.admission import Place, QueueFull

_PLACE: web.RequestKey[Place] = web.RequestKey("place", Place)
_INVITED: web.RequestKey[bool] = web.RequestKey("invited", bool)


class Doorkeeper(Protocol):
    """Who knows whether there is room. Raises QueueFull, StoreUnavailable."""

    async def enter(self, key_id: str | None, size: int = 0) -> Place: ...


async def enter(http: web.Request, keeper: Doorkeeper, key_id: str | None, limit: int) -> None:
    """Take a place for a request, until it has been answered. A body that does not announce its size is weighed as it
    comes.

    Raises TooLarge for one that announces more than `limit` bytes, Rejected where there is no room for it.
    """
    size = http.content_length or 0
    if size > limit:
        raise TooLarge(limit)
    try:
        http[_PLACE] = await keeper.enter(key_id, size)
    except QueueFull as full:
        raise _busy(full) from None


async def invite(http: web.Request) -> None:
    """Tell a client that waits for it to send its body; once."""
    if http.headers.get("Expect", "").lower() == "100-continue" and _INVITED not in http:
        http[_INVITED] = True
        if http.version >= HttpVersion11:
            await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            http.writer.output_size = 0  # or aiohttp takes the answer's head for sent


async def weigh(http: web.Request, count: int) -> None:
    """So many bytes of a body came. Raises Rejected where there is no room for them."""
    place = http.get(_PLACE)
    try:
        if place:
            await place.arrived(count)
    except QueueFull as full:
        raise _busy(full) from None


async def uninvited(http: web.Request) -> None:
    """In place of aiohttp's own answer to `Expect`, which invites a body before anybody looked at the request."""
    if http.headers.get("Expect", "").lower() != "100-continue":
        raise web.HTTPExpectationFailed


@web.middleware
async def mind(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives places back, and ends connections on which a body was left unread."""
    try:
        response = await handler(request)
    finally:
        if place := request.get(_PLACE):
            place.leave()
    if not response.prepared and not request.content.is_eof():
        response.force_close()
    return response


def _busy(full: QueueFull) -> Rejected:
    message = f"Too many requests. Please try again later. {full} Retry in {full.wait} s."
    return Rejected(BadRequest("TOO_MANY_REQUESTS", message, 429), {"Retry-After": str(full.wait)})
