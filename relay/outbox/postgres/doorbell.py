"""Rings by NOTIFY: the tables' own triggers do it, at the commit and for every producer, psql included."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import asyncpg

from relay.outbox.postgres.connection import CONNECT_SECONDS

CHANNEL = "outspoken"
_AGAIN_SECONDS = 1.0


class SilentBell:
    """There is nothing to do: the server rings at the commit."""

    def ring(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class PostgresDoorbell:
    """A session that listens, in the relay's own event loop. While it is lost, the safety poll stands in."""

    def __init__(self, url: str, application: str, *heard: asyncio.Event) -> None:
        self._url = url
        self._application = application
        self._heard = heard
        self._listening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen from now on."""
        opened = asyncio.Event()
        self._listening = asyncio.create_task(self._listen_forever(opened), name="doorbell")
        await opened.wait()

    async def close(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening

    async def _listen_forever(self, tried: asyncio.Event) -> None:
        while True:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._listen(tried)
            tried.set()
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _listen(self, listening: asyncio.Event) -> None:
        lost = asyncio.Event()
        settings = {"application_name": self._application}
        session = await asyncpg.connect(self._url, timeout=CONNECT_SECONDS, server_settings=settings)
        try:
            session.add_termination_listener(lambda _: lost.set())
            await session.add_listener(CHANNEL, self._hear)
            listening.set()
            self._hear()  # whatever was committed while nobody listened
            await lost.wait()
        finally:
            session.terminate()

    def _hear(self, *_: object) -> None:
        for event in self._heard:
            event.set()
