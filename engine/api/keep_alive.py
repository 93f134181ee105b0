"""Keeps the connection of a caller who waits: status and headers, then a space now and then, then the answer's JSON.

No JSON parser minds the spaces, nor a reader of events their comments, and every client and proxy whose timeout is
counted from the last byte stays. The price: the status is 200 before the end is known, so that a late failure can only
be an error object under it. Text has no such filler: its callers wait. Where parts of an answer come before its end,
they go out at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Handler

from engine.api.errors import answered, identity

_GONE = 499
"""What proxies log for a caller who left; nobody receives it."""


@dataclass(frozen=True, slots=True)
class Filling:
    """What is sent before a late answer of a type: its headers, its filler, nothing where it is empty, and the form of
    an error in its place, which comes as JSON."""

    content_type: str
    filler: bytes
    error: Callable[[bytes], bytes] = bytes
    headers: Mapping[str, str] = field(default_factory=dict)


JSON = Filling("application/json", b" ")
TEXT = Filling("text/plain", b"")


class Parts:
    """What of an answer is there before its end. Whoever makes the answer takes what nobody has sent by then."""

    def __init__(self) -> None:
        self._waiting = b""
        self._some = asyncio.Event()

    def add(self, part: bytes) -> None:
        self._waiting += part
        self._some.set()

    def take(self) -> bytes:
        """All that is there and was not taken."""
        taken, self._waiting = self._waiting, b""
        self._some.clear()
        return taken

    async def come(self) -> None:
        """Wait until there are some."""
        await self._some.wait()


async def kept_alive(
    http: web.Request, handler: Handler, interval: float, filling: Filling = JSON, parts: Parts | None = None
) -> web.StreamResponse:
    """The answer of `handler`. One that comes within `interval` seconds, failures too, goes out as it is; before a
    later one the filler goes out every `interval` seconds, and each of its `parts` when it is there. A caller who
    leaves cancels the work."""
    work, parts = asyncio.create_task(answered(http, handler)), parts or Parts()
    try:
        while not await _ended(work, interval, parts):
            if http.transport is None:
                return web.Response(status=_GONE)
            if filling.filler:
                return await _send_filler(http, work, interval, filling, parts)
        return work.result()
    finally:
        work.cancel()
        await asyncio.wait({work})


async def _send_filler(
    http: web.Request, work: asyncio.Task[web.StreamResponse], interval: float, filling: Filling, parts: Parts
) -> web.StreamResponse:
    headers = {"Content-Type": filling.content_type, **filling.headers, **identity(http)}
    response = web.StreamResponse(headers=headers)
    with suppress(ConnectionError):  # the caller left: there is nobody to tell
        await response.prepare(http)
        await response.write(parts.take() or filling.filler)
        while not await _ended(work, interval, parts):
            await response.write(parts.take() or filling.filler)
        answer = work.result()
        assert isinstance(answer, web.Response)
        assert isinstance(answer.body, bytes)
        same = answer.content_type == filling.content_type
        await response.write_eof(parts.take() + (answer.body if same else filling.error(answer.body)))
    return response


async def _ended(work: asyncio.Task[web.StreamResponse], interval: float, parts: Parts) -> bool:
    """Whether the work has, once that is so, or some part is there, or the time is over."""
    coming = asyncio.create_task(parts.come())
    await asyncio.wait({work, coming}, timeout=interval, return_when=asyncio.FIRST_COMPLETED)
    coming.cancel()
    return work.done()
