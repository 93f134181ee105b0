"""A receiver of live results inside the test's own loop: a real WebSocket server that hears of everything at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter

from aiohttp import WSMsgType, web


@dataclass
class Conversation:
    """One WebSocket: the headers that opened it, the texts in the order in which they came, and the close code."""

    headers: Mapping[str, str]
    socket: web.WebSocketResponse
    texts: list[str] = field(default_factory=list)
    heard_at: list[float] = field(default_factory=list)
    close_code: int | None = None
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, ready: Callable[[Conversation], bool], within: float = 20.0) -> None:
        """Wait until something is so. Raises TimeoutError."""
        async with asyncio.timeout(within), self.news:
            await self.news.wait_for(lambda: ready(self))

    async def heard(self, count: int, within: float = 20.0) -> list[str]:
        """The texts, once there are so many."""
        await self.until(lambda it: len(it.texts) >= count, within)
        return self.texts

    async def closed(self, within: float = 20.0) -> int:
        """The code with which the relay said goodbye; 1006 if it did not."""
        await self.until(lambda it: it.close_code is not None, within)
        return self.close_code or 1006

    def drop(self) -> None:
        """Reset the connection, without a goodbye."""
        transport = self.socket._req.transport if self.socket._req else None
        assert transport is not None
        transport.abort()

    async def listen(self) -> None:
        """Hear everything."""
        async for message in self.socket:
            if message.type is WSMsgType.TEXT:
                self.heard_at.append(perf_counter())
                self.texts.append(message.data)
                await self.tell()
        self.close_code = self.socket.close_code or 1006
        await self.tell()

    async def tell(self) -> None:
        """Wake whoever waits."""
        async with self.news:
            self.news.notify_all()


Behaviour = Callable[[Conversation], Awaitable[None]]


@dataclass
class Receiver:
    """All conversations, in the order in which they began."""

    port: int
    opened: asyncio.Queue[Conversation]
    refused: asyncio.Queue[web.Request]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"ws://127.0.0.1:{self.port}/live"

    async def next(self, within: float = 20.0) -> Conversation:
        """The next one that begins."""
        async with asyncio.timeout(within):
            return await self.opened.get()


@asynccontextmanager
async def receiving(
    behaviour: Behaviour = Conversation.listen,
    answer: Callable[[web.Request], web.Response] | None = None,
    port: int = 0,
) -> AsyncIterator[Receiver]:
    """Listens on loopback until the block ends; with an `answer`, it upgrades nobody."""
    receiver = Receiver(0, asyncio.Queue(), asyncio.Queue())

    async def serve(request: web.Request) -> web.StreamResponse:
        if answer is not None:
            receiver.refused.put_nowait(request)
            return answer(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        conversation = Conversation(dict(request.headers), socket)
        receiver.opened.put_nowait(conversation)
        await behaviour(conversation)
        return socket

    application = web.Application()
    application.router.add_get("/{path:.*}", serve)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()
