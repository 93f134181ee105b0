"""The caller's side of a live session: its sockets, one at a time, and what it is to read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Protocol

from engine.dialects.live import EndReason, Goodbye

_MAX_UNREAD = 1024 * 1024
"""Characters that may wait for a caller to read them."""


class Caller(Protocol):
    """One socket of the caller's: iterate for its messages until it is closed, by whomever."""

    @property
    def farewell(self) -> EndReason | None:
        """Why it was closed, if the caller does not mean to come back; known once iterating has ended."""

    async def send(self, text: str) -> None:
        """Write a message; waits, but not for ever, while the caller does not read. ConnectionError where there is no
        caller any more."""

    async def close(self, goodbye: Goodbye) -> None:
        """Say goodbye, and wait for a moment for the answer."""

    def __aiter__(self) -> AsyncIterator[bytes | str]: ...


class CallerMessages:
    """Messages on their way to the caller. They wait while it has no socket, where it may come back (`resumable`);
    `count` is how many there were."""

    def __init__(self, *, resumable: bool) -> None:
        self.count = 0
        self._resumable = resumable
        self._caller: Caller | None = None
        self._unread: deque[str] = deque()
        self._unread_size = 0
        self._news = asyncio.Event()
        self._goodbye: Goodbye | None = None

    def put(self, text: str) -> bool:
        """For the caller to read, now or when it is back. False where so much was unread that all of it is dropped."""
        self.count += 1
        self._unread.append(text)
        self._unread_size += len(text)
        self._news.set()
        if self._unread_size <= _MAX_UNREAD:
            return True
        self._unread.clear()
        self._unread_size = 0
        return False

    def close(self, goodbye: Goodbye) -> None:
        """Nothing more comes: once the rest was read, the socket is closed."""
        self._goodbye = goodbye
        self._news.set()

    async def connect(self, caller: Caller) -> None:
        """A new socket takes the place of an old one."""
        former, self._caller = self._caller, caller
        if former:
            await former.close(Goodbye(1001, "Connected anew."))

    def disconnected(self, caller: Caller) -> EndReason | None:
        """A socket has closed: why the session ends with it; None where it goes on."""
        if self._caller is not caller:
            return None
        self._caller = None
        return caller.farewell or (None if self._resumable else EndReason.LEFT)

    async def write_to(self, caller: Caller) -> None:
        """Everything that is there to be read, and at the end goodbye."""
        with suppress(ConnectionError):
            while self._goodbye is None:
                self._news.clear()  # before, and not after: what comes meanwhile is news
                await self._write_unread(caller)
                await self._news.wait()
            await self._write_unread(caller)
        if self._goodbye:
            await caller.close(self._goodbye)

    async def _write_unread(self, caller: Caller) -> None:
        while self._unread:
            await caller.send(self._unread[0])
            if self._unread:  # all of it may have been dropped meanwhile
                self._unread_size -= len(self._unread.popleft())
