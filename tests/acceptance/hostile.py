"""Every hostile receiver in a process of its own, so that what they do to a relay is not done to who measures it.

    python -m tests.acceptance.hostile FOLDER COPIES

prints one JSON object, {name: [port, ...]}, and serves until killed. FOLDER gets the certificates; the authority
that issued them stands in FOLDER/authority.pem.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.relay.transports.certificates import Authority
from tests.relay.transports.receivers import (
    OK,
    Behaviour,
    Reader,
    Receiver,
    Writer,
    answers,
    answers_and_closes,
    bombs,
    drips,
    gives_up_idle,
    gives_up_midway,
    hangs,
    hangs_up,
    never_reads,
    receiving,
    refuses_early,
    repeats,
)


@dataclass(frozen=True)
class Hostility:
    """What a receiver does, the outcomes that attempts at it must have, and how it is called. `in_turn`: its
    deliveries go one after another."""

    behaviour: Behaviour
    outcomes: frozenset[str]
    scheme: str = "http"
    host: str = "127.0.0.1"
    certificate: str = ""
    expired: bool = False
    body_bytes: int = 2048
    in_turn: bool = False


LARGE = 2 * 2**20
_MOVED = b"HTTP/1.1 %s\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n"
_NO_END = b"HTTP/1.1 200 OK\r\n\r\n"
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_EMPTY = b"\r\nContent-Length: 0\r\n\r\n"


async def says_nothing(receiver: Receiver, reader: Reader, writer: Writer) -> None:
    """Accepts, hears everything, and never begins its own part of a handshake."""
    await reader.read()


def _only(*outcomes: str) -> frozenset[str]:
    return frozenset(outcomes)


HOSTILE = {
    "drips": Hostility(drips, _only("success")),
    "hangs": Hostility(hangs, _only("read_timeout")),
    "never reads": Hostility(never_reads, _only("read_timeout"), body_bytes=LARGE),
    "hangs up": Hostility(hangs_up, _only("reset")),
    "cuts its head": Hostility(answers_and_closes(b"HTTP/1.1 200 OK\r\nContent-Le"), _only("reset")),
    "endless body": Hostility(repeats(_NO_END, b"x" * 65536), _only("success")),
    "endless chunks": Hostility(repeats(_CHUNKED, b"8000\r\n" + b"x" * 0x8000 + b"\r\n"), _only("success")),
    "endless trailers": Hostility(repeats(_CHUNKED + b"0\r\n", b"X: " + b"x" * 4000 + b"\r\n"), _only("success")),
    "gzip bomb": Hostility(bombs, _only("success")),
    "302 to a 200": Hostility(answers(_MOVED % (b"302 Found", b"/elsewhere")), _only("http_3xx")),
    "307 inwards": Hostility(answers(_MOVED % (b"307 Temporary", b"http://169.254.169.254/")), _only("http_3xx")),
    "bare 101": Hostility(answers(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02hi"), _only("protocol")),
    "endless 100s": Hostility(repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), _only("protocol")),
    "endless 103s": Hostility(repeats(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), _only("protocol")),
    "head of 1 MB": Hostility(answers(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2**20 + _EMPTY), _only("protocol")),
    "10,000 headers": Hostility(answers(b"HTTP/1.1 200 OK" + b"\r\nX: y" * 10_000 + _EMPTY), _only("protocol")),
    "head without end": Hostility(repeats(b"HTTP/1.1 200 ", b"x" * 4096), _only("protocol")),
    "not HTTP": Hostility(answers(b"SSH-2.0-OpenSSH_9.2\r\n"), _only("protocol")),
    "early 413": Hostility(refuses_early, _only("http_413"), body_bytes=LARGE),
    # A connection that was closed just as the request was written is no failure: it goes at once on a fresh one.
    "gives up idle": Hostility(gives_up_idle, _only("success"), in_turn=True),
    "gives up midway": Hostility(gives_up_midway, _only("success", "reset"), in_turn=True),
    "expired TLS": Hostility(
        answers(OK), _only("tls"), scheme="https", host="localhost", certificate="localhost", expired=True
    ),
    "TLS of another": Hostility(answers(OK), _only("tls"), scheme="https", certificate="other.test"),
    "TLS without end": Hostility(says_nothing, _only("connect_timeout"), scheme="https"),
}


def _tls(authority: Authority, hostility: Hostility) -> ssl.SSLContext | None:
    return authority.server(hostility.certificate, expired=hostility.expired) if hostility.certificate else None


async def serve(folder: Path, copies: int) -> None:
    """Until killed. No less willingly than anybody else: who gets no processor is silent, and not hostile."""
    authority = Authority(folder)
    (certificate,) = authority.trusted().get_ca_certs(binary_form=True)
    (folder / "authority.pem").write_text(ssl.DER_cert_to_PEM_cert(certificate))
    async with AsyncExitStack() as stack:
        ports: dict[str, list[int]] = {}
        for name, hostility in HOSTILE.items():
            tls = _tls(authority, hostility)
            receivers = [await stack.enter_async_context(receiving(hostility.behaviour, tls)) for _ in range(copies)]
            ports[name] = [receiver.port for receiver in receivers]
        print(json.dumps(ports), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
