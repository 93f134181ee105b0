"""Bytes from the network on their way to a file."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.audio.sink import BATCH, Stored, store
from engine.errors import StorageFull, TooLarge


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize("sizes", [(), (1,), (BATCH - 1, 1, 1), (BATCH * 2 + 7,), (3,) * 1000])
async def test_what_was_sent_is_what_is_stored(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    chunks = [os.urandom(size) for size in sizes]
    whole = b"".join(chunks)
    stored = await store(pieces(*chunks), tmp_path / "a", 10 * BATCH)
    assert stored == Stored(hashlib.sha256(whole).hexdigest(), len(whole))
    assert (tmp_path / "a").read_bytes() == whole


async def test_the_limit_itself_is_allowed_and_one_byte_more_is_not(tmp_path: Path) -> None:
    assert (await store(pieces(b"12345"), tmp_path / "a", 5)).size == 5
    with pytest.raises(TooLarge):
        await store(pieces(b"12345", b"6"), tmp_path / "b", 5)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


async def test_a_file_that_is_there_already_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        await store(pieces(b"yours"), tmp_path / "a", 100)
    assert (tmp_path / "a").read_bytes() == b"mine"


async def test_a_write_that_the_kernel_refuses_is_a_full_disk(tmp_path: Path) -> None:
    """A limit on file sizes makes the kernel refuse the write, as it does on a disk without room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (BATCH, hard))
    try:
        with pytest.raises(StorageFull):
            await store(pieces(bytes(BATCH), bytes(BATCH)), tmp_path / "a", 10 * BATCH)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


async def test_a_cancelled_store_leaves_nothing(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield bytes(BATCH)
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(store(endless(), tmp_path / "a", 10 * BATCH))
    await begun.wait()
    assert (tmp_path / "a").stat().st_size == BATCH
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(tmp_path.iterdir()) == []
