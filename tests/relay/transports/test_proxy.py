"""Through a forward proxy, which only the aiohttp transport does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from relay.model import Failure
from relay.policy.destination import Rules
from relay.transports.aiohttp_client import AiohttpTransport
from relay.transports.bounds import Bounds
from relay.transports.resolver import Lookup, Resolver
from tests.relay.transports.conftest import envelope
from tests.relay.transports.receivers import OK, Reader, Receiver, Writer, answers, receiving

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
