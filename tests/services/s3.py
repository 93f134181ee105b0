"""An S3-compatible store of a test run's own, and a cable to it that can be pulled out."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from urllib.request import Request, urlopen

from tests.ports import free_port

_HOST = "127.0.0.1"
_START_SECONDS = 60.0


class Bucketry:
    """A running server. It takes any credentials."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://{_HOST}:{port}"
        self._numbers = count(1)

    def create(self) -> str:
        """A fresh bucket; returns its name."""
        name = f"audio-{next(self._numbers)}"
        self._ask(f"/{name}", "PUT")
        return name

    def put(self, bucket: str, key: str, body: bytes) -> None:
        """An object of somebody else's."""
        self._ask(f"/{bucket}/{key}", "PUT", body)

    def listing(self, bucket: str) -> str:
        """The document that names all objects of a bucket."""
        return self._ask(f"/{bucket}?list-type=2").decode()

    def ready(self) -> bool:
        """Whether it answers."""
        with suppress(OSError):
            self._ask("/")
            return True
        return False

    def _ask(self, path: str, method: str = "GET", body: bytes = b"") -> bytes:
        with urlopen(Request(self.url + path, data=body or None, method=method), timeout=10) as answer:
            said: bytes = answer.read()
            return said


class Cable:
    """The way to a server, over a port of its own."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._wires: set[asyncio.StreamWriter] = set()
        self.port = free_port()
        self.url = f"http://{_HOST}:{self.port}"

    async def plug_in(self) -> None:
        """Whoever connects now reaches the server."""
        self._server = await asyncio.start_server(self._join, _HOST, self.port)

    async def pull_out(self) -> None:
        """Nobody does any more, and who did is cut off."""
        if self._server is not None:
            self._server.close()
        for wire in self._wires:
            wire.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(_HOST, self._target)
        ends = {writer, far_writer}
        self._wires |= ends
        try:
            await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))
        finally:
            self._wires -= ends


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    writer.close()


@contextmanager
def running() -> Iterator[Bucketry]:
    """A server for the length of a block."""
    port = free_port()
    command = (sys.executable, "-W", "ignore", "-m", "moto.server", "-H", _HOST, "-p", str(port))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            server, give_up = Bucketry(port), time.monotonic() + _START_SECONDS
            while not server.ready():
                assert process.poll() is None, "the S3 server ended as it started"
                assert time.monotonic() < give_up, "the S3 server never answered"
            yield server
        finally:
            process.terminate()
