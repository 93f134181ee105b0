"""What an HTTP forward proxy is asked, and what it answers.

The proxy is a Target: its host and port, and the credential of its URL, which is told to it alone.
"""

from __future__ import annotations

import asyncio
import socket

from relay.guard.url import Target
from relay.policy.attempt import Envelope
from relay.transports import fault
from relay.transports.exchange import Bounds
from relay.transports.fault import Fault
from relay.transports.parser import ReplyParser
from relay.transports.request import head

_CHUNK = 4096
_BOUNDS = Bounds()


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


async def open_tunnel(sock: socket.socket, target: Target, proxy: Target) -> Fault | None:
    """Have the proxy at the other end of a socket connect it to the target. The socket is closed where that fails."""
    opened = False
    try:
        refused = await _ask(sock, target, proxy)
        opened = refused is None
        return refused
    except ConnectionError:
        return fault.CLOSED_BY_PROXY
    finally:
        if not opened:
            sock.close()


async def _ask(sock: socket.socket, target: Target, proxy: Target) -> Fault | None:
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
