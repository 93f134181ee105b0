"""Where the audio of unfinished jobs lies: one file a job, named after it, durable before the job exists."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from engine.errors import StorageFull
from relay.errors import StoreUnavailable

# Another engine may be between moving a file in and committing its job: only what lay still for so long is litter.
GRACE_SECONDS = 3600.0

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

Wanted = Callable[[Sequence[str]], Awaitable[Mapping[str, bool]]]


class AudioFolder:
    """Files arrive in `incoming`; what belongs to a job moves up, on the same file system and so in one step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.incoming = path / "incoming"

    def create(self) -> None:
        """Make the folder, readable by its owner only."""
        for folder in (self._path, self.incoming):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, job_id: str) -> Path:
        """Where the audio of a job lies, or will lie."""
        return self._path / job_id

    @contextmanager
    def arriving(self, job_id: str) -> Iterator[Path]:
        """The path of a file yet to be written; afterwards nothing is there, unless it was kept elsewhere."""
        path = self.incoming / f"{job_id}.{secrets.token_hex(4)}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    async def keep(self, received: Path, job_id: str) -> None:
        """Move a received file to its job's place; it survives a power cut once this returns. Raises StorageFull."""
        with _full_disk_named():
            await asyncio.to_thread(self._keep, received, job_id)

    async def link(self, upload_id: str, job_id: str) -> None:
        """Let a job have the audio of an upload, as durably. Raises StorageFull, and FileNotFoundError for an upload
        that has just been forgotten."""
        with _full_disk_named():
            await asyncio.to_thread(self._link, upload_id, job_id)

    @asynccontextmanager
    async def unkept_without_its_row(self, job_id: str) -> AsyncIterator[None]:
        """Removes the file again when the database does not take the row it belongs to. Raises StorageFull for a full
        disk, else StoreUnavailable."""
        try:
            yield
        except StoreUnavailable as error:
            # Not on a cancellation: a commit that was begun is ended, and the row may stand.
            await self.remove(job_id)
            if error.kind == "full":
                raise StorageFull from error
            raise

    def _keep(self, received: Path, job_id: str) -> None:
        _sync(received)
        received.replace(self.path(job_id))
        _sync(self._path)

    def _link(self, upload_id: str, job_id: str) -> None:
        os.link(self.path(upload_id), self.path(job_id))
        _sync(self._path)

    async def remove(self, job_id: str) -> None:
        """Delete the audio of a job; one that is gone already is as good."""
        await asyncio.to_thread(self.path(job_id).unlink, missing_ok=True)

    async def tidy(self, wanted: Wanted, now: float | None = None) -> int:
        """Delete what kills have left behind: audio of finished jobs, and old files that never became a job.

        `wanted` maps the ids among some names to whether the job still needs its audio. Returns the files deleted.
        """
        found = await asyncio.to_thread(self._files)
        jobs = await wanted([path.name for path in found])
        before = (time.time() if now is None else now) - GRACE_SECONDS
        litter = [path for path in found if not jobs.get(path.name, _moved_at(path) > before)]
        for path in litter:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        return len(litter)

    def _files(self) -> list[Path]:
        return [path for path in self._path.iterdir() if path.is_file()]


@contextmanager
def _full_disk_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull from error
        raise


def _moved_at(path: Path) -> float:
    """When the file was last written or moved; now, for one that has just gone."""
    with suppress(FileNotFoundError):
        return path.stat().st_ctime
    return time.time()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
