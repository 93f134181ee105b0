"""The fast receiver of the benchmarks: a bare asyncio protocol that answers 204 to every request.

    python -m tests.bench.sink PORT [HANG_ADDRESS ...]

It listens on all of 127.0.0.0/8, so that every loopback address is a destination of its own. It never answers a
request that comes in by way of a HANG_ADDRESS, or for the path /hanging, and takes half a second, more or less, for one
to /slow. A line on standard output says that it is ready.

It stays on the last processor: left to itself, the scheduler often has sender and receiver share one of two, and the
same code is half as fast in one run as in the next.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import sys
from typing import cast

import uvloop

HANGING_PATH = "/hanging"
SLOW_PATH = "/slow"
SLOW_SECONDS = 0.5

_HANGS = f"POST {HANGING_PATH} ".encode()
_IS_SLOW = f"POST {SLOW_PATH} ".encode()
_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Sink(asyncio.Protocol):
    """Counts down the bytes of each request, and answers."""

    def __init__(self, hang: frozenset[str]) -> None:
        self._hang = hang
        self._head = b""
        self._left = 0
        self._seconds = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._answers = transport.get_extra_info("sockname")[0] not in self._hang

    def data_received(self, data: bytes) -> None:
        while data:
            data = self._body(data) if self._left else self._start(data)

    def _start(self, data: bytes) -> bytes:
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            return b""
        self._head = b""
        self._answers &= not head.startswith(_HANGS)
        self._seconds = SLOW_SECONDS if head.startswith(_IS_SLOW) else 0.0
        length = _LENGTH.search(head)
        self._left = int(length[1]) if length else 0
        if not self._left:
            self._reply()
        return rest

    def _body(self, data: bytes) -> bytes:
        taken = min(self._left, len(data))
        self._left -= taken
        if not self._left:
            self._reply()
        return data[taken:]

    def _reply(self) -> None:
        if self._answers and self._seconds:
            asyncio.get_running_loop().call_later(self._seconds * random.uniform(0.6, 1.4), self._answer)
        elif self._answers:
            self._answer()

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_ANSWER)


async def serve(port: int, hang: frozenset[str]) -> None:
    """Until killed."""
    server = await asyncio.get_running_loop().create_server(lambda: Sink(hang), "0.0.0.0", port, backlog=4096)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    uvloop.run(serve(int(sys.argv[1]), frozenset(sys.argv[2:])))
