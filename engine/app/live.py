"""Live speech: worker processes, callbacks and sessions, and how much of it the machine can keep in real time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from prometheus_client import CollectorRegistry

from engine.live.callbacks import CallbackWriter
from engine.live.capacity import Capacity
from engine.live.observers import LiveGauges, LiveLagMetrics, LiveLog, LiveMetrics
from engine.live.sessions import LiveSessions
from engine.recognisers.base import Spec
from engine.recognisers.workers.live_pool import WORKER, LivePool
from engine.recognisers.workers.live_recognition import PassMade
from engine.recognisers.workers.memory import MemoryBudget
from engine.settings import DEFAULT, EngineSection
from relay.guard.rules import Rules
from relay.outbox.store import Database
from relay.service.settings import usable_cores


class LiveSpeech:
    """What the HTTP server needs of live speech: its `sessions`, which may begin inside of `running`, and for how many
    there is the `capacity`."""

    def __init__(
        self,
        engine: EngineSection,
        database: Database,
        rules: Rules,
        specs: Mapping[str, Spec],
        budget: MemoryBudget,
        registry: CollectorRegistry,
        worker: str = WORKER,
    ) -> None:
        live, lag = engine.live, LiveLagMetrics(registry)
        threads = {name: max(1, spec.threads) for name, spec in specs.items()}
        cores = usable_cores()
        passes = max(1, int(cores) // (live.workers * threads[DEFAULT]))
        busy = min(cores, live.workers * passes * threads[DEFAULT])
        capacity = Capacity(busy, live.capacity_share, threads, live.sessions or None, live.key_share)

        def passed(made: PassMade) -> None:
            lag.passed(made)
            capacity.passed(made.recogniser, made.record)

        self._preload = engine.preload
        self._pool = LivePool(
            specs,
            workers=live.workers,
            passes=passes,
            max_seconds=engine.max_audio_seconds,
            idle_seconds=engine.models_idle_seconds,
            budget=budget,
            tell=passed,
            worker=worker,
        )
        self._callbacks = CallbackWriter(
            database, backlog=live.backlog, liveness=live.liveness_seconds, committed=lag.committed
        )
        self.sessions = sessions = LiveSessions(
            self._pool, self._callbacks, capacity, LiveLog(rules), LiveMetrics(registry), clock=database.now
        )
        self.capacity: Callable[[], int] = lambda: capacity.sessions(DEFAULT)
        LiveGauges(
            registry,
            sessions=lambda: len(sessions),
            capacity=self.capacity,
            lag=lambda: sessions.lag,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Worker processes are there, without recognisers, inside of the block; where nothing is preloaded they are
        started by who speaks first."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._pool.stop)
            if self._preload:
                await self._pool.start()
            stack.push_async_callback(self._callbacks.stop)
            await self._callbacks.start()
            yield
