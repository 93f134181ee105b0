"""A thread in which work takes turns, for connections that would hold up the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class SerialExecutor:
    """One piece of work at a time, in the order in which it was asked for."""

    def __init__(self, name: str) -> None:
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, work: Callable[[threading.Event], T]) -> T:
        """Do it in the thread; it is told, by an event, that nobody waits for it any more.

        Shielded: what was begun ends before the next has its turn. How it ended is of no more interest to a caller who
        was cancelled, and must not hide the cancellation from it.
        """
        async with self._turn:
            abandoned = threading.Event()
            done = asyncio.get_running_loop().run_in_executor(self._thread, work, abandoned)
            try:
                return await asyncio.shield(done)
            except asyncio.CancelledError:
                abandoned.set()
                while not done.done():
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait([done])
                raise

    async def close(self, last: Callable[[], None]) -> None:
        """Wait for the work under way, do the `last`, and end the thread."""
        async with self._turn:
            await asyncio.get_running_loop().run_in_executor(self._thread, last)
            self._thread.shutdown()
