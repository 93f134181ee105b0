"""A fast receiver inside the test's own loop: it hears of every request at the moment at which it arrives.

It listens on all of 127.0.0.0/8, so that every loopback address is a destination of its own.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb"\r\nwebhook-id: *([^\r]+)", re.IGNORECASE)
_NUMBER = re.compile(rb"\r\nwebhook-attempt: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: its webhook-id, its attempt number and its body."""

    id: str
    number: int
    body: bytes


Reply = Callable[[int], None]
Handle = Callable[[Arrival, Reply], None]
"""Decides on a request, and calls the reply with a status: at once, later or never."""


class Conversation(asyncio.Protocol):
    """One connection. Only requests with a content-length are understood, one after another."""

    def __init__(self, handle: Handle, connected: Callable[[], None]) -> None:
        self._handle = handle
        self._connected = connected
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connected()

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, rest = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(_find(_LENGTH, head))
        if len(rest) < length:
            return
        self._data = rest[length:]
        self._handle(Arrival(_find(_ID, head), int(_find(_NUMBER, head)), rest[:length]), self._reply)

    def _reply(self, status: int) -> None:
        """A redirect says goodbye, so that new connections come all the time."""
        if self._transport.is_closing():
            return
        goodbye = "Connection: close\r\n" if status == 302 else ""
        self._transport.write(f"HTTP/1.1 {status} So\r\nContent-Length: 0\r\n{goodbye}\r\n".encode())
        if goodbye:
            self._transport.close()


def _find(pattern: re.Pattern[bytes], head: bytes) -> str:
    found = pattern.search(head)
    assert found, head
    return found[1].decode()


def _unnoticed() -> None:
    """Nobody asked to hear of connections."""


@asynccontextmanager
async def receiving(handle: Handle, connected: Callable[[], None] = _unnoticed) -> AsyncIterator[int]:
    """Listens until the block ends; yields the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(Conversation, handle, connected), "0.0.0.0", 0, backlog=4096)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def callback(port: int, destination: int) -> str:
    """The URL of the n-th destination."""
    return f"http://127.0.{1 + destination // 250}.{1 + destination % 250}:{port}/callback"
