"""Through a forward proxy, which of the transports for requests only aiohttp's does; and WebSockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from relay.guard.resolver import Lookup, Resolver
from relay.guard.rules import Rules
from relay.guard.url import Target
from relay.policy.attempt import Answer, Failure
from relay.transports.aiohttp_client import AiohttpTransport
from relay.transports.exchange import Bounds
from relay.transports.websocket import SocketBounds, WebSocketTransport
from tests.relay.transports.certificates import Authority
from tests.relay.transports.conftest import envelope
from tests.relay.transports.peers import TEXT, Frame, polite
from tests.relay.transports.receivers import OK, Reader, Receiver, Writer, answers, receiving, tunnels

Through = Callable[[str, Lookup], AiohttpTransport]


@pytest.fixture
async def through(nothing_is_left: None) -> AsyncIterator[Through]:
    """Transports through a proxy, with rules that open no private network, not even the proxy's own."""
    opened: list[AiohttpTransport] = []

    def open_one(proxy: str, lookup: Lookup) -> AiohttpTransport:
        opened.append(AiohttpTransport(Resolver(Rules(), lookup), Bounds(), proxy=proxy))
        return opened[-1]

    yield open_one
    for transport in opened:
        await transport.aclose()


async def public(host: str) -> Sequence[str]:
    return ("93.184.216.34",)


async def unknown(host: str) -> Sequence[str]:
    raise OSError(-2, "Name or service not known")


@pytest.mark.parametrize("lookup", [public, unknown], ids=["resolves here", "resolves at the proxy only"])
async def test_a_request_goes_to_the_proxy_with_the_whole_url(lookup: Lookup, through: Through) -> None:
    async with receiving(answers(OK)) as proxy:
        transport = through(f"http://127.0.0.1:{proxy.port}", lookup)
        answer = await transport.send(envelope(80))
    assert (answer.status, answer.peer) == (200, "127.0.0.1")
    assert proxy.requests[0].line == "POST http://hook.test/callback?id=7 HTTP/1.1"


async def test_the_proxy_may_have_a_name_of_its_own(through: Through) -> None:
    async with receiving(answers(OK)) as proxy:
        answer = await through(f"http://localhost:{proxy.port}", public).send(envelope(80))
    assert answer.status == 200


@pytest.mark.parametrize("host", ["10.0.0.1", "hook.test"])
async def test_a_forbidden_receiver_is_blocked_before_the_proxy_hears_of_it(host: str, through: Through) -> None:
    async def private(host: str) -> Sequence[str]:
        return ("192.168.0.1",)

    async with receiving(answers(OK)) as proxy:
        answer = await through(f"http://127.0.0.1:{proxy.port}", private).send(envelope(80, host=host))
    assert answer.failure is Failure.BLOCKED
    assert proxy.connections == 0


async def test_a_proxy_that_refuses_the_tunnel_is_a_connect_failure(through: Through) -> None:
    async def refuses(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with receiving(refuses) as proxy:
        transport = through(f"http://127.0.0.1:{proxy.port}", public)
        answer = await transport.send(envelope(443, scheme="https"))
    assert answer.failure is Failure.CONNECT
    assert answer.detail == "The proxy refused to connect to the receiver (403)."


def socket_through(proxy: int, lookup: Lookup, authority: Authority | None = None) -> WebSocketTransport:
    """WebSockets through a proxy on this machine, which the rules do not open."""
    trusted = authority.trusted() if authority else None
    url = f"http://user:pass@127.0.0.1:{proxy}"
    return WebSocketTransport(Resolver(Rules(), lookup), SocketBounds(close_timeout=0.5), trusted, url)


async def told(transport: WebSocketTransport, scheme: str, port: int) -> Answer:
    """What came of one message on one socket, and the answer to its handshake."""
    confirmed = asyncio.Event()
    opened = await transport.open(Target(scheme, "hook.test", port, "/a?b=1"), (), confirmed.set)
    if isinstance(opened, Answer):
        return opened
    await opened.send(b"{}")
    await confirmed.wait()
    await opened.close(1000)
    return opened.answer


@pytest.mark.parametrize("lookup", [public, unknown], ids=["resolves here", "resolves at the proxy only"])
@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_websocket_goes_through_a_tunnel(
    scheme: str, lookup: Lookup, authority: Authority, nothing_is_left: None
) -> None:
    heard: list[Frame] = []
    tls = authority.server("hook.test") if scheme == "wss" else None
    async with receiving(tunnels()) as proxy, receiving(polite(heard), tls) as receiver:
        answer = await told(socket_through(proxy.port, lookup, authority), scheme, receiver.port)
    assert (answer.status, answer.peer) == (101, "127.0.0.1")
    assert [one.data for one in heard if one.kind == TEXT] == [b"{}"]
    assert proxy.requests[0].line == f"CONNECT hook.test:{receiver.port} HTTP/1.1"
    assert dict(proxy.requests[0].headers)["proxy-authorization"] == "Basic dXNlcjpwYXNz"
    assert receiver.requests[0].line == "GET /a?b=1 HTTP/1.1"
    assert "proxy-authorization" not in dict(receiver.requests[0].headers)


async def test_a_certificate_is_checked_behind_a_proxy_too(authority: Authority, nothing_is_left: None) -> None:
    async with receiving(tunnels()) as proxy, receiving(polite([]), authority.server("other.test")) as receiver:
        answer = await told(socket_through(proxy.port, public, authority), "wss", receiver.port)
    assert answer.failure is Failure.TLS


async def test_a_forbidden_receiver_of_a_websocket_is_blocked_before_the_proxy_hears_of_it(
    nothing_is_left: None,
) -> None:
    async def private(host: str) -> Sequence[str]:
        return ("192.168.0.1",)

    async with receiving(tunnels()) as proxy:
        answer = await told(socket_through(proxy.port, private), "ws", 80)
    assert answer.failure is Failure.BLOCKED
    assert proxy.connections == 0


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_proxy_that_refuses_a_websocket_is_a_connect_failure(scheme: str, nothing_is_left: None) -> None:
    async def refuses(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with receiving(refuses) as proxy:
        answer = await told(socket_through(proxy.port, public), scheme, 443)
    assert (answer.failure, answer.detail) == (
        Failure.CONNECT,
        "The proxy refused to connect to the receiver (403).",
    )
