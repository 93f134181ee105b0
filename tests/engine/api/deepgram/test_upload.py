"""Uploads under stress: large, slow, broken off, and onto a full disk."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from engine.api.admission import RequestLimits
from tests.engine.api.conftest import wav
from tests.engine.api.stage import Stage, client_of, stage

RAW = {"encoding": "linear16", "sample_rate": "16000", "callback": "http://127.0.0.1:8080/hook"}
MIB = 1024 * 1024


async def until(condition: Callable[[], bool]) -> None:
    """Wait for the file system, which announces nothing."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def begin_upload(server: Stage, announced: int, sent: bytes) -> asyncio.StreamWriter:
    """A client that has announced a body and sent some of it, as far as the server's disk."""
    url = urlsplit(server.url)
    _, writer = await asyncio.open_connection(url.hostname, url.port)
    head = f"POST /v1/listen?callback=http://127.0.0.1:8080/ HTTP/1.1\r\nHost: x\r\nContent-Length: {announced}\r\n\r\n"
    writer.write(head.encode() + sent)
    await writer.drain()
    await until(lambda: any(path.stat().st_size for path in server.stored))
    return writer


async def test_an_upload_that_breaks_off_leaves_nothing(server: Stage) -> None:
    writer = await begin_upload(server, 8 * MIB, bytes(3 * MIB))
    writer.close()
    await writer.wait_closed()
    await until(lambda: server.stored == [])
    assert await server.jobs() == []


async def test_an_upload_cut_off_by_the_servers_own_stop_leaves_nothing(server: Stage) -> None:
    writer = await begin_upload(server, 8 * MIB, bytes(3 * MIB))
    await server.app.cleanup()
    assert (server.stored, await server.jobs()) == ([], [])
    writer.close()


async def test_an_upload_that_stalls_is_given_up(tmp_path: Path) -> None:
    async def stalling() -> AsyncIterator[bytes]:
        yield wav()[:1000]
        await asyncio.Event().wait()

    async with stage(tmp_path, limits=RequestLimits(stall=0.1)) as server, client_of(server) as client:
        async with client.post("/v1/listen", data=stalling()) as response:
            assert response.status == 422
            assert (await response.json())["err_msg"] == "Unable to read the entire client request."
        assert server.stored == []


@pytest.mark.acceptance
async def test_a_full_disk_during_the_upload_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    """The process may not write files beyond 2 MiB: the very error of a disk that is full, from the kernel."""
    async with process(tmp_path, str(2 * MIB)) as (_, url), aiohttp.ClientSession(url) as client:
        async with client.post("/v1/listen", data=BytesIO(bytes(3 * MIB)), params=RAW) as response:
            body = await response.json()
            assert (response.status, body["err_code"]) == (507, "INSUFFICIENT_STORAGE")
            assert response.headers["dg-error"].startswith("The server's disk is full: nothing was stored.")
        async with client.post("/v1/listen", data=BytesIO(bytes(1 * MIB)), params=RAW) as response:
            accepted = await response.json()
    assert [path.name for path in files(tmp_path)] == [accepted["request_id"]]


@pytest.mark.acceptance
async def test_a_large_upload_does_not_grow_the_memory(tmp_path: Path) -> None:
    async def sound() -> AsyncIterator[bytes]:
        piece = bytes(MIB)
        for _ in range(200):
            yield piece

    async with process(tmp_path) as (server, url), aiohttp.ClientSession(url) as client:
        async with client.post("/v1/listen", data=BytesIO(bytes(4 * MIB)), params=RAW) as response:
            assert response.status == 200
        before = peak_memory(server)
        async with client.post("/v1/listen", data=sound(), params=RAW) as response:
            assert response.status == 200
        assert peak_memory(server) - before < 32 * MIB
    assert sorted(path.stat().st_size // MIB for path in files(tmp_path)) == [4, 200]


@asynccontextmanager
async def process(root: Path, *arguments: str) -> AsyncIterator[tuple[Process, str]]:
    """The server as a process of its own, and its URL."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.engine.api.stage", str(root), *arguments, stdin=PIPE, stdout=PIPE
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        yield server, (await server.stdout.readline()).decode().strip()
    finally:
        server.stdin.close()
        assert await server.wait() == 0


def files(root: Path) -> list[Path]:
    """All audio that such a process has left."""
    return [path for path in (root / "audio").rglob("*") if path.is_file()]


def peak_memory(server: Process) -> int:
    """The most memory that the process has held, in bytes."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) * 1024
