"""Keeps the connection of a caller who waits: status and headers, then a space now and then, then the answer's JSON.

No JSON parser minds the spaces, and every client and proxy whose timeout is counted from the last byte stays. The
price: the status is 200 before the end is known, so that a late failure can only be an error object under it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web
from aiohttp.typedefs import Handler

from engine.api.errors import REQUEST_ID, answered

_GONE = 499
"""What proxies log for a caller who left; nobody receives it."""


async def kept_alive(http: web.Request, handler: Handler, interval: float) -> web.StreamResponse:
    """The answer of `handler`, a JSON document. One that comes within `interval` seconds, failures too, goes out as it
    is; before a later one a space goes out every `interval` seconds. A caller who leaves cancels the work."""
    work = asyncio.create_task(answered(http, handler))
    try:
        if await _ended(work, interval):
            return work.result()
        if http.transport is None:
            return web.Response(status=_GONE)
        return await _send_spaces(http, work, interval)
    finally:
        work.cancel()
        await asyncio.wait({work})


async def _send_spaces(
    http: web.Request, work: asyncio.Task[web.StreamResponse], interval: float
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", "dg-request-id": http[REQUEST_ID]})
    with suppress(ConnectionError):  # the caller left: there is nobody to tell
        await response.prepare(http)
        await response.write(b" ")
        while not await _ended(work, interval):
            await response.write(b" ")
        answer = work.result()
        assert isinstance(answer, web.Response)
        assert isinstance(answer.body, bytes)
        await response.write_eof(answer.body)
    return response


async def _ended(work: asyncio.Task[web.StreamResponse], interval: float) -> bool:
    await asyncio.wait({work}, timeout=interval)
    return work.done()
