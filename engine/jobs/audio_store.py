"""Where the audio of unfinished jobs lies, one piece a job and named after it, durable before the job exists.

`AudioFolder` keeps it as files, `AudioBucket` as objects that any machine can fetch. What is on its way to or from
there are files in a folder of this machine's own, `incoming`.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import structlog

from engine.errors import StorageFull
from relay.outbox.errors import StoreUnavailable

# Another engine may be between moving audio in and committing its job: only what lay still for so long is litter.
GRACE_SECONDS = 3600.0

Wanted = Callable[[Sequence[str]], Awaitable[Mapping[str, bool]]]
"""Of some names, those that are jobs or uploads, and whether each still needs its audio."""

log = structlog.get_logger()


class AudioStore(ABC):
    """All that a store does may raise StoreUnavailable where it cannot be reached, with nothing changed."""

    def __init__(self, incoming: Path) -> None:
        self.incoming = incoming

    def create(self) -> None:
        """Make the folders, readable by their owner only."""
        self.incoming.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def arriving(self, job_id: str) -> Iterator[Path]:
        """The path of a file yet to be written; afterwards nothing is there, unless it was kept elsewhere."""
        path = self.incoming / f"{job_id}.{secrets.token_hex(4)}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @abstractmethod
    async def keep(self, received: Path, job_id: str) -> None:
        """Move a received file to its job's place; it survives a power cut once this returns. Raises StorageFull."""

    @abstractmethod
    async def link(self, upload_id: str, job_id: str) -> None:
        """Let a job have the audio of an upload, as durably. Raises StorageFull, and FileNotFoundError for an upload
        that has just been forgotten."""

    @abstractmethod
    def at_hand(self, job_id: str) -> AbstractAsyncContextManager[Path]:
        """The audio as a file that is only to be read, and only inside of the block. Raises StorageFull, and
        FileNotFoundError where there is none."""

    @abstractmethod
    async def remove(self, job_id: str) -> None:
        """Delete the audio of a job; one that is gone already is as good."""

    @abstractmethod
    async def tidy(self, wanted: Wanted, now: float) -> int:
        """Delete what kills have left behind: audio of finished jobs, and what is old and never became a job's.
        Returns how much."""

    async def discard(self, job_id: str) -> None:
        """Delete the audio of what has ended. Where that cannot be now, it is litter, which is cleared away later."""
        try:
            await self.remove(job_id)
        except StoreUnavailable as error:
            log.error("store.error", operation="discard", kind=error.kind, detail=str(error))

    @asynccontextmanager
    async def unkept_without_its_row(self, job_id: str) -> AsyncIterator[None]:
        """Removes the audio again when the database does not take the row it belongs to. Raises StorageFull for a full
        disk, else StoreUnavailable."""
        try:
            yield
        except StoreUnavailable as error:
            # Not on a cancellation: a commit that was begun is ended, and the row may stand.
            await self.discard(job_id)
            if error.kind == "full":
                raise StorageFull from error
            raise
