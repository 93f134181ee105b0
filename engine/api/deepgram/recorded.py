"""`POST /v1/listen`: what is refused is refused before anything is stored, what is accepted is on disk."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import orjson
from aiohttp import web

from engine.api.admission import Body, admitted, is_json
from engine.api.auth import authenticate, traceparent
from engine.api.context import ApiContext
from engine.api.errors import REQUEST_ID, Rejected, not_looked_up
from engine.api.keep_alive import kept_alive
from engine.audio.fetch import TransientFailure, refused
from engine.audio.pcm import raw_format
from engine.audio.sink import Stored, store
from engine.dialects.deepgram import (
    MAX_JSON,
    BadRequest,
    acknowledge,
    failure_reply,
    instead_of_audio,
    invalid_callback,
    parse,
    parse_body,
    render,
    too_much_json,
    unresolved_callback,
)
from engine.dialects.warnings import Unsupported
from engine.errors import AudioError, TooLarge
from engine.request import Failed, FailureCode, Media, Request
from engine.transcript import Transcript
from relay.guard.resolver import LookupShortage, Resolver, Unresolved, admit
from relay.guard.rules import Refusal
from relay.guard.url import PRE_RECORDED

_EMPTY = "The body is empty; send the audio's bytes, or JSON with a url."
_BEGINNING = 64
"""Bytes of a body that tell what it is."""


class DeepgramRecorded:
    """Answers with an acknowledgement where there is a callback, else with the result itself."""

    def __init__(self, api: ApiContext, unsupported: Unsupported = "warn") -> None:
        self._api = api
        self._unsupported: Unsupported = unsupported

    async def answer(self, http: web.Request) -> web.StreamResponse:
        api, request = self._api, await self._read(http)
        if is_json(http) and (http.content_length or 0) > MAX_JSON:
            raise Rejected(too_much_json(http.content_length))
        limit = MAX_JSON if is_json(http) else api.limits.upload
        async with admitted(http, api.admission, request.key_id, limit, api.limits.stall) as body:
            if is_json(http):
                request = await self._with_url(request, body)
                if request.callback:
                    return await self._accept(request, self._media(Stored("", 0)), None)
            with api.spool.file(request.id) as path:
                media = self._media(await self._obtain(body, request, path))
                await self._probe(http, path, request)
                if request.callback:
                    return await self._accept(request, media, path)
                return await self._transcribe(http, request, media, path)

    async def _read(self, http: web.Request) -> Request:
        request = parse(
            list(http.rel_url.query.items()),
            key_id=await authenticate(http, self._api.keys, granted=True),
            request_id=http[REQUEST_ID],
            catalogue=self._api.catalogue,
            raw_format=raw_format,
            traceparent=traceparent(http),
            unsupported=self._unsupported,
        )
        if isinstance(request, BadRequest):
            raise Rejected(request)
        if request.callback:
            await judge_callback(request, self._api.resolver, PRE_RECORDED)
        return request

    async def _with_url(self, request: Request, body: Body) -> Request:
        """The request with the URL in a JSON body. One that does not resolve may do so later, when it is fetched."""
        try:
            reference = parse_body(await body.whole())
        except TooLarge:
            raise Rejected(too_much_json(None)) from None
        if isinstance(reference, BadRequest):
            raise Rejected(reference)
        url = reference.url
        judged = await admit(url, self._api.fetcher.resolver, PRE_RECORDED, request.key_id)
        if isinstance(judged, Refusal):
            raise Rejected(failure_reply(refused(judged)))
        return replace(request, audio_url=url, warnings=(*request.warnings, *reference.warnings))

    async def _obtain(self, body: Body, request: Request, path: Path) -> Stored:
        if request.audio_url is None:
            return await self._receive(body, path)
        fetched = await self._api.fetcher.fetch(request.audio_url, path)
        if isinstance(fetched, TransientFailure) and fetched.unknown:
            raise not_looked_up("url", fetched.unknown)
        if isinstance(fetched, Failed):
            raise Rejected(failure_reply(fetched))
        return fetched

    async def _receive(self, body: Body, path: Path) -> Stored:
        stored = await store(body.pieces(), path, self._api.limits.upload)
        if stored.size == 0:
            # Deepgram's Python SDK sends a generator again as nothing: that must not become an empty transcript.
            raise Rejected(_bad_audio(_EMPTY))
        self._api.metrics.upload_bytes.observe(stored.size)
        return stored

    async def _probe(self, http: web.Request, path: Path, request: Request) -> None:
        """Raises Rejected for what is no audio. With a callback the vendor tells that there, under the request's id;
        but not of a body that was meant to be something else."""
        try:
            await self._api.transcriber.probe(path, request.raw)
        except AudioError as error:
            beginning = await asyncio.to_thread(_beginning, path)
            instead = instead_of_audio(beginning, http.headers.get("Content-Type", ""))
            if instead or not request.callback:
                raise Rejected(_bad_audio(instead or str(error))) from None

    async def _accept(self, request: Request, media: Media, path: Path | None) -> web.Response:
        await self._api.intake.accept(request, media, path)
        # Nothing below may fail: an error now would make the caller send the job again.
        return _json(acknowledge(request))

    async def _transcribe(self, http: web.Request, request: Request, media: Media, path: Path) -> web.StreamResponse:
        async def result(_: web.Request) -> web.Response:
            outcome = await self._api.transcriber.transcribe(request, path)
            return await asyncio.to_thread(_result, request, media, outcome)  # hours of speech take tenths of a second

        return await kept_alive(http, result, self._api.limits.keep_alive)

    def _media(self, stored: Stored) -> Media:
        return Media(stored.sha256, stored.size, self._api.clock())


async def judge_callback(request: Request, resolver: Resolver, schemes: frozenset[str]) -> None:
    """Raises Rejected for a callback that no result may be sent to, or whose host has no address that is known."""
    url = request.callback.url if request.callback else ""
    match await admit(url, resolver, schemes, request.key_id):
        case Refusal(message=message):
            raise Rejected(invalid_callback(f"callback: {message}"))
        case Unresolved(detail=detail, answered=True):
            raise Rejected(unresolved_callback(f"callback: {detail}"))
        case Unresolved() | LookupShortage() as unknown:
            raise not_looked_up("callback", unknown)


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_BEGINNING)


def _bad_audio(detail: str) -> BadRequest:
    return failure_reply(Failed(FailureCode.AUDIO, detail))


def _result(request: Request, media: Media, result: Transcript | Failed) -> web.Response:
    if isinstance(result, Failed):
        raise Rejected(failure_reply(result))
    return _json(render(request, media, result))


def _json(document: dict[str, object]) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")
