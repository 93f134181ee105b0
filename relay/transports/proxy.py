"""What an HTTP forward proxy is asked, and what it answers.

The proxy is a Target: its host and port, and the credential of its URL, which is told to it alone.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import cast

from relay.guard.url import Target
from relay.policy.attempt import Envelope
from relay.transports import fault
from relay.transports.exchange import ExchangeBounds
from relay.transports.fault import Fault
from relay.transports.parser import ReplyParser
from relay.transports.request import head

_CHUNK = 4096
_BOUNDS = ExchangeBounds()


def is_tunnelled(target: Target) -> bool:
    """Whether the proxy is asked for a tunnel (`CONNECT`) to this receiver.

    Not for plain http: squid, as it comes, opens tunnels to port 443 alone, and forwards http to any usual port.
    WebSockets need one even without TLS (RFC 6455, 4.1).
    """
    return target.scheme != "http"


def head_for_proxy(proxy: Target, envelope: Envelope) -> bytes | Fault:
    """The head of a request that leaves by way of a proxy: in absolute form (RFC 9112, 3.2.2), with the credential for
    the proxy, unless it travels through a tunnel."""
    opening = head(envelope)
    target = envelope.target
    if isinstance(opening, Fault) or is_tunnelled(target):
        return opening
    method, _, rest = opening.partition(b" ")
    line, _, fields = rest.partition(b"\r\n")
    url = f"http://{target.authority}".encode()
    return b"%b %b%b\r\n%b%b" % (method, url, line, _credential(proxy), fields)


async def pass_proxy(sock: socket.socket, target: Target, proxy: Target, tls: ssl.SSLContext) -> socket.socket | Fault:
    """What leads to the target by way of the proxy at the other end of a socket: the first thing to be written is for
    the target. The socket is closed where that fails."""
    refused: Fault | None = fault.CLOSED_BY_PROXY
    try:
        if proxy.scheme == "https":
            sock = await _in_tls(sock, tls, proxy.host)
        refused = await _ask_for_tunnel(sock, target, proxy) if is_tunnelled(target) else None
    except ssl.SSLError as error:
        refused = fault.proxy_not_trusted(error)
    except ConnectionError:
        pass
    finally:
        if refused is not None:
            sock.close()
    return sock if refused is None else refused


async def _in_tls(sock: socket.socket, tls: ssl.SSLContext, host: str) -> socket.socket:
    """A socket whose other end is carried through TLS over the first, so that it can be used like that one, and TLS to
    the receiver laid over it."""
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    near.setblocking(False)
    try:
        _, pipe = await loop.create_connection(_Pipe, sock=far)
        await loop.create_connection(lambda: _Pipe(pipe), sock=sock, ssl=tls, server_hostname=host)
    except BaseException:
        near.close()  # with which its other end ends
        raise
    return near


class _Pipe(asyncio.Protocol):
    """One of two connections, each of which writes what the other reads: first the one from us, then the one to the
    proxy, which gets the first."""

    def __init__(self, other: _Pipe | None = None) -> None:
        self._other = other

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The second one makes them a pair."""
        self._transport = cast(asyncio.Transport, transport)
        # What the proxy said last is still for us. Where we have gone, nobody waits until the proxy has read the rest.
        self._end = self._transport.close if self._other is None else self._transport.abort
        if self._other is not None:
            self._other._other = self

    def data_received(self, data: bytes) -> None:
        if self._other is not None:
            self._other._transport.write(data)

    def pause_writing(self) -> None:
        if self._other is not None and not self._other._transport.is_closing():
            self._other._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None and not self._other._transport.is_closing():
            self._other._transport.resume_reading()

    def connection_lost(self, _: Exception | None) -> None:
        """One does not outlive the other."""
        if self._other is not None:
            self._other._end()


async def _ask_for_tunnel(sock: socket.socket, target: Target, proxy: Target) -> Fault | None:
    loop = asyncio.get_running_loop()
    parser = ReplyParser(_BOUNDS)
    await loop.sock_sendall(sock, _connect(target, proxy))
    # What comes in one piece with the head is dropped: in a tunnel to us, the first word is ours.
    while not parser.status:
        data = await loop.sock_recv(sock, _CHUNK)
        if not data:
            return fault.CLOSED_BY_PROXY
        if isinstance(parser.feed(data), Fault):
            return fault.MISSPOKEN_BY_PROXY
    return None if 200 <= parser.status < 300 else fault.proxy_refused(parser.status)


def _connect(target: Target, proxy: Target) -> bytes:
    authority = target.origin.partition("//")[2].encode()
    return b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (authority, authority, _credential(proxy))


def _credential(proxy: Target) -> bytes:
    return f"proxy-authorization: {proxy.authorization}\r\n".encode() if proxy.authorization else b""
