"""Both vendors' live endpoints on a real port, before a real database; the test itself is the recogniser."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web

from engine import keys
from engine.api import deepgram, gladia
from engine.api.admission import RequestLimits
from engine.api.server import build
from engine.jobs.archive import Archive
from engine.jobs.store import JobStore
from engine.live.callbacks import CallbackWriter
from engine.live.capacity import Capacity
from engine.live.conversation import SessionEnded
from engine.live.session import SessionLimits
from engine.live.sessions import LiveRecord, LiveSessions, SessionRefused
from engine.recognisers.whisper.passes import Costs
from relay.outbox.store import Database
from tests.engine.live.recogniser import COSTS, FakeRecogniser, FakeRecognition

from .stage import context, served


@dataclass
class Stage:
    """A running server and what stands behind it."""

    url: str
    app: web.AppRunner
    database: Database
    recogniser: FakeRecogniser
    sessions: LiveSessions
    archive: Archive
    records: list[LiveRecord]
    http: aiohttp.ClientSession
    folder: Path

    @property
    def ended(self) -> list[SessionEnded]:
        """The sessions that are over."""
        return [record for record in self.records if isinstance(record, SessionEnded)]

    @property
    def refused(self) -> list[str]:
        """Why sessions could not begin."""
        return [record.reason for record in self.records if isinstance(record, SessionRefused)]

    @property
    def connections(self) -> int:
        """How many there are from clients."""
        return len(self.app.server.connections) if self.app.server else 0

    def add_key(self, name: str = "caller") -> str:
        """A new API key. From the first one on, callers need one."""
        return keys.add(self.database, name)

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
    limits: SessionLimits | None = None,
    mirror: bool = False,
    backlog: int = 1000,
    max_message: int = 1024 * 1024,
    places: int = 100,
    stuck: bool = False,
    costs: Costs = COSTS,
    cores: float = 100.0,
    most: int | None = None,
    keeps_audio: bool = True,
    max_upload: int = 2 * 1024**3,
) -> AsyncIterator[Stage]:
    """Start the server on a free port, and stop it."""
    recogniser, records = FakeRecogniser(places, stuck, costs), list[LiveRecord]()
    store, callbacks = JobStore(database, 60.0), CallbackWriter(database, backlog=backlog)
    await callbacks.start()
    sessions = LiveSessions(recogniser, callbacks, Capacity(cores, 1.0, most=most), records.append)
    limits = limits or SessionLimits()
    around = context(root, database, store, limits=RequestLimits(upload=max_upload))
    async with around as api, aiohttp.ClientSession() as http:
        live = gladia.GladiaLive(api, sessions, limits, max_message, keeps_audio=keeps_audio)
        spoken = deepgram.DeepgramLive(api, sessions, limits, max_message, mirror=mirror)
        application = build(api.metrics, deepgram.live_routes(spoken), gladia.live_routes(live))
        application.on_shutdown.append(partial(_stop, sessions, live))
        async with served(application) as (app, url):
            yield Stage(url, app, database, recogniser, sessions, api.archive, records, http, root / "audio")
        await callbacks.stop()
    await store.close()


async def _stop(sessions: LiveSessions, live: gladia.GladiaLive, _: web.Application) -> None:
    await sessions.stop(1.0)
    await live.close()


async def messages(socket: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    """Everything until the socket is closed."""
    return [json.loads(message.data) async for message in socket if message.type is WSMsgType.TEXT]


async def next_message(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    """The next one."""
    found: dict[str, Any] = await socket.receive_json(timeout=5)
    return found
