"""A name server on this machine, over UDP and TCP, that answers as it is told to."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import pairwise
from typing import cast

A, CNAME, AAAA = 1, 5, 28
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5
_TRUNCATED = 0x0200
_ANSWER = 0x8180
_PATIENCE_SECONDS = 30.0
_OTHER = "another.example"


@dataclass(frozen=True)
class Says:
    """An answer: addresses, perhaps behind a chain of aliases, or a code. `after` is when it may go out; `lies` is sent
    before it, and names another question."""

    addresses: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    code: int = NOERROR
    ttl: int = 300
    truncated: bool = False
    after: asyncio.Event | None = None
    lies: tuple[str, ...] = ()
    silent: bool = False


@dataclass
class NameServer:
    """What is known is what `zone` says; `asked` are the names, each as often as it was asked for IPv4."""

    zone: Callable[[str], Says]
    port: int = 0
    asked: list[str] = field(default_factory=list)
    over_tcp: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def address(self) -> str:
        """As settings name it."""
        return f"127.0.0.1:{self.port}"

    def hear(self, query: bytes, reply: Callable[[bytes], None], *, tcp: bool = False) -> None:
        """One question."""
        task = asyncio.ensure_future(self._answer(query, reply, tcp=tcp))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, query: bytes, reply: Callable[[bytes], None], *, tcp: bool) -> None:
        name, kind, end = _question(query)
        said = self.zone(name)
        self.over_tcp += tcp
        if kind == A:
            self.asked.append(name)
            async with self._news:
                self._news.notify_all()
        if said.after:
            await said.after.wait()
        if said.silent:
            return
        question = query[12:end]
        if said.lies:
            reply(_packet(query[:2], _name(_OTHER) + question[-4:], _OTHER, kind, Says(said.lies)))
            reply(_packet(bytes([query[0] ^ 1, query[1]]), question, name, kind, Says(said.lies)))
        reply(_packet(query[:2], question, name, kind, said, tcp=tcp))

    async def until(self, so: Callable[[list[str]], bool]) -> None:
        """Wait until so much was asked. Raises TimeoutError."""
        async with asyncio.timeout(_PATIENCE_SECONDS), self._news:
            await self._news.wait_for(lambda: so(self.asked))

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The questions of one connection."""
        self._writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (size,) = struct.unpack("!H", await reader.readexactly(2))
                query = await reader.readexactly(size)
                self.hear(query, lambda packet: writer.write(struct.pack("!H", len(packet)) + packet), tcp=True)

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def name_server(zone: Callable[[str], Says]) -> AsyncIterator[NameServer]:
    """One that is open inside of the block."""
    server = NameServer(zone)
    loop = asyncio.get_running_loop()
    tcp = await asyncio.start_server(server.converse, "127.0.0.1", 0)
    server.port = tcp.sockets[0].getsockname()[1]
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", server.port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(server), sock=sock)
    try:
        yield server
    finally:
        udp.close()
        tcp.close()
        await server.close()
        await tcp.wait_closed()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.hear(data, lambda packet: self._transport.sendto(packet, addr))


def _question(query: bytes) -> tuple[str, int, int]:
    labels, at = [], 12
    while size := query[at]:
        labels.append(query[at + 1 : at + 1 + size].decode())
        at += size + 1
    return ".".join(labels).lower(), struct.unpack_from("!H", query, at + 1)[0], at + 5


def _packet(id_: bytes, question: bytes, name: str, kind: int, said: Says, *, tcp: bool = True) -> bytes:
    cut = said.truncated and not tcp
    chain = [name, *said.aliases]
    records = [] if cut else [_record(of, CNAME, said.ttl, _name(to)) for of, to in pairwise(chain)]
    if not cut:
        found = [ip_address(address) for address in said.addresses]
        records += [_record(chain[-1], kind, said.ttl, one.packed) for one in found if _kind(one.version) == kind]
    flags = _ANSWER | said.code | (_TRUNCATED if cut else 0)
    return id_ + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + question + b"".join(records)


def _kind(version: int) -> int:
    return A if version == 4 else AAAA


def _record(name: str, kind: int, ttl: int, data: bytes) -> bytes:
    return _name(name) + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data


def _name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
