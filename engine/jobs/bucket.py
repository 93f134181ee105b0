"""Audio as objects of an S3-compatible store, for engines on several machines. Needs obstore, an extra."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from obstore.store import S3Store

from engine.audio.sink import full_disk_named
from engine.jobs.audio_store import GRACE_SECONDS, AudioStore, Wanted
from relay.outbox.errors import StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

FOLDER = "outspoken-audio"
"""Under the prefix: what else may lie in the bucket is no litter of ours."""

_PIECE = 4 * 1024**2
_LONGEST_WORDS = 300

# Short: whoever asks tries again, or is told to. The one that matters to a machine that hangs is the second.
_CLIENT: ClientConfig = {"connect_timeout": "5s", "read_timeout": "20s", "timeout": "3600s"}
_RETRIES: RetryConfig = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=10),
    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2},
}


@dataclass(frozen=True, slots=True)
class BucketLocation:
    """A bucket, and where in it. What is empty comes from AWS's usual environment (`AWS_REGION`, `AWS_ACCESS_KEY_ID`,
    a role, ...); `endpoint` is the URL of a store that is not AWS's."""

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """What to call it before people."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def store(self) -> S3Store:
        """A client; it connects when it is first used."""
        named: S3Config = {
            "endpoint": self.endpoint,
            "region": self.region,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
        }
        given: S3Config = {name: value for name, value in named.items() if value}  # type: ignore[assignment]
        client: ClientConfig = {**_CLIENT, "allow_http": True} if self.endpoint.startswith("http://") else _CLIENT
        prefix = f"{self.prefix}/{FOLDER}".lstrip("/")
        return S3Store(self.bucket, prefix=prefix, config=given, client_options=client, retry_config=_RETRIES)


class AudioBucket(AudioStore):
    """An object is there whole or not at all, and durable once it is."""

    def __init__(self, location: BucketLocation, incoming: Path) -> None:
        super().__init__(incoming)
        self._name = location.url
        self._store = location.store()

    async def keep(self, received: Path, job_id: str) -> None:
        """Send the file, in parts where it is large."""
        with self._errors():
            await self._store.put_async(job_id, received)
        await asyncio.to_thread(received.unlink)

    async def link(self, upload_id: str, job_id: str) -> None:
        """A copy that the store itself makes. Raises FileNotFoundError."""
        with self._errors(upload_id):
            await self._store.copy_async(upload_id, job_id)

    @asynccontextmanager
    async def at_hand(self, job_id: str) -> AsyncIterator[Path]:
        """A copy on this machine, gone afterwards. Raises StorageFull and FileNotFoundError."""
        with self.arriving(job_id) as path:
            await self._fetch(job_id, path)
            yield path

    async def _fetch(self, job_id: str, path: Path) -> None:
        with full_disk_named(), path.open("xb") as file, self._errors(job_id):
            found = await self._store.get_async(job_id)
            async for piece in found.stream(min_chunk_size=_PIECE):
                await asyncio.to_thread(file.write, piece)

    async def remove(self, job_id: str) -> None:
        with self._errors():
            await self._store.delete_async(job_id)

    async def tidy(self, wanted: Wanted, now: float) -> int:
        """Delete the objects that nobody needs, page by page. Returns how many."""
        deleted, before = 0, now - GRACE_SECONDS
        with self._errors():
            async for page in self._store.list(chunk_size=1000):
                moved_at = {one["path"]: one["last_modified"].timestamp() for one in page}
                jobs = await wanted(list(moved_at))
                litter = [name for name, at in moved_at.items() if not jobs.get(name, at > before)]
                if litter:
                    await self._store.delete_async(litter)
                deleted += len(litter)
        return deleted

    @contextmanager
    def _errors(self, sought: str = "") -> Iterator[None]:
        """Raises FileNotFoundError where what is `sought` is missing, and StoreUnavailable for everything else that
        the store may say: access can be granted again, and a bucket be made."""
        try:
            yield
        except FileNotFoundError as error:
            if sought and "NoSuchBucket" not in str(error):
                raise FileNotFoundError(f"{self._name}/{FOLDER}/{sought}") from None
            raise self._unavailable(error) from None
        except (BaseError, PermissionError, TimeoutError) as error:
            raise self._unavailable(error) from None

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        said = re.sub(r"\s+", " ", str(error).partition("Debug source")[0]).strip()
        return StoreUnavailable("unavailable", f"engine.audio.url: {self._name}: {said[:_LONGEST_WORDS]}")
