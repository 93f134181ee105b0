"""`POST /v2/upload`: audio sent ahead, in a form or by URL, kept for the jobs that will name it."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from engine.api.admission import Body, admitted, is_json
from engine.api.auth import authenticate_gladia
from engine.api.context import ApiContext
from engine.api.errors import REQUEST_ID, Rejected
from engine.api.forms import FileForm
from engine.api.gladia.documents import MAX_JSON, answer, base_url, read_json
from engine.api.multipart import Malformed
from engine.audio.decode import AudioInfo
from engine.audio.sink import Stored, store
from engine.dialects.gladia import (
    Fields,
    GladiaProblem,
    UploadedFile,
    clean_filename,
    extension_of,
    filename_of,
    invalid,
    upload_url,
    uploaded,
)
from engine.errors import AudioError
from engine.jobs.archive import Upload
from engine.request import Failed, FailureCode

_FRAMING = 1024 * 1024
"""Bytes of a form around its audio: heads, boundaries, other fields."""


class GladiaUploads:
    """What came in a form or from a URL is kept under a URL of ours, for the key that sent it."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api

    async def answer(self, http: web.Request) -> web.Response:
        api, key_id = self._api, await authenticate_gladia(http, self._api.keys)
        limit = MAX_JSON if is_json(http) else api.limits.upload + _FRAMING
        async with admitted(http, api.admission, key_id, limit, api.limits.stall) as body:
            with api.spool.file(http[REQUEST_ID]) as path:
                if is_json(http):
                    source = _audio_url(await read_json(body))
                    filename, stored = filename_of(source), await self._fetch(source, path)
                    await body.weigh(stored.size)
                else:
                    source = None
                    filename, stored = await self._receive(http, body, path)
                upload = self._upload(http[REQUEST_ID], key_id, filename, stored, await self._probe(path))
                await api.archive.add_upload(upload, path)
            url = upload_url(base_url(api, http), upload.id)
            return answer(uploaded(url, file_of(upload), upload.extension, upload.size, source))

    async def _fetch(self, url: str, path: Path) -> Stored:
        fetched = await self._api.fetcher.fetch(url, path)
        if isinstance(fetched, Failed):
            if fetched.code is FailureCode.TOO_LARGE:
                raise Rejected(GladiaProblem(413, fetched.message))
            raise Rejected(invalid(f"audio_url must be a URL address that can be fetched. {fetched.message}"))
        return fetched

    async def _receive(self, http: web.Request, body: Body, path: Path) -> tuple[str, Stored]:
        try:
            form = FileForm(http.headers.get("Content-Type", ""), "audio")
            stored = await store(form.audio(body.pieces()), path, self._api.limits.upload)
        except Malformed as malformed:
            raise Rejected(invalid(f"audio must {malformed}")) from None
        if stored.size == 0:
            raise Rejected(invalid("audio must be a file with something in it"))
        self._api.metrics.upload_bytes.observe(stored.size)
        return clean_filename(form.filename), stored

    async def _probe(self, path: Path) -> AudioInfo:
        try:
            return await self._api.transcriber.probe(path, None)
        except AudioError as error:
            raise Rejected(invalid(f"audio must be audio or video that can be decoded. {error}")) from None

    def _upload(self, upload_id: str, key_id: str | None, filename: str, stored: Stored, info: AudioInfo) -> Upload:
        return Upload(
            id=upload_id,
            key_id=key_id,
            filename=filename,
            extension=extension_of(info.container, filename),
            size=stored.size,
            sha256=stored.sha256,
            # What the container claims, and nothing where it claims nothing: all of the audio is decoded only later.
            duration=info.duration or 0.0,
            channels=info.channels,
            created_at=self._api.clock(),
        )


def _audio_url(body: object) -> str:
    fields = Fields(body if isinstance(body, dict) else {})
    fields.only("audio_url")
    url = fields.text("audio_url", MAX_JSON)
    if url is None:
        raise Rejected(invalid(*(fields.flaws or ["audio_url must be a URL address"])))
    if fields.flaws:
        raise Rejected(invalid(*fields.flaws))
    return url


def file_of(upload: Upload) -> UploadedFile:
    """An upload as documents show it."""
    return UploadedFile(
        id=upload.id,
        filename=upload.filename,
        audio_duration=round(upload.duration, 6),
        number_of_channels=upload.channels,
    )
