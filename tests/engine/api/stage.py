"""Both vendors' endpoints for recordings on a real port, before a real database and real files; the test itself is the
recogniser. Also runs as a process of its own, to be measured."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry

from engine import keys
from engine.api import deepgram, gladia, models, openai, requests
from engine.api.admission import RequestLimits
from engine.api.context import ApiContext
from engine.api.metrics import HttpMetrics
from engine.api.server import ROUTES, build, runner
from engine.api.spool import Spool
from engine.audio.decode import AudioInfo, probe
from engine.audio.fetch import HttpFetcher
from engine.dialects.catalogue import Abilities, Catalogue
from engine.jobs.admission import Admission, QueueBounds, WaitEstimate
from engine.jobs.archive import Archive
from engine.jobs.folder import AudioFolder
from engine.jobs.intake import Intake
from engine.jobs.recognition import Heard
from engine.jobs.store import Job, JobResult, JobStore, migrate
from engine.keys import ApiKeys
from engine.request import Failed, Media, RawFormat, Request
from engine.result_delivery import delivery_of
from engine.transcript import Channel, Model, Segment, Transcript, Word
from relay.guard.resolver import Found, LookupShortage, Names, Resolver, Unresolved
from relay.guard.rules import Rules
from relay.outbox.results import Results
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Database
from relay.service import health as exposition
from relay.service.health import Check
from tests.schemas import hold

MODEL = Model("5f3c1a52-9d3b-5d4e-8f6a-0c2b7e1d9a10", "tiny.en", "1.2.1", "whisper")
HELLO = Transcript(MODEL, 1.0, 1, (Channel((Segment((Word("hello", 0.1, 0.6, 0.9),)),)),))
CATALOGUE = Catalogue(
    {"nova-3": "default", "solaria-1": "default", "whisper-1": "default", "ours": "default"},
    {"default": Abilities(frozenset({"en"}))},
    "nova-3",
    frozenset({"ours"}),
)


async def names(host: str) -> Found | Unresolved | LookupShortage:
    """The only names there are, and one of whom nobody knows whether there is."""
    if host == "silent.example":
        return Unresolved("The host name does not resolve: no name server answered.")
    known = {"hook.example": ("127.0.0.1",), "inside.example": ("127.0.0.1", "10.0.0.1")}
    if host not in known:
        return Unresolved("The host name does not resolve: it does not exist.", answered=True)
    return Found(known[host])


@dataclass
class Clock:
    """A wall clock that the test turns."""

    now: float = 1763672314.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeTranscriber:
    """Transcribes at once, or when it is let go; probes in this process."""

    result: Transcript | Failed = HELLO
    heard: tuple[tuple[Word, ...], ...] = ()
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.let_go.set()

    async def probe(self, path: Path, raw: RawFormat | None) -> AudioInfo:
        return await asyncio.to_thread(probe, path, raw)

    async def transcribe(self, request: Request, path: Path, heard: Heard | None = None) -> Transcript | Failed:
        for words in self.heard if heard else ():
            heard(words)  # type: ignore[misc]
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return self.result


@dataclass
class Stage:
    """A running server and what stands behind it."""

    url: str
    app: web.AppRunner
    database: Database
    folder: Path
    store: JobStore
    archive: Archive
    transcriber: FakeTranscriber
    clock: Clock

    @property
    def stored(self) -> list[Path]:
        """Every file of audio that the server holds, accepted or not."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    @property
    def files(self) -> list[str]:
        """The same, by name."""
        return [path.name for path in self.stored]

    def add_key(self, name: str = "caller") -> str:
        """A new API key. From the first one on, callers need one."""
        return keys.add(self.database, name)

    async def jobs(self) -> list[Job]:
        """The jobs that wait, leased as a runner does."""
        return list(await self.store.lease(100))

    async def take(self) -> Job:
        """The oldest of them."""
        (job,) = await self.store.lease(1)
        return job

    async def finish(self, outcome: Transcript | Failed = HELLO) -> None:
        """End the oldest job, as a runner does."""
        job = await self.take()
        media = job.media if job.has_audio else Media("ab" * 32, 1000, job.media.created)
        delivery = delivery_of(job.request, media, outcome) if job.request.callback else None
        if delivery:
            hold(job.request.dialect, delivery.body)
        assert await self.store.finish(job, JobResult(media, outcome), delivery)


def key_id_of(key: str) -> str:
    """What is public of a key."""
    return key.split("_")[1]


@asynccontextmanager
async def context(
    root: Path,
    database: Database,
    store: JobStore,
    *,
    registry: CollectorRegistry | None = None,
    transcriber: FakeTranscriber | None = None,
    limits: RequestLimits | None = None,
    bounds: QueueBounds | None = None,
    ports: Collection[int] = Rules().ports,
    public_url: str = "",
    speakers: bool = False,
) -> AsyncIterator[ApiContext]:
    """What the endpoints work with: all of it real, but for who transcribes."""
    folder = AudioFolder(root / "audio")
    folder.create()
    spool = Spool(folder.incoming)
    spool.open()
    resolver = Resolver(Rules(ports=ports, networks=(ip_network("127.0.0.0/8"),)), Names(names))
    api = ApiContext(
        keys=ApiKeys(database, open_without_keys=True),
        catalogue=replace(CATALOGUE, speakers=speakers),
        resolver=resolver,
        spool=spool,
        admission=Admission(store, bounds or QueueBounds(), WaitEstimate(1)),
        fetcher=HttpFetcher(resolver),
        transcriber=transcriber or FakeTranscriber(),
        intake=Intake(store, folder, lambda: None),
        archive=Archive(database, folder),
        metrics=HttpMetrics(registry or CollectorRegistry(), ROUTES),
        limits=limits or RequestLimits(),
        clock=database.now,
        public_url=public_url,
    )
    try:
        yield api
    finally:
        await api.archive.close()
        await api.keys.close()
        spool.close()


@asynccontextmanager
async def served(application: web.Application, head_seconds: float = 30.0) -> AsyncIterator[tuple[web.AppRunner, str]]:
    """An application on a free port, and its URL."""
    app = runner(application, 1.0, head_seconds)
    await app.setup()
    await web.TCPSite(app, "127.0.0.1", 0).start()
    host, port = app.addresses[0][:2]
    try:
        yield app, f"http://{host}:{port}"
    finally:
        await app.cleanup()


@asynccontextmanager
async def stage(
    root: Path,
    database: Database | None = None,
    *,
    limits: RequestLimits | None = None,
    bounds: QueueBounds | None = None,
    ports: Collection[int] = Rules().ports,
    public_url: str = "",
    speakers: bool = False,
    event_names: str = "short",
    checks: Mapping[str, Check] | None = None,
) -> AsyncIterator[Stage]:
    """Start the server, with a new database where none is given, and stop it."""
    if database is None:
        database = SqliteDatabase(root / "outspoken.db")
        await asyncio.to_thread(migrate, database)
    clock, registry, transcriber = Clock(), CollectorRegistry(), FakeTranscriber()
    database = replace(database, clock=clock)  # type: ignore[type-var]
    store, results = JobStore(database, 60.0), Results(database)
    around = context(
        root,
        database,
        store,
        registry=registry,
        transcriber=transcriber,
        limits=limits,
        bounds=bounds,
        ports=ports,
        public_url=public_url,
        speakers=speakers,
    )
    async with around as api:
        application = build(
            api.metrics,
            deepgram.routes(api),
            gladia.routes(api, event_names),
            openai.routes(api),
            models.routes(api),
            requests.routes(api.keys, api.archive, results, clock),
            exposition.routes(registry, checks or {}),
        )
        async with served(application) as (app, url):
            yield Stage(url, app, database, root / "audio", store, api.archive, transcriber, clock)
    await results.close()
    await store.close()


def client_of(server: Stage, key: str = "none", **options: Any) -> aiohttp.ClientSession:
    """A client of either vendor: it sends its key as the SDKs do."""
    headers = {"Authorization": f"Token {key}", "x-gladia-key": key}
    return aiohttp.ClientSession(server.url, headers=headers, **options)


@asynccontextmanager
async def remote(handler: Handler) -> AsyncIterator[int]:
    """The port of a server that answers GET /a.wav."""
    app = web.Application()
    app.router.add_get("/a.wav", handler)
    server = web.AppRunner(app)
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    try:
        yield server.addresses[0][1]
    finally:
        await server.cleanup()


async def _serve(root: Path) -> None:
    async with stage(root) as running:
        print(running.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    asyncio.run(_serve(Path(sys.argv[1])))
