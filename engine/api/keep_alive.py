"""Keeps the connection of a caller who waits: status and headers, then a space now and then, then the answer's JSON.

No JSON parser minds the spaces, nor a reader of events their comments, and every client and proxy whose timeout is
counted from the last byte stays. The price: the status is 200 before the end is known, so that a late failure can only
be an error object under it. Text has no such filler: its callers wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler

from engine.api.errors import answered, identity

_GONE = 499
"""What proxies log for a caller who left; nobody receives it."""


@dataclass(frozen=True, slots=True)
class Filling:
    """What is sent before a late answer of a type: its filler, nothing where it is empty, and the form of an error in
    its place, which comes as JSON."""

    content_type: str
    filler: bytes
    error: Callable[[bytes], bytes] = bytes


JSON = Filling("application/json", b" ")
TEXT = Filling("text/plain", b"")


async def kept_alive(
    http: web.Request, handler: Handler, interval: float, filling: Filling = JSON
) -> web.StreamResponse:
    """The answer of `handler`. One that comes within `interval` seconds, failures too, goes out as it is; before a
    later one the filler goes out every `interval` seconds. A caller who leaves cancels the work."""
    work = asyncio.create_task(answered(http, handler))
    try:
        while not await _ended(work, interval):
            if http.transport is None:
                return web.Response(status=_GONE)
            if filling.filler:
                return await _send_filler(http, work, interval, filling)
        return work.result()
    finally:
        work.cancel()
        await asyncio.wait({work})


async def _send_filler(
    http: web.Request, work: asyncio.Task[web.StreamResponse], interval: float, filling: Filling
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": filling.content_type, **identity(http)})
    with suppress(ConnectionError):  # the caller left: there is nobody to tell
        await response.prepare(http)
        await response.write(filling.filler)
        while not await _ended(work, interval):
            await response.write(filling.filler)
        answer = work.result()
        assert isinstance(answer, web.Response)
        assert isinstance(answer.body, bytes)
        same = answer.content_type == filling.content_type
        await response.write_eof(answer.body if same else filling.error(answer.body))
    return response


async def _ended(work: asyncio.Task[web.StreamResponse], interval: float) -> bool:
    await asyncio.wait({work}, timeout=interval)
    return work.done()
