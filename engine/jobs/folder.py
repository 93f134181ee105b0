"""Where the audio of unfinished jobs lies: one file a job, named after it, durable before the job exists."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

# An upload or an accept of another engine on this folder may be under way: only what lay still for so long is litter.
GRACE_SECONDS = 3600.0

Wanted = Callable[[Sequence[str]], Awaitable[Mapping[str, bool]]]


class AudioFolder:
    """Uploads arrive in `incoming`; what is accepted moves up, on the same file system and so in one step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.incoming = path / "incoming"

    def create(self) -> None:
        """Make the folder, readable by its owner only."""
        self.incoming.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, job_id: str) -> Path:
        """Where the audio of a job lies, or will lie."""
        return self._path / job_id

    async def keep(self, received: Path, job_id: str) -> None:
        """Move a received file to its job's place; it survives a power cut once this returns. Raises OSError."""
        await asyncio.to_thread(self._keep, received, job_id)

    def _keep(self, received: Path, job_id: str) -> None:
        _sync(received)
        received.replace(self.path(job_id))
        _sync(self._path)

    async def remove(self, job_id: str) -> None:
        """Delete the audio of a job; one that is gone already is as good."""
        await asyncio.to_thread(self.path(job_id).unlink, missing_ok=True)

    async def tidy(self, wanted: Wanted, now: float | None = None) -> int:
        """Delete what kills have left behind: audio of finished jobs, and old files that never became a job.

        `wanted` maps the ids among some names to whether the job still needs its audio. Returns the files deleted.
        """
        found = await asyncio.to_thread(self._files)
        jobs = await wanted([path.name for path in found if path.parent == self._path])
        before = (time.time() if now is None else now) - GRACE_SECONDS
        litter = [path for path in found if not jobs.get(path.name, _untouched_since(path) > before)]
        for path in litter:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        return len(litter)

    def _files(self) -> list[Path]:
        return [path for folder in (self._path, self.incoming) for path in folder.iterdir() if path.is_file()]


def _untouched_since(path: Path) -> float:
    """The later of written and moved; now, for a file that has just gone."""
    with suppress(FileNotFoundError):
        return path.stat().st_ctime
    return time.time()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
