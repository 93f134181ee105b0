"""Audio as files in one folder: of this machine, or one that all engines share."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from engine.audio.sink import full_disk_named
from engine.jobs.audio_store import GRACE_SECONDS, AudioStore, Wanted
from relay.service.disk import sync


class AudioFolder(AudioStore):
    """Files arrive in `incoming`; what belongs to a job moves up, on the same file system and so in one step."""

    def __init__(self, path: Path) -> None:
        super().__init__(path / "incoming")
        self._path = path

    def create(self) -> None:
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        super().create()

    def path(self, job_id: str) -> Path:
        """Where the audio of a job lies, or will lie."""
        return self._path / job_id

    async def keep(self, received: Path, job_id: str) -> None:
        """In one step, and then to the disk. Raises StorageFull."""
        with full_disk_named():
            await asyncio.to_thread(self._keep, received, job_id)

    async def link(self, upload_id: str, job_id: str) -> None:
        """A second name for the same bytes. Raises StorageFull and FileNotFoundError."""
        with full_disk_named():
            await asyncio.to_thread(self._link, upload_id, job_id)

    def _keep(self, received: Path, job_id: str) -> None:
        sync(received)
        received.replace(self.path(job_id))
        sync(self._path)

    def _link(self, upload_id: str, job_id: str) -> None:
        os.link(self.path(upload_id), self.path(job_id))
        sync(self._path)

    @asynccontextmanager
    async def at_hand(self, job_id: str) -> AsyncIterator[Path]:
        """The file itself. Raises FileNotFoundError."""
        path = self.path(job_id)
        if not path.exists():
            raise FileNotFoundError(path)
        yield path

    async def remove(self, job_id: str) -> None:
        await asyncio.to_thread(self.path(job_id).unlink, missing_ok=True)

    async def tidy(self, wanted: Wanted, now: float) -> int:
        found = await asyncio.to_thread(self._files)
        jobs = await wanted([path.name for path in found])
        before = now - GRACE_SECONDS
        litter = [path for path in found if not jobs.get(path.name, _moved_at(path) > before)]
        for path in litter:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        return len(litter)

    def _files(self) -> list[Path]:
        return [path for path in self._path.iterdir() if path.is_file()]


def _moved_at(path: Path) -> float:
    """When the file was last written or moved; now, for one that has just gone."""
    with suppress(FileNotFoundError):
        return path.stat().st_ctime
    return time.time()
