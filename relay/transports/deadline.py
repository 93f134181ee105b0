"""One timer for all exchanges under way: starting and ending one costs a dictionary entry."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from time import perf_counter
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Calls `expire` with each watched thing whose time has come, once. Times are those of `perf_counter`."""

    def __init__(self, expire: Callable[[T], None]) -> None:
        self._expire = expire
        self._due: dict[T, float] = {}
        self._armed_for = inf
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, item: T, at: float) -> None:
        """Expire the item at a time, unless it is forgotten before."""
        self._due[item] = at
        if at < self._armed_for:
            self._arm(at)

    def hasten(self, item: T, at: float) -> None:
        """Expire a watched item at an earlier time."""
        if at < self._due.get(item, 0.0):
            self.watch(item, at)

    def forget(self, item: T) -> None:
        """The item needs no deadline any more."""
        self._due.pop(item, None)

    def close(self) -> None:
        self._due.clear()
        self._arm(inf)

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = at
        delay = at - perf_counter()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, delay), self._sweep) if at < inf else None

    def _sweep(self) -> None:
        now = perf_counter()
        for item in sorted((item for item, at in self._due.items() if at <= now), key=self._due.__getitem__):
            del self._due[item]
            self._expire(item)
        self._arm(min(self._due.values(), default=inf))


class TimeLimits:
    """Cuts short whatever takes too long, as `asyncio.timeout` does, which sets and clears a timer of its own each
    time: two of them were a seventh of a request over a new connection."""

    def __init__(self) -> None:
        self._deadlines: Deadlines[_Limited] = Deadlines(_Limited.cut_short)

    async def keep(self, seconds: float, work: Awaitable[T]) -> T:
        """What `work` comes to. Raises TimeoutError where it takes longer."""
        limited = _Limited()
        self._deadlines.watch(limited, perf_counter() + seconds)
        try:
            return await work
        except asyncio.CancelledError as error:
            if limited.is_cut_short and limited.task.cancelling() - 1 <= limited.cancelled_before:
                raise TimeoutError from error
            raise
        finally:
            self._deadlines.forget(limited)
            if limited.is_cut_short:
                limited.task.uncancel()


class _Limited:
    """What a task does now. Whoever else cancels the task meanwhile is obeyed."""

    __slots__ = ("cancelled_before", "is_cut_short", "task")

    def __init__(self) -> None:
        self.task = cast("asyncio.Task[Any]", asyncio.current_task())
        self.cancelled_before = self.task.cancelling()
        self.is_cut_short = False

    def cut_short(self) -> None:
        self.is_cut_short = True
        self.task.cancel()
