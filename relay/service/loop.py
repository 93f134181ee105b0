"""Loops, written once: what turns, reports how it went, waits, backs off and outlives its failures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import Any, Protocol

import structlog

from relay.outbox.errors import StoreUnavailable
from relay.outbox.store import in_step

_AGAIN_SECONDS = 2.0


class Asked(IntEnum):
    """What a turn brings that had no use for the database."""

    NOTHING = 0


log = structlog.get_logger()


class LoopObserver(Protocol):
    """Who hears that a loop turned, or failed to."""

    def turned(self, loop: str, *, ok: bool) -> None:
        """One turn of a named loop ended."""


class Loop:
    """Does `work` every `every` seconds (None: when woken alone), and at once whenever `wake` is set. The name is what
    log and metrics say.

    A turn that fails ends no loop: a database that is locked or full now may be well in a second, and a dead loop in a
    living process would be noticed late. After a failure the next turn comes `again` seconds later, whatever wakes
    (None: as after any other, but in two seconds at the latest; until it goes well the process is not ready, and some
    work is done once an hour). `rest` is for a loop that knows better: it is given what the turn brought, may itself
    wait for what is to share the next turn, and returns `every`, for this once. A turn that brings `Asked.NOTHING` says
    nothing of the database: one that had refused the last is not taken for well.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[Any]],
        every: float | None,
        *,
        wake: asyncio.Event | None = None,
        again: float | None = None,
        rest: Callable[[Any], Awaitable[float | None]] | None = None,
        observer: LoopObserver | None = None,
    ) -> None:
        self.name = name
        self.turns = 0  # whether they brought anything or failed
        self.succeeded_at = time.monotonic()
        self.busy_since: float | None = None  # monotonic; None while it waits for the next turn
        self.refused: str | None = None  # how the database refused the last turn: a StoreUnavailable's kind
        self.crashed: str | None = None  # which exception ended the last turn
        self._work = work
        self._every = every
        self._wake = wake or asyncio.Event()  # which nobody sets
        self._again = again
        self._rest = rest
        self._observer = observer

    def trouble(self) -> str | None:
        """Why its last turn failed, or None. That a lock was held for too long is no trouble yet."""
        if self.crashed:
            return f"{self.name} fails, see the log"
        if self.refused in {None, "busy"}:
            return None
        return f"the outbox cannot be used ({self.refused})"

    async def run(self, until: asyncio.Event | None = None) -> None:
        """Turn until cancelled, or until the first turn that ends after `until` was set: set `wake` too."""
        if self._every is None:  # the first who wakes it must not wait for what would follow an empty turn
            await self._wake.wait()
        while until is None or not until.is_set():
            ok, result = await self.run_once()
            await self._wait(result, ok=ok)

    async def run_once(self) -> tuple[bool, Any]:
        """One turn: whether it went well, and what `work` returned."""
        self.turns += 1
        self.busy_since = time.monotonic()
        self._wake.clear()
        ok, result = False, None
        try:
            result = await self._work()
            ok = self.refused is None or result is not Asked.NOTHING  # else nobody knows whether it is well again
            if ok:
                self._hear(None)
        except StoreUnavailable as error:
            self._hear(error)
        except Exception as error:  # noqa: BLE001 (a loop outlives whatever its work did)
            self._hear_crash(error)
        if ok:
            self.succeeded_at = time.monotonic()
            self._hear_crash(None)
        if self._observer is not None:
            self._observer.turned(self.name, ok=ok)
        return ok, result

    async def _wait(self, result: Any, *, ok: bool) -> None:
        if not ok and self._again is not None:
            self.busy_since = None
            await asyncio.sleep(self._again)
            return
        seconds = await self._rest(result) if self._rest else self._every and in_step(self._every)
        if not ok and seconds is not None:
            seconds = min(seconds, _AGAIN_SECONDS)
        self.busy_since = None
        # `asyncio.timeout` raises two exceptions whenever the time is over: an eighth of what an idle relay takes.
        timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    def _hear(self, error: StoreUnavailable | None) -> None:
        """The database refused a turn, or did not. It is told once, and not at every turn of an outage of hours."""
        before, self.refused = self.refused, error.kind if error else None
        if error and error.kind != before:
            log.error("store.error", operation=self.name, kind=error.kind, remedy=error.remedy)
        if before and not error:
            log.info("store.recovered", operation=self.name)

    def _hear_crash(self, error: Exception | None) -> None:
        """A turn failed by a fault of ours, or went well: told once too, until it fails otherwise."""
        before, self.crashed = self.crashed, type(error).__name__ if error else None
        if error and self.crashed != before:
            log.error("loop.failed", loop=self.name, exc_info=error)
        if before and not error:
            log.info("loop.recovered", loop=self.name)


@asynccontextmanager
async def turning(*loops: Loop) -> AsyncIterator[None]:
    """Loops that turn until the block is left."""
    tasks = [asyncio.create_task(loop.run(), name=loop.name) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
