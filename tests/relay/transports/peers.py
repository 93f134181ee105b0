"""WebSocket receivers written by hand, frame by frame: what a hostile one sends, no library would."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
from dataclasses import dataclass

from tests.relay.transports.receivers import Behaviour, Reader, Receiver, Request, Writer

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True)
class Frame:
    """One frame from the relay, unmasked."""

    kind: int
    data: bytes

    @property
    def code(self) -> int:
        """Of a close frame."""
        return int(struct.unpack(">H", self.data[:2])[0])


def frame(kind: int, data: bytes = b"", *, final: bool = True, claimed: int | None = None) -> bytes:
    """A server's frame; it may claim another length than it has."""
    size = len(data) if claimed is None else claimed
    head = bytes([(0x80 if final else 0) | kind])
    if size < 126:
        return head + bytes([size]) + data
    return head + (struct.pack(">BH", 126, size) if size < 65536 else struct.pack(">BQ", 127, size)) + data


async def read_frame(reader: Reader) -> Frame:
    """The relay's next frame, which has to be masked."""
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack(">H", await reader.readexactly(2))
    elif size == 127:
        (size,) = struct.unpack(">Q", await reader.readexactly(8))
    assert second & 0x80, "a client's frame is masked"
    mask = await reader.readexactly(4)
    data = bytes(byte ^ mask[index % 4] for index, byte in enumerate(await reader.readexactly(size)))
    return Frame(first & 0x0F, data)


async def handshake(receiver: Receiver, reader: Reader) -> bytes:
    """Read the request, and return the answer that accepts it."""
    request = Request(await reader.readuntil(b"\r\n\r\n"))
    receiver.requests.append(request)
    receiver.reached.set()
    key = dict(request.headers)["sec-websocket-key"].encode()
    accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def polite(heard: list[Frame]) -> Behaviour:
    """Answers pings, says goodbye, and keeps what it heard."""

    async def behave(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        writer.write(await handshake(receiver, reader))
        while True:
            came = await read_frame(reader)
            heard.append(came)
            if came.kind == PING:
                writer.write(frame(PONG, came.data))
            if came.kind == CLOSE:
                writer.write(frame(CLOSE, came.data))
                await writer.drain()
                return

    return behave


def sending(*parts: bytes, after: int | None = None) -> Behaviour:
    """Accepts, waits for a first frame of this kind, if any, sends these bytes, and then only listens."""

    async def behave(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        writer.write(await handshake(receiver, reader))
        while after is not None and (await read_frame(reader)).kind != after:
            continue
        for part in parts:
            writer.write(part)
        await reader.read()

    return behave


def deaf(*, reads: bool) -> Behaviour:
    """Accepts and answers nothing; it may not even read."""

    async def behave(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        writer.write(await handshake(receiver, reader))
        if reads:
            while await reader.read(65536):
                continue
        else:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.Event().wait()

    return behave


def flooding(what: bytes) -> Behaviour:
    """Accepts and never stops sending."""

    async def behave(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        writer.write(await handshake(receiver, reader))
        while True:
            writer.write(what * 1000)
            await writer.drain()

    return behave
