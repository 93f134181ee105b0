"""Accepts a job: its audio is durable first, then its row, and only then does anybody hear of it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import structlog

from engine.errors import StorageFull
from engine.jobs.folder import AudioFolder
from engine.jobs.store import JobStore
from engine.request import Media, Request
from relay.errors import StoreUnavailable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

log = structlog.get_logger()


class Intake:
    """The door of the queue."""

    def __init__(self, store: JobStore, folder: AudioFolder, wake: Callable[[], None]) -> None:
        self._store = store
        self._folder = folder
        self._wake = wake

    async def accept(self, request: Request, media: Media, path: Path | None) -> None:
        """Take a job and the file at `path`; None stands for audio still to be fetched from `request.audio_url`.

        Once this returns, the job survives anything. Raises StorageFull or StoreUnavailable, with nothing kept.
        """
        if path is not None:
            await self._keep(path, request.id)
        try:
            await self._store.accept(request, media, has_audio=path is not None)
        except StoreUnavailable as error:
            # Not on a cancellation: a commit that was begun is ended, and the job may stand.
            await self._folder.remove(request.id)
            if str(error) == "full":
                raise StorageFull from error
            raise
        self._wake()
        log.info("job.accepted", **{"job.id": request.id, "bytes": media.size, "source": "upload" if path else "url"})

    async def _keep(self, path: Path, job_id: str) -> None:
        try:
            await self._folder.keep(path, job_id)
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFull from error
            raise
