"""Where bytes from the network land: a file written in constant memory, hashed and bounded on the way."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from engine.errors import StorageFull, TooLarge

BATCH = 256 * 1024
"""Bytes gathered before a thread hashes and writes them: the event loop waits for neither. Few enough for the next ones
to come in meanwhile."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Stored:
    """What a file holds: its sha256 in hex and its size in bytes."""

    sha256: str
    size: int


async def store(chunks: AsyncIterable[bytes], path: Path, limit: int) -> Stored:
    """Write all chunks to a new file, readable by its owner only; whoever keeps it flushes it to the disk.

    Raises TooLarge beyond `limit` bytes, StorageFull when the disk is, and whatever the chunks raise; then no file is
    left.
    """
    with full_disk_named(), FileIO(path, "x", opener=private) as file, _gone_on_failure(path):
        sink = Sink(file.fileno(), limit)
        async for chunk in chunks:
            await sink.write(chunk)
        return await sink.finish()


@contextmanager
def _gone_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def full_disk_named() -> Iterator[None]:
    """Raises StorageFull for a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull from error
        raise


def private(path: str, flags: int) -> int:
    """Open a file as its owner's alone."""
    return os.open(path, flags, 0o600)


async def _in_thread(work: Callable[[], None]) -> None:
    """Run `work` in a thread, and leave no sooner than it does: a cancelled caller closes the descriptor, whose number
    the next file to be opened gets."""
    thread = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:
        await asyncio.wait({thread})
        raise


class Sink:
    """Gathers chunks into batches; one thread at a time works on them."""

    def __init__(self, descriptor: int, limit: int, batch: int = BATCH) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._enough = batch
        self._hash = hashlib.sha256()
        self._batch = bytearray()
        self._size = 0

    async def write(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._limit:
            raise TooLarge(self._limit)
        self._batch += chunk
        if len(self._batch) >= self._enough:
            await _in_thread(self._flush)

    async def finish(self) -> Stored:
        await _in_thread(self._flush)
        return Stored(self._hash.hexdigest(), self._size)

    def _flush(self) -> None:
        self._hash.update(self._batch)
        with memoryview(self._batch) as rest:
            written = 0
            while written < len(rest):
                written += os.write(self._descriptor, rest[written:])
        self._batch.clear()
