"""What the endpoints work with, and the steps that they share."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson
from aiohttp import web

from engine.api.admission import Doorkeeper
from engine.api.auth import Keys
from engine.api.body import Limits, whole
from engine.api.errors import Rejected
from engine.api.metrics import HttpMetrics
from engine.api.spool import Spool
from engine.audio.decode import AudioInfo
from engine.audio.sink import Stored
from engine.dialects.catalogue import Catalogue
from engine.dialects.gladia import Problem, invalid
from engine.jobs.archive import Page, Selection, Upload
from engine.record import Record
from engine.request import Failed, Media, RawFormat, Request
from relay.guard.resolver import Resolver, Unresolved, admit
from relay.guard.rules import Refusal
from relay.guard.url import PRE_RECORDED

MAX_JSON = 256 * 1024
"""Bytes of a JSON body, which may hold a vocabulary."""

_BAD_JSON = Problem(400, 'The body is not JSON. Send {"audio_url": "https://..."} as application/json.')


class Prober(Protocol):
    """Looks into audio without decoding all of it."""

    async def probe(self, path: Path, raw: RawFormat | None) -> AudioInfo:
        """What the file is; AudioError, naming the fault and the remedy, where it cannot be decoded."""


class Fetcher(Protocol):
    """Downloads audio that a caller named by URL."""

    async def fetch(self, url: str, path: Path) -> Stored | Failed:
        """Write the audio to a new file at `path`. StorageFull where the disk is."""


class Intake(Protocol):
    """Takes jobs, durably."""

    async def accept(self, request: Request, media: Media, path: Path | None) -> None:
        """Once this returns, the job survives anything. StorageFull or StoreUnavailable, and nothing kept, where that
        cannot be, and FileNotFoundError for an upload that has just been forgotten."""


class Archive(Protocol):
    """Where jobs and uploads are found again, each by the key that made it. StoreUnavailable where they cannot be."""

    async def find(self, job_id: str, key_id: str | None) -> Record | None:
        """A job of this key."""

    def audio(self, job_id: str, key_id: str | None) -> AbstractAsyncContextManager[Path | None]:
        """A file with a job's audio, where it is kept; it may be gone after the block."""

    async def page(self, selection: Selection, *, with_results: bool = False) -> Page:
        """A part of the list of jobs."""

    async def delete(self, job_id: str, key_id: str | None) -> bool:
        """Forget a job, whatever its state; False where there is none of this key."""

    async def add_session(self, record: Record) -> None:
        """Keep a live session that is over."""

    async def add_upload(self, upload: Upload, received: Path) -> None:
        """Keep the file at `received`, durably."""

    async def upload(self, upload_id: str, key_id: str | None) -> Upload | None:
        """An upload of this key."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the endpoints work with. `public_url` is where callers reach this server; empty: where they say they do.
    `event_names` is how callback events are named, `short` or `namespaced`."""

    keys: Keys
    catalogue: Catalogue
    resolver: Resolver
    spool: Spool
    prober: Prober
    fetcher: Fetcher
    intake: Intake
    archive: Archive
    doorkeeper: Doorkeeper
    metrics: HttpMetrics
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.time
    public_url: str = ""
    event_names: str = "short"

    def base(self, http: web.Request) -> str:
        """The beginning of every URL that callers are given."""
        return self.public_url.rstrip("/") or f"{http.scheme}://{http.headers.get('Host') or _address(http)}"

    async def json(self, http: web.Request) -> Any:
        """The decoded body. Strict: what JSON does not know (NaN, half of a surrogate pair) could not be sent on."""
        try:
            return orjson.loads(await whole(http, MAX_JSON, self.limits.stall))
        except orjson.JSONDecodeError:
            raise Rejected(_BAD_JSON) from None

    async def judge(self, field_name: str, url: str, *, must_resolve: bool) -> None:
        """Turn down a URL that the guard does. A host without an address may have one later, when audio is fetched."""
        match await admit(url, self.resolver, PRE_RECORDED):
            case Refusal(message=message):
                raise Rejected(invalid(f"{field_name} must be a URL address that this server may call. {message}"))
            case Unresolved(detail=detail) if must_resolve:
                raise Rejected(invalid(f"{field_name} must be a URL address that resolves. {detail}"))


def _address(http: web.Request) -> str:
    """Where the request came in, for the rare client that does not say what it called (aiohttp would ask the DNS)."""
    host, port = http.get_extra_info("sockname")[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def answer(document: dict[str, Any], status: int = 200) -> web.Response:
    """A document. JavaScript clients decode it by its Content-Type."""
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")
