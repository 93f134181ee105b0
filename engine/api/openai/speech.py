"""`POST /v1/audio/...`: a form with a file. What is refused leaves nothing behind, what is accepted is on disk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import orjson
from aiohttp import web

from engine.api.admission import Body, admitted
from engine.api.auth import authenticate_openai, traceparent
from engine.api.context import ApiContext
from engine.api.errors import REQUEST_ID, Rejected, not_looked_up
from engine.api.forms import FileForm
from engine.api.keep_alive import JSON, TEXT, Filling, Parts, kept_alive
from engine.api.multipart import Malformed
from engine.audio.sink import Stored, store
from engine.dialects.openai import (
    ErrorObject,
    acknowledge,
    answer,
    delta,
    event,
    events,
    failure_error,
    parse,
    plain_answer,
    refused,
)
from engine.errors import AudioError
from engine.request import Failed, Media, Request
from engine.transcript import Transcript, Word
from relay.guard.resolver import LookupShortage, Unresolved, admit
from relay.guard.rules import Refusal
from relay.guard.url import PRE_RECORDED

_FIELDS = 64 * 1024
"""Bytes of all fields but the file."""

_FRAMING = 1024 * 1024
"""Bytes of a form around its file: heads, boundaries, fields."""

EVENTS = Filling("text/event-stream", b":\n\n", event)


class OpenAiSpeech:
    """Answers with the result; with a callback, our addition, at once, and the result goes there."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api

    async def transcribe(self, http: web.Request) -> web.StreamResponse:
        return await self._answer(http, translate=False)

    async def translate(self, http: web.Request) -> web.StreamResponse:
        return await self._answer(http, translate=True)

    async def _answer(self, http: web.Request, *, translate: bool) -> web.StreamResponse:
        api, key_id = self._api, await authenticate_openai(http, self._api.keys)
        limit = api.limits.upload + _FRAMING
        async with admitted(http, api.admission, key_id, limit, api.limits.stall) as body:
            with api.spool.file(http[REQUEST_ID]) as path:
                stored, fields = await self._receive(http, body, path)
                request = self._read(http, key_id, fields, translate=translate)
                if request.callback:
                    await self._judge(request.callback.url, key_id)
                await self._probe(path)
                if not request.callback:
                    return await self._transcribe(http, request, path)
                await api.intake.accept(request, Media(stored.sha256, stored.size, api.clock()), path)
                # Nothing below may fail: an error now would make the caller send the job again.
                return web.json_response(acknowledge(request), status=202)

    async def _receive(self, http: web.Request, body: Body, path: Path) -> tuple[Stored, list[tuple[str, str]]]:
        try:
            form = FileForm(http.headers.get("Content-Type", ""), "file", _FIELDS)
            stored = await store(form.audio(body.pieces()), path, self._api.limits.upload)
        except Malformed as malformed:
            raise Rejected(refused("file", f"{malformed}.")) from None
        if stored.size == 0:
            raise Rejected(refused("file", "have something in it."))
        self._api.metrics.upload_bytes.observe(stored.size)
        return stored, form.fields

    def _read(
        self, http: web.Request, key_id: str | None, fields: list[tuple[str, str]], *, translate: bool
    ) -> Request:
        request = parse(
            fields,
            request_id=http[REQUEST_ID],
            catalogue=self._api.catalogue,
            translate=translate,
            key_id=key_id,
            traceparent=traceparent(http),
        )
        if isinstance(request, ErrorObject):
            raise Rejected(request)
        return request

    async def _judge(self, url: str, key_id: str | None) -> None:
        """Raises Rejected for a callback that no result may be sent to, or whose host has no address that is known."""
        match await admit(url, self._api.resolver, PRE_RECORDED, key_id):
            case Refusal(message=message):
                raise Rejected(refused("callback", f"be a URL that this server may call. {message}"))
            case Unresolved(detail=detail, answered=True):
                raise Rejected(refused("callback", f"be a URL that resolves. {detail}"))
            case Unresolved() | LookupShortage() as unknown:
                raise not_looked_up("callback", unknown)

    async def _probe(self, path: Path) -> None:
        try:
            await self._api.transcriber.probe(path, None)
        except AudioError as error:
            raise Rejected(refused("file", f"be audio or video that can be decoded. {error}")) from None

    async def _transcribe(self, http: web.Request, request: Request, path: Path) -> web.StreamResponse:
        deltas = Deltas() if request.options["stream"] else None

        async def result(_: web.Request) -> web.Response:
            outcome = await self._api.transcriber.transcribe(request, path, deltas.heard if deltas else None)
            if isinstance(outcome, Failed):
                raise Rejected(failure_error(outcome))
            # In a thread: hours of speech take tenths of a second.
            told = deltas.told if deltas else 0
            response = await asyncio.to_thread(_rendered, request, outcome, told)
            return deltas.before(response) if deltas else response

        parts = deltas.parts if deltas else None
        return await kept_alive(http, result, self._api.limits.keep_alive, _filling(request), parts)


class Deltas:
    """The events of a stream while recognition goes on: `told` is how many words they have brought."""

    def __init__(self) -> None:
        self.parts = Parts()
        self.told = 0

    def before(self, rest: web.Response) -> web.Response:
        """The rest of the stream, behind those that nobody has sent yet."""
        assert isinstance(rest.body, bytes)
        rest.body = self.parts.take() + rest.body
        return rest

    def heard(self, words: Sequence[Word]) -> None:
        if words:
            self.parts.add(delta(words, first=self.told == 0))
            self.told += len(words)


def _filling(request: Request) -> Filling:
    if request.options["stream"]:
        return replace(EVENTS, headers={"Cache-Control": "no-cache", **_warned(request)})
    filling = TEXT if request.options["format"] in {"text", "srt", "vtt"} else JSON
    return replace(filling, headers=_warned(request))


def _warned(request: Request) -> dict[str, str]:
    return {"x-warnings": json.dumps([dict(one) for one in request.warnings])} if request.warnings else {}


def _rendered(request: Request, transcript: Transcript, told: int) -> web.Response:
    headers = _warned(request)
    if request.options["stream"]:
        headers |= {"Content-Type": EVENTS.content_type, "Cache-Control": "no-cache"}
        return web.Response(body=events(request, transcript, told), headers=headers)
    text = plain_answer(request, transcript)
    if text is not None:
        return web.Response(text=text, headers=headers, content_type="text/plain")
    body = orjson.dumps(answer(request, transcript))
    return web.Response(body=body, headers=headers, content_type="application/json")
