"""Receivers on real sockets, most of them hostile. Each is a short coroutine over one connection."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import cast

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Behaviour = Callable[["Receiver", Reader, Writer], Awaitable[None]]

ABRUPT = struct.pack("ii", 1, 0)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True)
class Request:
    """One request as it came over the wire."""

    head: bytes
    body: bytes = b""

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode()

    @property
    def headers(self) -> list[tuple[str, str]]:
        lines = self.head.decode("latin-1").split("\r\n")[1:-2]
        return [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]

    @property
    def length(self) -> int:
        return int(dict(self.headers)["content-length"])


@dataclass
class Receiver:
    """A listening socket, and what has come to it."""

    port: int = 0
    connections: int = 0
    requests: list[Request] = field(default_factory=list)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, reader: Reader) -> Request:
        """One whole request. Raises IncompleteReadError when there is none."""
        head = await reader.readuntil(b"\r\n\r\n")
        request = Request(head, await reader.readexactly(Request(head).length))
        self.requests.append(request)
        self.reached.set()
        return request


@asynccontextmanager
async def receiving(behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Listens on loopback with one behaviour for every connection, until the block ends."""
    receiver = Receiver()
    conversations: set[asyncio.Task[None]] = set()

    async def converse(reader: Reader, writer: Writer) -> None:
        receiver.connections += 1
        task = asyncio.current_task()
        assert task is not None
        conversations.add(task)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await behaviour(receiver, reader, writer)
        finally:
            writer.transport.abort()
            receiver.hung_up.set()

    server = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=tls, limit=2**26)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in conversations:
            task.cancel()
        await asyncio.gather(*conversations)
        await server.wait_closed()


def answers(*parts: bytes) -> Behaviour:
    """Answers every request with the same bytes, one write per part."""

    async def behave(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        while True:
            await receiver.read(reader)
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)

    return behave


def answers_and_closes(answer: bytes) -> Behaviour:
    """Answers one request, then closes the connection."""

    async def behave(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        await receiver.read(reader)
        writer.write(answer)
        await writer.drain()
        writer.close()

    return behave


def repeats(opening: bytes, part: bytes) -> Behaviour:
    """Answers with an opening and then the same part without end, as fast as it is taken."""

    async def behave(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        await receiver.read(reader)
        writer.write(opening)
        while True:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)

    return behave


async def drips(receiver: Receiver, reader: Reader, writer: Writer) -> None:
    """Sends a head and then its body one byte a second."""
    await receiver.read(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b".")
        await asyncio.sleep(1)


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(48 * 2**20), 1)


async def bombs(receiver: Receiver, reader: Reader, writer: Writer) -> None:
    """Answers with 48 KiB that inflate to 48 MiB."""
    bomb = _bomb()
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    await answers(head.encode() + bomb)(receiver, reader, writer)


async def hangs(receiver: Receiver, reader: Reader, writer: Writer) -> None:
    """Reads the request and says nothing."""
    await receiver.read(reader)
    await reader.read()


async def never_reads(receiver: Receiver, reader: Reader, writer: Writer) -> None:
    """Accepts, and reads nothing."""
    cast(asyncio.Transport, writer.transport).pause_reading()
    await asyncio.Event().wait()


async def reads_once(receiver: Receiver, reader: Reader, writer: Writer) -> None:
    """Answers one request, and reads nothing of the next."""
    await receiver.read(reader)
    cast(asyncio.Transport, writer.transport).pause_reading()
    writer.write(OK)
    await asyncio.Event().wait()


async def hangs_up(receiver: Receiver, reader: Reader, writer: Writer) -> None:
    """Reads the request and closes without a word."""
    await receiver.read(reader)


async def refuses_early(receiver: Receiver, reader: Reader, writer: Writer) -> None:
    """Answers 413 as soon as the head is there, then resets under the body."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 413 Content Too Large\r\nServer: tiny\r\nContent-Length: 9\r\n\r\ntoo large")
    await writer.drain()
    resets(writer)


def refuse_abruptly(listening: socket.socket, times: int) -> None:
    """Answers 413 and resets in the same breath, in a thread: faster than an event loop that shares its thread."""
    for _ in range(times):
        connection, _ = listening.accept()
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(1024)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPT)
            connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")


def accepts_early_and_reads_slowly(listening: socket.socket, times: int) -> list[int]:
    """Answers 200 at the head, as the last answer of its connection, and reads the body a little at a time; in a
    thread. Returns how many bytes came of each request."""
    came = []
    for _ in range(times):
        connection, _ = listening.accept()
        with connection:
            count = len(connection.recv(4096))
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            with suppress(ConnectionError):
                while part := connection.recv(16384):
                    count += len(part)
            came.append(count)
    return came


async def accepts_early(receiver: Receiver, reader: Reader, writer: Writer) -> None:
    """Answers 200 as soon as the head is there, and reads the body afterwards."""
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(OK)
    await writer.drain()
    receiver.requests.append(Request(head, await reader.readexactly(Request(head).length)))
    receiver.reached.set()
    await reader.read()


def gives_up_idle(receiver: Receiver, reader: Reader, writer: Writer) -> Awaitable[None]:
    """The first connection answers once, and is closed as soon as a second request begins to come."""
    return _first_then(receiver, reader, writer, b"")


def gives_up_midway(receiver: Receiver, reader: Reader, writer: Writer) -> Awaitable[None]:
    """Like `gives_up_idle`, but the beginning of an answer comes before the end."""
    return _first_then(receiver, reader, writer, b"HTTP/1.1 20")


async def _first_then(receiver: Receiver, reader: Reader, writer: Writer, last_words: bytes) -> None:
    if receiver.connections > 1:
        await answers(OK)(receiver, reader, writer)
    await receiver.read(reader)
    writer.write(OK)
    await reader.readexactly(1)
    writer.write(last_words)
    await writer.drain()


def resets(writer: Writer) -> None:
    """Ends a connection with RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPT)
    writer.transport.abort()


def tunnels() -> Behaviour:
    """A forward proxy: whatever a CONNECT names is reached on this machine, and what comes is passed on both ways."""

    async def behave(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        request = Request(await reader.readuntil(b"\r\n\r\n"))
        receiver.requests.append(request)
        method, authority, _ = request.line.split()
        if method != "CONNECT":
            writer.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
            return await writer.drain()
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(authority.rpartition(":")[2]))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))
        finally:
            far_writer.transport.abort()

    return behave


async def _pass_on(reader: Reader, writer: Writer) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    else:  # in TLS there is no half of an end
        writer.close()
