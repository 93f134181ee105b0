"""`POST /v2/upload`: audio sent ahead, in a form or by URL, kept for the jobs that will name it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from engine.api.admission import enter
from engine.api.auth import authenticate_gladia
from engine.api.body import is_json, pieces
from engine.api.errors import REQUEST_ID, Rejected
from engine.api.gladia.documents import MAX_JSON, Parts, answer
from engine.api.multipart import FormData, Malformed, Part
from engine.audio.decode import AudioInfo
from engine.audio.sink import Stored, store
from engine.dialects.gladia import (
    Fields,
    File,
    Problem,
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


class Uploads:
    """The endpoint, one method per step."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def answer(self, http: web.Request) -> web.Response:
        """Keep the audio, and say under which URL a job finds it."""
        parts = self._parts
        key_id = await authenticate_gladia(http, parts.keys)
        await enter(http, parts.doorkeeper, key_id, MAX_JSON if is_json(http) else parts.limits.upload + _FRAMING)
        with self._parts.spool.file(http[REQUEST_ID]) as path:
            if is_json(http):
                source = await self._url(http)
                filename, stored = filename_of(source), await self._fetch(source, path)
            else:
                source = None
                filename, stored = await self._receive(http, path)
            upload = self._upload(http[REQUEST_ID], key_id, filename, stored, await self._probe(path))
            await self._parts.archive.add_upload(upload, path)
        url = upload_url(self._parts.base(http), upload.id)
        return answer(uploaded(url, file_of(upload), upload.extension, upload.size, source))

    async def _url(self, http: web.Request) -> str:
        body = await self._parts.json(http)
        fields = Fields(body if isinstance(body, dict) else {})
        fields.only("audio_url")
        url = fields.text("audio_url", MAX_JSON)
        if url is None:
            raise Rejected(invalid(*(fields.flaws or ["audio_url must be a URL address"])))
        if fields.flaws:
            raise Rejected(invalid(*fields.flaws))
        return url

    async def _fetch(self, url: str, path: Path) -> Stored:
        fetched = await self._parts.fetcher.fetch(url, path)
        if isinstance(fetched, Failed):
            if fetched.code is FailureCode.TOO_LARGE:
                raise Rejected(Problem(413, fetched.message))
            raise Rejected(invalid(f"audio_url must be a URL address that can be fetched. {fetched.message}"))
        return fetched

    async def _receive(self, http: web.Request, path: Path) -> tuple[str, Stored]:
        limits = self._parts.limits
        form = _AudioForm(http.headers.get("Content-Type", ""))
        body = pieces(http, limits.upload + _FRAMING, limits.stall)
        stored = await store(form.audio(body), path, limits.upload)
        if stored.size == 0:
            raise Rejected(invalid("audio must be a file with something in it"))
        self._parts.metrics.upload_bytes.observe(stored.size)
        return clean_filename(form.filename), stored

    async def _probe(self, path: Path) -> AudioInfo:
        try:
            return await self._parts.prober.probe(path, None)
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
            created_at=self._parts.clock(),
        )


def file_of(upload: Upload) -> File:
    """An upload as documents show it."""
    return File(
        id=upload.id,
        filename=upload.filename,
        audio_duration=round(upload.duration, 6),
        number_of_channels=upload.channels,
    )


class _AudioForm:
    """A form with one file in the field `audio`; what else it holds is passed over."""

    def __init__(self, content_type: str) -> None:
        self.filename = ""
        self._seen = False
        try:
            self._form = FormData(content_type)
        except Malformed as malformed:
            raise _refused(malformed) from None

    async def audio(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The bytes of the file."""
        inside = False
        async for piece in body:
            for event in self._events(piece):
                if isinstance(event, Part):
                    inside = self._enter(event)
                elif inside:
                    yield event
        if not self._form.finished:
            raise Rejected(invalid("audio must be complete: the form ended before its last boundary"))
        if not self._seen:
            raise Rejected(invalid("audio must be a file in the form"))

    def _events(self, piece: bytes) -> list[Part | bytes]:
        try:
            return list(self._form.feed(piece))
        except Malformed as malformed:
            raise _refused(malformed) from None

    def _enter(self, part: Part) -> bool:
        if part.name != "audio":
            return False
        if self._seen:
            raise Rejected(invalid("audio must be one file; send the others one by one"))
        self._seen = True
        self.filename = part.filename or ""
        return True


def _refused(malformed: Malformed) -> Rejected:
    return Rejected(invalid(f"audio must {malformed}"))
