"""The HTTP server: every vendor's endpoints, health and metrics."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version

from aiohttp import web
from prometheus_client import CollectorRegistry

from engine.api import deepgram, gladia, models, openai, requests, server, status
from engine.api.admission import RequestLimits
from engine.api.context import ApiContext
from engine.api.metrics import HttpMetrics
from engine.api.spool import Spool
from engine.app.live import LiveSpeech
from engine.app.recorded import RecordedSpeech
from engine.audio.fetch import HttpFetcher
from engine.dialects.catalogue import Catalogue
from engine.jobs.retention import DAY
from engine.jobs.runner import Runner
from engine.jobs.store import JobStore
from engine.keys import ApiKeys
from engine.live.conversation import Conversation
from engine.live.session import SessionLimits
from engine.recognisers.workers.memory import MemoryBudget
from engine.settings import EngineSection, EngineSettings, LiveSettings
from relay.guard.resolver import Resolver
from relay.outbox.errors import StoreUnavailable
from relay.outbox.results import Results
from relay.outbox.store import Database
from relay.service import health
from relay.service.health import Check
from relay.service.watch import FileWatch

_STALLED_SECONDS = 30.0


class HttpServer:
    """Everything that callers and machines may ask of the engine, while it is `running`."""

    def __init__(
        self,
        settings: EngineSettings,
        database: Database,
        keys: ApiKeys,
        resolver: Resolver,
        fetcher: HttpFetcher,
        catalogue: Catalogue,
        recorded: RecordedSpeech,
        live: LiveSpeech,
        budget: MemoryBudget,
        watch: FileWatch,
        registry: CollectorRegistry,
    ) -> None:
        engine, self._sessions = settings.engine, live.sessions
        self._engine = engine
        self._results = Results(database)
        self._spool = Spool(recorded.audio.incoming)
        metrics = HttpMetrics(registry, server.ROUTES)
        api = ApiContext(
            keys=keys,
            catalogue=catalogue,
            resolver=resolver,
            spool=self._spool,
            admission=recorded.admission,
            fetcher=fetcher,
            transcriber=recorded.recognition,
            intake=recorded.intake,
            archive=recorded.archive,
            metrics=metrics,
            limits=RequestLimits(engine.max_upload_bytes, engine.upload_stall_seconds, engine.keep_alive_seconds),
            clock=database.now,
            public_url=settings.outbox.public_url,
        )
        self._gladia_live = _gladia_live(api, live, engine)
        self._application = server.build(
            metrics,
            deepgram.routes(api, engine.deepgram.unsupported),
            deepgram.live_routes(_deepgram_live(api, live, engine)),
            gladia.routes(api, engine.gladia.event_names, engine.gladia.unsupported),
            gladia.live_routes(self._gladia_live),
            openai.routes(api),
            models.routes(api),
            requests.routes(keys, recorded.archive, self._results, database.now),
            status.routes(StatusReport(recorded, live, budget, engine, database.now)),
            health.routes(
                registry,
                EngineReadiness(recorded.store, recorded.runner, watch).checks(),
                lambda: _known(budget, catalogue),
            ),
            on_shutdown=self._finish_sessions,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """The address at which it listens inside of the block; at its end, requests under way are answered first.
        Raises OSError."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._results.close)
            self._spool.open()
            stack.callback(self._spool.close)
            runner = server.runner(self._application, self._engine.drain_seconds, self._engine.head_seconds)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, self._engine.host, self._engine.port).start()
            host, port = runner.addresses[0][:2]
            yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def _finish_sessions(self, _: web.Application) -> None:
        """Before the server waits for its handlers, which wait for their sessions."""
        await self._sessions.stop(self._engine.drain_seconds)
        await self._gladia_live.close()


class StatusReport:
    """What `/status` tells, asked anew each time."""

    def __init__(
        self,
        recorded: RecordedSpeech,
        live: LiveSpeech,
        budget: MemoryBudget,
        engine: EngineSection,
        clock: Callable[[], float],
    ) -> None:
        self._recorded = recorded
        self._live = live
        self._budget = budget
        self._models = {name: recogniser.model for name, recogniser in engine.recognisers.items()}
        self._clock = clock
        self._started_at = clock()

    async def __call__(self) -> status.Status:
        store, now = self._recorded.store, self._clock()
        jobs = await store.snapshot()
        return status.Status(
            version=version("outspoken"),
            uptime=round(now - self._started_at, 3),
            draining=self._recorded.runner.draining,
            queued=jobs.queued,
            running=jobs.leased,
            failed=await store.failed(DAY),
            bytes=jobs.bytes,
            oldest=round(jobs.oldest_due_age, 3),
            speed=self._recorded.recognition.speed,
            live_capacity=self._live.capacity(),
            live=[_live_state(one, now) for one in self._live.sessions.under_way],
            models=[
                status.LoadedModel(name, self._models.get(name, name), processes, memory)
                for name, (processes, memory) in sorted(self._budget.by_recogniser.items())
            ],
        )


def _live_state(session: Conversation, now: float) -> status.LiveState:
    request = session.asked.request
    seconds = (round(value, 3) for value in (now - session.began_at, session.audio, session.lag))
    return status.LiveState(request.dialect, request.recogniser, *seconds)


class EngineReadiness:
    """What readiness depends on. A failing receiver or a long queue is no reason to be unready."""

    def __init__(self, store: JobStore, runner: Runner, watch: FileWatch) -> None:
        self._store = store
        self._runner = runner
        self._watch = watch

    def checks(self) -> dict[str, Check]:
        """By the names that `/readyz` shows."""
        return {"store": self._store_answers, "jobs": self._jobs_turn, "drain": self._not_draining}

    async def _store_answers(self) -> str | None:
        if trouble := self._watch.trouble():
            return f"the database: {trouble}"
        try:
            await self._store.snapshot()
        except StoreUnavailable as error:
            return f"the database cannot be read: {error}"
        return self._runner.trouble()

    async def _jobs_turn(self) -> str | None:
        still = time.monotonic() - self._runner.turned_at
        return f"the queue was not looked at for {still:.0f} s" if still > _STALLED_SECONDS else None

    async def _not_draining(self) -> str | None:
        return "draining" if self._runner.draining else None


def _known(budget: MemoryBudget, catalogue: Catalogue) -> dict[str, object]:
    """What readiness tells besides: each recogniser that is loaded, with the number of its processes, and whether
    speakers can be told apart."""
    return {"recognisers": dict(Counter(budget.loaded)), "speakers": catalogue.speakers}


def _deepgram_live(api: ApiContext, speech: LiveSpeech, engine: EngineSection) -> deepgram.DeepgramLive:
    live = engine.live
    return deepgram.DeepgramLive(
        api,
        speech.sessions,
        _limits(live, live.idle_seconds),
        live.max_message_bytes,
        mirror=live.mirror,
        unsupported=engine.deepgram.unsupported,
    )


def _gladia_live(api: ApiContext, speech: LiveSpeech, engine: EngineSection) -> gladia.GladiaLive:
    live = engine.live
    return gladia.GladiaLive(
        api,
        speech.sessions,
        _limits(live, live.resume_seconds),
        live.max_message_bytes,
        unsupported=engine.gladia.unsupported,
        keeps_audio=engine.gladia.keep_live_audio,
    )


def _limits(live: LiveSettings, idle: float) -> SessionLimits:
    return SessionLimits(
        length=live.max_seconds,
        idle=idle,
        finishing=live.finish_seconds,
        speed=live.max_speed,
        burst=live.burst_seconds,
        late=live.warn_lag_seconds,
        too_late=live.max_lag_seconds,
    )
