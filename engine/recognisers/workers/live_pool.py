"""Live recognition, seen from the engine: sessions, each in one of a few worker processes that many share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import count

from engine.audio.decode import MAX_SECONDS
from engine.errors import RecogniserUnavailable
from engine.events import LiveOptions
from engine.recognisers.base import Spec
from engine.recognisers.whisper.passes import Costs
from engine.recognisers.workers import live_wire as wire
from engine.recognisers.workers.live_process import LiveProcess
from engine.recognisers.workers.live_recognition import PooledRecognition, Tell
from engine.recognisers.workers.memory import MemoryBudget
from relay.service.interpreter import module_command

WORKER = "engine.recognisers.workers.live_worker"
"""The module that a worker process runs; whoever brings another speaks the frames of `workers.live_wire`."""

STALL_SECONDS = 60.0
"""How long a worker may owe an answer, or make one pass, before it counts as hung."""

NICENESS = 5
"""Of live workers: the event loop must win the core the moment a packet comes, and they before what is recorded."""


class LivePool:
    """Sessions, spread over `workers` processes, each of which makes so many `passes` at a time.

    A process is ended, and its recognisers with it, after `idle_seconds` without a session (None: never), or when
    others need its part of the memory `budget` (None: unlimited). `tell` is told of every pass.
    """

    def __init__(
        self,
        recognisers: Mapping[str, Spec],
        *,
        workers: int = 1,
        passes: int = 1,
        max_seconds: float = MAX_SECONDS,
        idle_seconds: float | None = None,
        stall_seconds: float = STALL_SECONDS,
        budget: MemoryBudget | None = None,
        tell: Tell = lambda _: None,
        worker: str = WORKER,
    ) -> None:
        self._recognisers = dict(recognisers)
        budget = budget or MemoryBudget()
        options = ("--nice", str(NICENESS), "--passes", str(passes), "--stall", str(stall_seconds))
        command = module_command(worker, *options)
        self._processes = [LiveProcess(command, idle_seconds, stall_seconds, budget, tell) for _ in range(workers)]
        self._max_seconds = max_seconds
        self._numbers = count(1)

    async def start(self) -> None:
        """Start the processes, without recognisers."""
        await asyncio.gather(*(process.start() for process in self._processes))

    async def stop(self) -> None:
        """Kill the processes and wait for their end. Sessions under way end with Broken."""
        await asyncio.gather(*(process.stop() for process in self._processes))

    @property
    def count(self) -> int:
        """Sessions under way."""
        return sum(len(process.recognitions) for process in self._processes)

    async def open(self, recogniser: str, options: LiveOptions) -> PooledRecognition:
        """Begin a session, once the recogniser is loaded.

        Raises Busy where there is no memory for it now; RecogniserUnavailable where it cannot be loaded; WorkerDied.
        """
        spec = self._spec(recogniser)
        process = min(self._processes, key=lambda one: (len(one.recognitions), spec not in one.loaded))
        return await process.open(recogniser, next(self._numbers), wire.OpenMessage(spec, options, self._max_seconds))

    async def measure(self, recogniser: str) -> Costs:
        """What it costs here while nothing else is done. A process that was idle before holds nothing afterwards.

        Raises as `open` does.
        """
        process = min(self._processes, key=lambda one: len(one.recognitions))
        return await process.measure(recogniser, next(self._numbers), self._spec(recogniser))

    def _spec(self, recogniser: str) -> Spec:
        if (spec := self._recognisers.get(recogniser)) is None:
            raise RecogniserUnavailable(f"recogniser {recogniser!r} is not configured")
        return spec
