"""A request's body as it arrives, in pieces and within bounds, for every vendor's endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web

from engine.api.admission import invite, weigh
from engine.api.errors import Rejected
from engine.dialects.deepgram import BadRequest
from engine.errors import TooLarge

_CHUNK = 256 * 1024
_INCOMPLETE = BadRequest("ASR_UNPROCESSABLE_ENTITY", "Unable to read the entire client request.", 422)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may take: bytes of audio, and seconds between two pieces of its body. `pause` is how many
    seconds a caller who waits for a result hears nothing."""

    upload: int = 2 * 1024**3
    stall: float = 60.0
    pause: float = 5.0


async def pieces(http: web.Request, limit: int, stall: float) -> AsyncIterator[bytes]:
    """The body in pieces, never more than `limit` bytes, and never more than there is room for. A caller who falls
    silent or leaves ends it with an error."""
    if (http.content_length or 0) > limit:
        raise TooLarge(limit)
    await invite(http)
    received = 0
    while chunk := await _piece(http, stall):
        received += len(chunk)
        if received > limit:
            raise TooLarge(limit)
        await weigh(http, len(chunk))
        yield chunk


async def whole(http: web.Request, limit: int, stall: float) -> bytes:
    """A body that is small enough to be held at once."""
    return b"".join([piece async for piece in pieces(http, limit, stall)])


def is_json(http: web.Request) -> bool:
    """Whether the body claims to be JSON; everything else is taken for bytes, whatever its name."""
    return http.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "application/json"


async def _piece(http: web.Request, stall: float) -> bytes:
    try:
        async with asyncio.timeout(stall):
            return await http.content.read(_CHUNK)
    except (TimeoutError, ConnectionError, web.RequestPayloadError):
        raise Rejected(_INCOMPLETE) from None
