"""Both vendors' live endpoints on a real port, before a real database; the test itself is the recogniser."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web
from prometheus_client import CollectorRegistry

from engine.api import deepgram, gladia
from engine.api.metrics import HttpMetrics
from engine.api.server import ROUTES, build, runner
from engine.api.spool import Spool
from engine.audio.fetch import HttpFetcher
from engine.audio.pcm import bytes_per_second, integers, raw_format
from engine.dialects.catalogue import Abilities, Catalogue
from engine.jobs.admission import Admission, Bounds, Patience
from engine.jobs.archive import Archive
from engine.jobs.folder import AudioFolder
from engine.jobs.intake import Intake
from engine.jobs.store import JobStore
from engine.live.callbacks import CallbackWriter
from engine.live.capacity import Capacity
from engine.live.conversation import SessionEnded
from engine.live.session import Limits
from engine.live.sessions import LiveRecord, SessionRefused, Sessions
from engine.recognisers.whisper.passes import Costs
from relay.guard.resolver import Resolver
from relay.guard.rules import Rules
from relay.outbox.store import Database
from tests.engine.live.recogniser import COSTS, FakeRecogniser, FakeRecognition

from .fakes import FakeKeys
from .gladia_stage import Prober
from .stage import names

CATALOGUE = Catalogue(
    {"nova-3": "default", "solaria-1": "default"},
    {"default": Abilities(frozenset({"en"}))},
    "nova-3",
)


@dataclass
class Stage:
    """A running server and what stands behind it."""

    url: str
    database: Database
    keys: FakeKeys
    recogniser: FakeRecogniser
    sessions: Sessions
    archive: Archive
    records: list[LiveRecord]
    http: aiohttp.ClientSession

    @property
    def ended(self) -> list[SessionEnded]:
        """The sessions that are over."""
        return [record for record in self.records if isinstance(record, SessionEnded)]

    @property
    def refused(self) -> list[str]:
        """Why sessions could not begin."""
        return [record.reason for record in self.records if isinstance(record, SessionRefused)]

    async def recognition(self) -> FakeRecognition:
        """The recogniser's side of the next session."""
        return await self.recogniser.opened.get()

    def connect(self, path: str = "/v1/listen?model=nova-3", **options: Any) -> Any:
        """A socket, as a context manager."""
        return self.http.ws_connect(f"{self.url}{path}", **options)


@asynccontextmanager
async def stage(
    root: Path,
    database: Database,
    *,
    limits: Limits | None = None,
    mirror: bool = False,
    backlog: int = 1000,
    max_message: int = 1024 * 1024,
    places: int = 100,
    stuck: bool = False,
    costs: Costs = COSTS,
    cores: float = 100.0,
    most: int | None = None,
) -> AsyncIterator[Stage]:
    """Start the server on a free port, and stop it."""
    keys, recogniser, records = FakeKeys(), FakeRecogniser(places, stuck, costs), list[LiveRecord]()
    folder = AudioFolder(root / "audio")
    folder.create()
    spool = Spool(folder.incoming)
    store, archive = JobStore(database, 60.0), Archive(database, folder)
    callbacks = CallbackWriter(database, backlog=backlog)
    await callbacks.start()
    capacity = Capacity(cores, 1.0, most=most)
    sessions = Sessions(recogniser, callbacks, capacity, records.append)
    resolver = Resolver(Rules(networks=(ip_network("127.0.0.0/8"),)), lookup=names)
    metrics = HttpMetrics(CollectorRegistry(), ROUTES)
    shared: dict[str, Any] = {
        "raw_format": raw_format,
        "byte_rate": bytes_per_second,
        "sessions": sessions,
        "limits": limits or Limits(),
        "max_message": max_message,
    }
    spoken = deepgram.LiveParts(keys, CATALOGUE, resolver=resolver, mirror=mirror, **shared)
    parts = gladia.Parts(
        keys=keys,
        catalogue=CATALOGUE,
        resolver=resolver,
        spool=spool,
        prober=Prober(),
        fetcher=HttpFetcher(resolver),
        intake=Intake(store, folder, lambda: None),
        archive=archive,
        doorkeeper=Admission(store, Bounds(), Patience(1)),
        metrics=metrics,
    )
    live = gladia.Live(parts, gladia.LiveParts(integers=integers, **shared))
    application = build(metrics, deepgram.live_routes(spoken), gladia.live_routes(live))
    application.on_shutdown.append(partial(_stop, sessions, live))
    app = runner(application, shutdown_seconds=1.0)
    await app.setup()
    await web.TCPSite(app, "127.0.0.1", 0).start()
    host, port = app.addresses[0][:2]
    try:
        async with aiohttp.ClientSession() as http:
            yield Stage(f"http://{host}:{port}", database, keys, recogniser, sessions, archive, records, http)
    finally:
        await app.cleanup()
        await callbacks.stop()
        await archive.close()
        await store.close()


async def _stop(sessions: Sessions, live: gladia.Live, _: web.Application) -> None:
    await sessions.stop(1.0)
    await live.close()


async def messages(socket: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    """Everything until the socket is closed."""
    return [json.loads(message.data) async for message in socket if message.type is WSMsgType.TEXT]


async def next_message(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    """The next one."""
    found: dict[str, Any] = await socket.receive_json(timeout=5)
    return found
