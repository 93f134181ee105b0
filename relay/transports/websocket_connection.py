"""An open WebSocket for one stream, written in order.

What was written counts as received once a ping that was sent after it is answered: TCP alone would take messages for a
receiver that died a minute ago. One ping is under way at a time, so a busy socket needs few of them.

The receiver has nothing to say but pongs, and no reason to be trusted. What it sends besides is read and dropped,
within bounds: a frame too large, or more frames than an echo would bring, and the socket is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal

import aiohttp

from relay.policy.attempt import Answer, Failure
from relay.transports import fault
from relay.transports.deadline import Deadlines
from relay.transports.fault import Fault

_PING, _PONG = aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG
_CLOSE, _ERROR = aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR
_NORMAL_CLOSURE = (1000).to_bytes(2, "big")
_GONE = (aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED)


@dataclass(frozen=True, slots=True)
class WebSocketBounds:
    """What the receiver of a stream may cost us. Times are seconds, sizes bytes.

    `open_timeout` spans lookup, TCP, TLS and the upgrade. A ping that is not answered within `pong_timeout` loses the
    socket, and so does a message that cannot be written for as long; an idle socket is pinged every `ping_seconds`.
    Between two answers to our pings, `unasked` frames are taken, each of at most `frame_bytes`.
    """

    open_timeout: float = 10.0
    ping_seconds: float = 20.0
    pong_timeout: float = 20.0
    close_timeout: float = 5.0
    frame_bytes: int = 64 * 1024
    unasked: int = 1000


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A connection that has become a WebSocket: aiohttp's handle on it, the session that owns the handle and nothing
    else, and the connection itself, which can be ended without being flushed to a receiver that reads nothing."""

    handle: aiohttp.ClientWebSocketResponse[Literal[True]]
    session: aiohttp.ClientSession
    transport: asyncio.Transport


class WebSocketConnection:
    """`on_change` is called whenever `confirmed` has grown, or the socket is lost."""

    def __init__(self, upgraded: Upgraded, answer: Answer, keepalive: Keepalive, on_change: Callable[[], None]) -> None:
        self.answer = answer
        self.written = 0
        self.confirmed = 0
        self.lost: Fault | None = None
        self._handle = upgraded.handle
        self._session = upgraded.session
        self._transport = upgraded.transport
        self._keepalive = keepalive
        self._on_change = on_change
        self._asked = 0
        self._waiting = False  # for an answer to a ping
        self._closing = False
        self._reading = asyncio.create_task(self._read())
        self._idle_ping: asyncio.Task[None] | None = None
        keepalive.watch(self)

    async def send(self, text: bytes) -> None:
        """Write one message, waiting while the receiver is behind. Whoever sends on a lost socket sees it in `lost`."""
        self.written += 1
        await self._write(self._handle.send_str, text.decode())
        if not self._waiting:
            await self._ping()

    async def _ping(self) -> None:
        self._waiting, self._asked = True, self.written
        await self._write(self._handle.ping, b"%d" % self._asked)

    async def _write(self, write: Callable[[Any], Any], what: object) -> None:
        self._keepalive.expect(self)
        try:
            if self.lost is None:
                await write(what)
        except (OSError, aiohttp.ClientError) as error:
            self.lose(fault.reset(error))

    async def _read(self) -> None:
        unasked = 0
        while self.lost is None:
            message = await self._handle.receive()
            if message.type is _PONG and self._waiting and message.data == b"%d" % self._asked:
                unasked = 0
                await self._confirm()
            elif reason := _ending(message.type, message.data):
                await self._say_goodbye(reason)
                return
            else:
                unasked += 1
                await self._take_unasked(message.type, message.data, unasked)

    async def _confirm(self) -> None:
        self.confirmed, self._waiting = self._asked, False
        self._keepalive.answered(self)
        self._on_change()
        if self.written > self.confirmed:
            await self._ping()

    async def _take_unasked(self, kind: aiohttp.WSMsgType, data: object, unasked: int) -> None:
        if unasked > self._keepalive.bounds.unasked:
            self.lose(fault.misspoke("it sends more than anybody asked for"))
        elif kind is _PING:
            await self._write(self._handle.pong, data)

    async def _say_goodbye(self, reason: Fault) -> None:
        """Answer the receiver's goodbye, if it was one; aiohttp would wait for another where it gave no code."""
        if reason.failure is Failure.RESET and not self._closing:
            with suppress(OSError, aiohttp.ClientError):
                await self._handle.send_frame(_NORMAL_CLOSURE, _CLOSE)
        self.lose(reason)

    def ping_if_idle(self) -> None:
        """Nothing was said for a while: ask whether anybody is there."""
        if not self._waiting and self.lost is None and not self._closing:
            self._idle_ping = asyncio.create_task(self._ping())

    def lose(self, why: Fault) -> None:
        """The end of it, and the first reason counts. Not while it is being closed."""
        if self.lost is None and not self._closing:
            self.lost = why
            self._keepalive.forget(self)
            self._transport.abort()
            self._on_change()

    async def close(self, code: int) -> None:
        """Say goodbye, wait a little for the answer, and give everything back. A lost socket only gives back."""
        self._closing = True
        self._keepalive.forget(self)
        try:
            if self.lost is None:
                with suppress(TimeoutError, OSError, aiohttp.ClientError):
                    async with asyncio.timeout(self._keepalive.bounds.close_timeout):
                        await self._handle.close(code=code)
        finally:
            self._transport.abort()
            tasks = [task for task in (self._reading, self._idle_ping) if task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._handle.close()  # of which nothing is sent any more
            await self._session.close()


class Keepalive:
    """The clocks of all sockets: one timer for the pings that are due, one for the answers that are overdue."""

    def __init__(self, bounds: WebSocketBounds) -> None:
        self.bounds = bounds
        self._pings: Deadlines[WebSocketConnection] = Deadlines(self._ping)
        self._answers: Deadlines[WebSocketConnection] = Deadlines(self._give_up)
        self._expecting: set[WebSocketConnection] = set()

    def watch(self, socket: WebSocketConnection) -> None:
        """Have the socket pinged after a while, if it is idle then."""
        self._pings.watch(socket, perf_counter() + self.bounds.ping_seconds)

    def expect(self, socket: WebSocketConnection) -> None:
        """From now on an answer is due; one that is due already stays so."""
        if socket not in self._expecting:
            self._expecting.add(socket)
            self._answers.watch(socket, perf_counter() + self.bounds.pong_timeout)

    def answered(self, socket: WebSocketConnection) -> None:
        self._expecting.discard(socket)
        self._answers.forget(socket)

    def forget(self, socket: WebSocketConnection) -> None:
        """Nothing is expected any more."""
        self.answered(socket)
        self._pings.forget(socket)

    def _ping(self, socket: WebSocketConnection) -> None:
        self.watch(socket)
        socket.ping_if_idle()

    def _give_up(self, socket: WebSocketConnection) -> None:
        socket.lose(fault.unanswered(self.bounds.pong_timeout))


def _ending(kind: aiohttp.WSMsgType, data: object) -> Fault | None:
    if kind is _CLOSE:
        return Fault(Failure.RESET, f"The receiver closed the WebSocket ({data}).")
    if kind is _ERROR:
        return fault.misspoke("it broke the protocol, or its frame is too large")
    return Fault(Failure.RESET, "The connection ended without a goodbye.") if kind in _GONE else None
