"""`/v2/pre-recorded`: make a job, look at it, list jobs, forget one, get its audio back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aiohttp import web

from engine.api.admission import admitted
from engine.api.auth import authenticate_gladia, traceparent
from engine.api.context import ApiContext
from engine.api.errors import REQUEST_ID, Rejected
from engine.api.gladia.documents import MAX_JSON, answer, base_url, download, find, judge_url, page, read_json, rendered
from engine.api.gladia.uploads import file_of
from engine.dialects.gladia import (
    RECORDED,
    GladiaProblem,
    filename_of,
    invalid,
    job,
    parse,
    started,
    upload_id_of,
    upload_url,
)
from engine.dialects.warnings import Unsupported
from engine.record import Record
from engine.request import Media, Request

_NO_JOB = GladiaProblem(404, "There is no such job: it was deleted, or is no longer kept, or another key made it.")
_NO_FILE = GladiaProblem(404, "The audio of this job is not here: it is yet to be fetched, or no longer kept.")
_FORGOTTEN = invalid("audio_url must name an upload that is still kept and that this key made. Upload the audio again.")


class GladiaRecorded:
    """The endpoints, one method each. `event_names` is how callback events are named, `short` or `namespaced`;
    `unsupported` is what becomes of fields that cannot be honoured and do no harm when they are missing."""

    def __init__(self, api: ApiContext, event_names: str, unsupported: Unsupported) -> None:
        self._api = api
        self._event_names = event_names
        self._unsupported: Unsupported = unsupported

    async def create(self, http: web.Request) -> web.Response:
        """Accept a job. What is refused is refused before anything is stored, what is accepted is on disk."""
        api, key_id = self._api, await authenticate_gladia(http, self._api.keys)
        async with admitted(http, api.admission, key_id, MAX_JSON, api.limits.stall) as body:
            request, media = await self._with_audio(http, await self._read(http, key_id, await read_json(body)))
            if request.upload_id is None and request.audio_url is not None:
                await judge_url(api.fetcher.resolver, "audio_url", request.audio_url, key_id, must_resolve=False)
            try:
                await api.intake.accept(request, media, None)
            except FileNotFoundError:  # forgotten this very moment
                raise Rejected(_FORGOTTEN) from None
            # Nothing below may fail: an error now would make the caller send the job again.
            return answer(started(request, base_url(api, http)), 201)

    async def get(self, http: web.Request) -> web.Response:
        """A job as it stands now, with its result once there is one."""
        record = await self._find(http, await authenticate_gladia(http, self._api.keys))
        return await rendered(lambda: job(record))

    async def index(self, http: web.Request) -> web.Response:
        """The caller's jobs, the newest first, results included."""
        key_id = await authenticate_gladia(http, self._api.keys)
        return await page(self._api, http, key_id, RECORDED, "pre-recorded", job)

    async def delete(self, http: web.Request) -> web.Response:
        """Forget a job, its result and its audio; what is under way is abandoned."""
        key_id = await authenticate_gladia(http, self._api.keys)
        if not await self._api.archive.delete((await self._find(http, key_id)).request.id, key_id):
            raise Rejected(_NO_JOB)  # somebody else was faster
        # Not JSON: JavaScript clients look for the status, which they are shown of other types only.
        return web.Response(status=202)

    async def file(self, http: web.Request) -> web.StreamResponse:
        """The audio, byte for byte."""
        key_id = await authenticate_gladia(http, self._api.keys)
        record = await self._find(http, key_id)
        return await download(self._api, http, record.request.id, key_id, _filename(record), _NO_FILE)

    async def _read(self, http: web.Request, key_id: str | None, body: Any) -> Request:
        request = parse(
            body,
            request_id=http[REQUEST_ID],
            catalogue=self._api.catalogue,
            key_id=key_id,
            traceparent=traceparent(http),
            event_names=self._event_names,
            unsupported=self._unsupported,
        )
        if isinstance(request, GladiaProblem):
            raise Rejected(request)
        if request.callback:
            name = "callback_url" if body.get("callback_url") == request.callback.url else "callback_config.url"
            await judge_url(self._api.resolver, name, request.callback.url, key_id, must_resolve=True)
        return request

    async def _with_audio(self, http: web.Request, request: Request) -> tuple[Request, Media]:
        """The request with its audio found, where it is an upload of ours: those are never fetched by URL."""
        url, now = request.audio_url or "", self._api.clock()
        upload_id = upload_id_of(url)
        upload = await self._api.archive.upload(upload_id, request.key_id) if upload_id else None
        if upload:
            options = {**request.options, "file": file_of(upload), "audio_url": url}
            found = replace(request, upload_id=upload.id, audio_url=None, options=options)
            return found, Media(upload.sha256, upload.size, now)
        if upload_id and url.startswith(upload_url(base_url(self._api, http), "")):
            raise Rejected(_FORGOTTEN)
        return request, Media("", 0, now)

    async def _find(self, http: web.Request, key_id: str | None) -> Record:
        return await find(self._api, http, key_id, RECORDED, _NO_JOB)


def _filename(record: Record) -> str:
    file = record.request.options.get("file")
    return str(file["filename"]) if isinstance(file, dict) else filename_of(record.request.audio_url or "")
