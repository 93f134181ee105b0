"""Finds out what recognisers cost on this machine, which `Capacity` admits sessions by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial

import structlog

from engine.errors import Busy, RecogniserUnavailable, WorkerDied
from engine.live.capacity import Capacity, Impossible, Speech
from engine.recognisers.whisper.passes import Costs

_HANDSHAKE_SECONDS = 8.0
"""A caller waits only so long for the answer to a handshake."""

_DOUBT_SECONDS = 60.0
_REMEDY = "use a smaller model, a faster machine, or sessions without interim results"

log = structlog.get_logger()


class Calibration:
    """Measures each recogniser once, by `measure`, and again where the result is doubted. That may raise Busy,
    RecogniserUnavailable and WorkerDied."""

    def __init__(self, measure: Callable[[str], Awaitable[Costs]], capacity: Capacity) -> None:
        self._measure = measure
        self._capacity = capacity
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._measured_at: dict[str, float] = {}  # monotonic

    async def measure_all(self, recognisers: Iterable[str]) -> None:
        """One after another, before anybody needs them. What cannot be measured now is measured when it is needed."""
        for recogniser in recognisers:
            with suppress(Busy, RecogniserUnavailable, WorkerDied):
                await asyncio.shield(self._measurement(recogniser))

    async def ensure(self, recogniser: str) -> None:
        """Return once its costs are known. Raises Busy where that takes too long, and as `measure` does."""
        if self._capacity.knows(recogniser):
            return
        try:
            await asyncio.wait_for(asyncio.shield(self._measurement(recogniser)), _HANDSHAKE_SECONDS)
        except TimeoutError:
            raise Busy("it is not known yet what the recogniser costs", "capacity") from None

    def doubt(self, recogniser: str) -> None:
        """A session was refused while there is none: a machine that had much to do when it measured may have time now,
        and nothing else would tell."""
        if time.monotonic() - self._measured_at.get(recogniser, 0.0) > _DOUBT_SECONDS:
            self._measurement(recogniser)

    def _measurement(self, recogniser: str) -> asyncio.Task[None]:
        """The one that is under way, or another."""
        if recogniser not in self._under_way:
            task = self._under_way[recogniser] = asyncio.create_task(self._find_out(recogniser))
            task.add_done_callback(partial(self._done, recogniser))
        return self._under_way[recogniser]

    def _done(self, recogniser: str, task: asyncio.Task[None]) -> None:
        del self._under_way[recogniser]
        if not task.cancelled() and (error := task.exception()):
            log.warning("live.unmeasured", recogniser=recogniser, reason=str(error))

    async def _find_out(self, recogniser: str) -> None:
        costs = await self._measure(recogniser)
        self._capacity.measured(recogniser, costs)
        self._measured_at[recogniser] = time.monotonic()
        known = {"recogniser": recogniser, "sessions": self._capacity.sessions(recogniser)}
        log.info("live.measured", final_s=round(costs.final, 4), interim_s=round(costs.interim, 4), **known)
        if isinstance(found := self._capacity.decide(Speech(recogniser), ()), Impossible):
            cores = {"needed_cores": round(found.needed, 2), "cores": round(found.left, 2)}
            log.warning("live.too_slow", recogniser=recogniser, **cores, remedy=_REMEDY)
