"""Accepts a job: its audio is durable first, then its row, and only then is anybody told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from engine.jobs.audio_store import AudioStore
from engine.jobs.store import JobStore
from engine.request import Media, Request

log = structlog.get_logger()


class Intake:
    def __init__(self, store: JobStore, audio: AudioStore, wake: Callable[[], None]) -> None:
        self._store = store
        self._audio = audio
        self._wake = wake

    async def accept(self, request: Request, media: Media, path: Path | None) -> None:
        """Take a job and the file at `path`. None stands for the audio of `request.upload_id`, or else for audio that
        is still to be fetched from `request.audio_url`.

        Once this returns, the job survives anything. Raises StorageFull or StoreUnavailable, with nothing kept, and
        FileNotFoundError for an upload that has just been forgotten.
        """
        if path is not None:
            await self._audio.keep(path, request.id)
        elif request.upload_id is not None:
            await self._audio.link(request.upload_id, request.id)
        has_audio = path is not None or request.upload_id is not None
        async with self._audio.unkept_without_its_row(request.id):
            await self._store.accept(request, media, has_audio=has_audio)
        self._wake()
        log.info("job.accepted", **{"job.id": request.id, "bytes": media.size, "source": _source(request, path)})


def _source(request: Request, path: Path | None) -> str:
    if request.upload_id:
        return "earlier_upload"
    return "upload" if path else "url"
