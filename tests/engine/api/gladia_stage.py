"""Gladia's endpoints on a real port, before a real database and real files; the test itself is the recogniser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry

from engine.api import gladia
from engine.api.body import Limits
from engine.api.metrics import HttpMetrics
from engine.api.server import ROUTES, build, runner
from engine.api.spool import Spool
from engine.audio.decode import AudioInfo, probe
from engine.audio.fetch import HttpFetcher
from engine.dialects.catalogue import Abilities, Catalogue
from engine.emission import emit
from engine.jobs.admission import Admission, Bounds, Patience
from engine.jobs.archive import Archive
from engine.jobs.folder import AudioFolder
from engine.jobs.intake import Intake
from engine.jobs.store import Job, JobStore, Result
from engine.request import Failed, Media, RawFormat
from engine.transcript import Transcript
from relay.guard.resolver import Resolver
from relay.guard.rules import Rules
from relay.outbox.store import Database

from .fakes import HELLO, FakeKeys
from .stage import names

CATALOGUE = Catalogue({"solaria-1": "default"}, {"default": Abilities(frozenset({"en"}))}, "solaria-1")


@dataclass
class Clock:
    """A wall clock that the test turns."""

    now: float = 1763672314.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Stage:
    """A running server and what stands behind it."""

    url: str
    app: web.AppRunner
    database: Database
    folder: Path
    keys: FakeKeys
    store: JobStore
    archive: Archive
    clock: Clock

    @property
    def files(self) -> list[str]:
        """Every file of audio, by name."""
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file())

    async def take(self) -> Job:
        """The oldest job, leased as a runner does."""
        (job,) = await self.store.lease(1)
        return job

    async def finish(self, outcome: Transcript | Failed = HELLO) -> None:
        """End the oldest job, as a runner does."""
        job = await self.take()
        media = job.media if job.has_audio else Media("ab" * 32, 1000, job.media.created)
        delivery = emit(job.request, media, outcome) if job.request.callback else None
        assert await self.store.finish(job, Result(media, outcome), delivery)


class Prober:
    """Looks into audio in this process."""

    async def probe(self, path: Path, raw: RawFormat | None) -> AudioInfo:
        return await asyncio.to_thread(probe, path, raw)


@asynccontextmanager
async def stage(
    root: Path,
    database: Database,
    *,
    limits: Limits | None = None,
    bounds: Bounds | None = None,
    public_url: str = "",
    event_names: str = "short",
    ports: Collection[int] = Rules().ports,
) -> AsyncIterator[Stage]:
    """Start the server on a free port, and stop it."""
    keys, clock, folder = FakeKeys(), Clock(), AudioFolder(root / "audio")
    folder.create()
    spool = Spool(folder.incoming)
    spool.open()
    database = replace(database, clock=clock)  # type: ignore[type-var]
    store, archive = JobStore(database, 60.0), Archive(database, folder)
    resolver = Resolver(Rules(ports=ports, networks=(ip_network("127.0.0.0/8"),)), lookup=names)
    parts = gladia.Parts(
        keys=keys,
        catalogue=CATALOGUE,
        resolver=resolver,
        spool=spool,
        prober=Prober(),
        fetcher=HttpFetcher(resolver),
        intake=Intake(store, folder, lambda: None),
        archive=archive,
        doorkeeper=Admission(store, bounds or Bounds(), Patience(1)),
        metrics=HttpMetrics(CollectorRegistry(), ROUTES),
        limits=limits or Limits(),
        clock=clock,
        public_url=public_url,
        event_names=event_names,
    )
    app = runner(build(parts.metrics, gladia.routes(parts)), shutdown_seconds=1.0)
    await app.setup()
    await web.TCPSite(app, "127.0.0.1", 0).start()
    host, port = app.addresses[0][:2]
    try:
        yield Stage(f"http://{host}:{port}", app, database, root / "audio", keys, store, archive, clock)
    finally:
        await app.cleanup()
        await archive.close()
        await store.close()
        spool.close()


def client_of(server: Stage, key: str = "s3cret") -> aiohttp.ClientSession:
    """A client that sends its key as the SDKs do."""
    return aiohttp.ClientSession(server.url, headers={"x-gladia-key": key})
