"""The real application on a real port, with the fakes behind it. Also runs as a process of its own, to be measured."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry

from engine.api import deepgram, requests, results
from engine.api.body import Limits
from engine.api.deepgram import Parts
from engine.api.metrics import HttpMetrics
from engine.api.server import ROUTES, build, runner
from engine.api.spool import Spool
from engine.audio.fetch import HttpFetcher
from engine.audio.pcm import raw_format
from engine.dialects.catalogue import Abilities, Catalogue
from engine.jobs.admission import Admission, Bounds, Patience
from relay.guard.resolver import Resolver
from relay.guard.rules import Rules
from relay.outbox.results import Result
from relay.service import health as exposition
from relay.service.health import Check

from .fakes import EmptyArchive, FakeIntake, FakeKeys, FakeListener, FakeQueue, ThreadProber

CATALOGUE = Catalogue({"nova-3": "default"}, {"default": Abilities(frozenset({"en"}))}, "nova-3")


async def names(host: str) -> Sequence[str]:
    """The only names there are."""
    known = {"hook.example": ["127.0.0.1"], "inside.example": ["127.0.0.1", "10.0.0.1"]}
    if host not in known:
        raise OSError(-2, "Name or service not known")
    return known[host]


@dataclass
class Stage:
    """A running server and what stands behind it."""

    url: str
    app: web.AppRunner
    spool: Path
    keys: FakeKeys
    intake: FakeIntake
    listener: FakeListener
    queue: FakeQueue

    @property
    def stored(self) -> list[Path]:
        """Every file that the server holds, accepted or not."""
        return [*self.spool.iterdir(), *self.intake.folder.iterdir()]


class NothingKept:
    """A reader without results."""

    async def secret(self) -> bytes:
        return b"secret"

    async def fetch(self, delivery_id: str) -> Result | None:
        return None


@asynccontextmanager
async def stage(
    root: Path,
    limits: Limits | None = None,
    ports: Collection[int] = Rules().ports,
    checks: Mapping[str, Check] | None = None,
    bounds: Bounds | None = None,
) -> AsyncIterator[Stage]:
    """Start the server on a free port, and stop it."""
    keys, intake, listener, spool = FakeKeys(), FakeIntake(root / "audio"), FakeListener(), Spool(root / "spool")
    queue = FakeQueue()
    intake.folder.mkdir(parents=True)
    spool.open()
    registry = CollectorRegistry()
    resolver = Resolver(Rules(ports=ports, networks=(ip_network("127.0.0.0/8"),)), lookup=names)
    parts = Parts(
        keys=keys,
        catalogue=CATALOGUE,
        raw_format=raw_format,
        resolver=resolver,
        spool=spool,
        prober=ThreadProber(),
        fetcher=HttpFetcher(resolver),
        intake=intake,
        listener=listener,
        doorkeeper=Admission(queue, bounds or Bounds(), Patience(1)),
        metrics=HttpMetrics(registry, ROUTES),
        limits=limits or Limits(),
        clock=lambda: 1763672314.0,
    )
    asked = requests.Parts(keys, EmptyArchive(), NothingKept())
    rooms = (deepgram.routes(parts), requests.routes(asked), results.routes(NothingKept()))
    application = build(parts.metrics, *rooms, exposition.routes(registry, checks or {}))
    app = runner(application, shutdown_seconds=1.0)
    await app.setup()
    site = web.TCPSite(app, "127.0.0.1", 0)
    await site.start()
    host, port = app.addresses[0][:2]
    try:
        yield Stage(f"http://{host}:{port}", app, root / "spool", keys, intake, listener, queue)
    finally:
        await app.cleanup()
        spool.close()


def client_of(server: Stage) -> aiohttp.ClientSession:
    """A client that sends no header of its own accord that matters here."""
    return aiohttp.ClientSession(server.url, skip_auto_headers=["Content-Type"])


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
