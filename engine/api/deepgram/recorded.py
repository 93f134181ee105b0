"""`POST /v1/listen`: what is refused is refused before anything is stored, what is accepted is on disk."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import orjson
from aiohttp import web

from engine.api.admission import Doorkeeper, enter, uninvited
from engine.api.auth import Keys, authenticate
from engine.api.body import Limits, is_json, pieces, whole
from engine.api.errors import REQUEST_ID, Rejected
from engine.api.keep_alive import patiently
from engine.api.metrics import HttpMetrics
from engine.api.spool import Spool
from engine.api.trace import traceparent
from engine.audio.fetch import refused
from engine.audio.sink import Stored, store
from engine.dialects.catalogue import Catalogue
from engine.dialects.deepgram import (
    BadRequest,
    RawReader,
    acknowledge,
    failure_reply,
    invalid_callback,
    parse,
    render,
    unresolved_callback,
)
from engine.errors import AudioError
from engine.request import Failed, FailureCode, Media, RawFormat, Request
from engine.transcript import Transcript
from relay.guard.resolver import Resolver, Unresolved, admit
from relay.guard.rules import Refusal
from relay.guard.url import PRE_RECORDED

PATH = "/v1/listen"

MAX_JSON = 64 * 1024
"""Bytes of a JSON body, which holds one URL."""

_EMPTY = "The body is empty; send the audio's bytes, or JSON with a url."
_BAD_JSON = "Content-type was application/json, but we could not process the JSON payload."


class Prober(Protocol):
    """Looks into audio without decoding all of it."""

    async def probe(self, path: Path, raw: RawFormat | None) -> object:
        """What the file is; AudioError, naming the fault and the remedy, where it cannot be decoded."""


class Fetcher(Protocol):
    """Downloads audio that a caller named by URL."""

    async def fetch(self, url: str, path: Path) -> Stored | Failed:
        """Write the audio to a new file at `path`. StorageFull where the disk is."""


class Intake(Protocol):
    """Takes jobs, durably."""

    async def accept(self, request: Request, media: Media, path: Path | None) -> None:
        """Once this returns, the job survives anything: the file at `path`, complete but not flushed, has been moved
        away. None stands for audio that is still to be fetched from `request.audio_url`. StorageFull or
        StoreUnavailable, and nothing kept, where that cannot be."""


class Listener(Protocol):
    """Transcribes while the caller waits."""

    async def transcribe(self, request: Request, path: Path, media: Media) -> Transcript | Failed:
        """The transcript of the file at `path`, which is gone afterwards."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the endpoint works with."""

    keys: Keys
    catalogue: Catalogue
    raw_format: RawReader
    resolver: Resolver
    spool: Spool
    prober: Prober
    fetcher: Fetcher
    intake: Intake
    listener: Listener
    doorkeeper: Doorkeeper
    metrics: HttpMetrics
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.time


def routes(parts: Parts) -> list[web.RouteDef]:
    """The endpoint, ready to be added to an application."""
    return [web.post(PATH, Listen(parts).answer, expect_handler=uninvited)]


class Listen:
    """The endpoint, one method per step."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def answer(self, http: web.Request) -> web.StreamResponse:
        """Answer one request: an acknowledgement where it has a callback, else the result itself."""
        request = await self._read(http)
        if is_json(http):
            url = await self._audio_url(http)
            request = replace(request, audio_url=url)
            if request.callback:
                return await self._accept(request, self._media(Stored("", 0)), None)
        with self._parts.spool.file(request.id) as path:
            media = self._media(await self._obtain(http, request, path))
            await self._probe(path, request.raw)
            if request.callback:
                return await self._accept(request, media, path)
            return await self._transcribe(http, request, media, path)

    async def _read(self, http: web.Request) -> Request:
        parts = self._parts
        request = parse(
            list(http.rel_url.query.items()),
            key_id=await authenticate(http, parts.keys),
            request_id=http[REQUEST_ID],
            catalogue=parts.catalogue,
            raw_format=parts.raw_format,
            traceparent=traceparent(http),
        )
        if isinstance(request, BadRequest):
            raise Rejected(request)
        if request.callback:
            await self._judge_callback(request.callback.url)
        await enter(http, parts.doorkeeper, request.key_id, MAX_JSON if is_json(http) else parts.limits.upload)
        return request

    async def _judge_callback(self, url: str) -> None:
        match await admit(url, self._parts.resolver, PRE_RECORDED):
            case Refusal(message=message):
                raise Rejected(invalid_callback(f"callback: {message}"))
            case Unresolved(detail=detail):
                raise Rejected(unresolved_callback(f"callback: {detail}"))

    async def _audio_url(self, http: web.Request) -> str:
        """The URL in a JSON body. One that does not resolve may do so later, when it is fetched."""
        url = _url(await whole(http, MAX_JSON, self._parts.limits.stall))
        judged = await admit(url, self._parts.resolver, PRE_RECORDED)
        if isinstance(judged, Refusal):
            raise Rejected(failure_reply(refused(judged)))
        return url

    async def _obtain(self, http: web.Request, request: Request, path: Path) -> Stored:
        if request.audio_url is None:
            return await self._receive(http, path)
        fetched = await self._parts.fetcher.fetch(request.audio_url, path)
        if isinstance(fetched, Failed):
            raise Rejected(failure_reply(fetched))
        return fetched

    async def _receive(self, http: web.Request, path: Path) -> Stored:
        limit = self._parts.limits.upload
        stored = await store(pieces(http, limit, self._parts.limits.stall), path, limit)
        if stored.size == 0:
            # Deepgram's Python SDK sends a generator again as nothing: that must not become an empty transcript.
            raise Rejected(_bad_audio(_EMPTY))
        self._parts.metrics.upload_bytes.observe(stored.size)
        return stored

    async def _probe(self, path: Path, raw: RawFormat | None) -> None:
        try:
            await self._parts.prober.probe(path, raw)
        except AudioError as error:
            raise Rejected(_bad_audio(str(error))) from None

    async def _accept(self, request: Request, media: Media, path: Path | None) -> web.Response:
        await self._parts.intake.accept(request, media, path)
        # Nothing below may fail: an error now would make the caller send the job again.
        return _json(acknowledge(request))

    async def _transcribe(self, http: web.Request, request: Request, media: Media, path: Path) -> web.StreamResponse:
        async def listen(_: web.Request) -> web.Response:
            result = await self._parts.listener.transcribe(request, path, media)
            return await asyncio.to_thread(_result, request, media, result)  # hours of speech take tenths of a second

        return await patiently(http, listen, self._parts.limits.pause)

    def _media(self, stored: Stored) -> Media:
        return Media(stored.sha256, stored.size, self._parts.clock())


def _url(body: bytes) -> str:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Rejected(_bad_json("The body is not JSON")) from None
    if not isinstance(document, dict) or "url" not in document:
        raise Rejected(_bad_json("url: the field is missing"))
    url = document["url"]
    if not isinstance(url, str) or not url:
        raise Rejected(_bad_json("url: the value is not a string with a URL in it"))
    return url


def _bad_json(flaw: str) -> BadRequest:
    return BadRequest("Bad Request", f'{_BAD_JSON} {flaw}; send {{"url": "https://..."}}.')


def _bad_audio(detail: str) -> BadRequest:
    return failure_reply(Failed(FailureCode.AUDIO, detail))


def _result(request: Request, media: Media, result: Transcript | Failed) -> web.Response:
    if isinstance(result, Failed):
        raise Rejected(failure_reply(result))
    return _json(render(request, media, result))


def _json(document: dict[str, object]) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")
