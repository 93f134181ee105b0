"""Work that takes turns: in a thread, where it would hold up the event loop, or in the loop itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class _Turns:
    """One piece of work at a time, in the order in which it was asked for. It is told, by an event, that nobody waits
    for it any more.

    Shielded: what was begun ends before the next has its turn. How it ended is of no more interest to a caller who was
    cancelled, and must not hide the cancellation from it.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def _run(self, begin: Callable[[threading.Event], asyncio.Future[T]]) -> T:
        async with self._turn:
            abandoned = threading.Event()
            done = begin(abandoned)
            try:
                return await asyncio.shield(done)
            except asyncio.CancelledError:
                abandoned.set()
                while not done.done():
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait([done])
                raise


class SerialExecutor(_Turns):
    """In a thread, for connections that would hold up the event loop."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, work: Callable[[threading.Event], T]) -> T:
        loop = asyncio.get_running_loop()
        return await self._run(lambda abandoned: loop.run_in_executor(self._thread, work, abandoned))

    async def close(self, last: Callable[[], None]) -> None:
        """Wait for the work under way, do the `last`, and end the thread."""
        async with self._turn:
            await asyncio.get_running_loop().run_in_executor(self._thread, last)
            self._thread.shutdown()


class SerialTasks(_Turns):
    """In the event loop, for what awaits its answers there."""

    async def run(self, work: Callable[[threading.Event], Coroutine[Any, Any, T]]) -> T:
        return await self._run(lambda abandoned: asyncio.create_task(work(abandoned)))

    async def close(self) -> None:
        """Wait for the work under way."""
        async with self._turn:
            pass
