"""Through a forward proxy, for which an echo of one on a real socket stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from relay.guard.resolver import Found, Lookup, Names, Resolver, Unresolved
from relay.guard.rules import Rules
from relay.guard.url import Target
from relay.policy.attempt import Answer, Failure
from relay.transports.exchange import ExchangeBounds
from relay.transports.http import HttpTransport
from relay.transports.websocket import WebSocketTransport
from relay.transports.websocket_connection import WebSocketBounds
from tests.relay.transports.certificates import Authority
from tests.relay.transports.conftest import PATIENT, envelope
from tests.relay.transports.peers import TEXT, Frame, polite
from tests.relay.transports.receivers import (
    OK,
    Behaviour,
    Reader,
    Receiver,
    Writer,
    answers,
    gives_up_idle,
    hangs,
    never_reads,
    receiving,
    refuses_early,
    resets,
    tunnels,
)

CREDENTIAL = "Basic dXNlcjpwYXNz"
LARGE = bytes(20 * 2**20)
Through = Callable[..., HttpTransport]


HERE = Found(("127.0.0.1",))
"""Where `localhost` is: the proxy's host is looked up as the receiver's is."""


async def public(host: str) -> Found | Unresolved:
    if host == "nowhere.invalid":
        return await unknown(host)
    return HERE if host == "localhost" else Found(("93.184.216.34",))


async def private(host: str) -> Found:
    return HERE if host == "localhost" else Found(("192.168.0.1",))


async def unknown(host: str) -> Found | Unresolved:
    if host == "localhost":
        return HERE
    return Unresolved("The host name does not resolve: it does not exist.", answered=True)


RESOLVING = pytest.mark.parametrize("lookup", [public, unknown], ids=["resolves here", "resolves at the proxy only"])


def at(port: int, host: str = "127.0.0.1", credential: str | None = CREDENTIAL, scheme: str = "http") -> Target:
    """A proxy on this machine, which the rules do not open."""
    return Target(scheme, host, port, "/", credential)


@pytest.fixture
async def through(authority: Authority, nothing_is_left: None) -> AsyncIterator[Through]:
    """Transports through a proxy, with rules that open no private network, not even the proxy's own."""
    async with AsyncExitStack() as stack:

        def open_one(proxy: Target, lookup: Lookup = public, bounds: ExchangeBounds = PATIENT) -> HttpTransport:
            transport = HttpTransport(Resolver(Rules(), Names(lookup)), bounds, authority.trusted(), proxy)
            stack.push_async_callback(transport.aclose)
            return transport

        yield open_one


def says(answer: bytes, end: Callable[[Writer], None] | None = None) -> Behaviour:
    """Reads a request for a tunnel and says this; then it listens on, or ends the connection so."""

    async def behave(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        receiver.reached.set()
        writer.write(answer)
        await writer.drain()
        if end is None:
            await reader.read()
        else:
            end(writer)

    return behave


# http


@RESOLVING
async def test_a_plain_request_goes_to_the_proxy_with_the_whole_url(lookup: Lookup, through: Through) -> None:
    async with receiving(answers(OK)) as proxy:
        answer = await through(at(proxy.port, credential=None), lookup).send(envelope(80, b"12345"))
    assert (answer.status, answer.peer) == (200, "127.0.0.1")
    assert proxy.requests[0].line == "POST http://hook.test/callback?id=7 HTTP/1.1"
    assert proxy.requests[0].body == b"12345"
    assert sorted(proxy.requests[0].headers) == [
        ("content-length", "5"),
        ("content-type", "application/json"),
        ("host", "hook.test"),
        ("webhook-id", "msg_1"),
    ]


async def test_an_address_and_a_port_of_its_own_stand_in_the_url(through: Through) -> None:
    async with receiving(answers(OK)) as proxy:
        await through(at(proxy.port)).send(envelope(8080, host="2606:4700::1111", path="/?a=/b"))
    assert proxy.requests[0].line == "POST http://[2606:4700::1111]:8080/?a=/b HTTP/1.1"
    assert dict(proxy.requests[0].headers)["host"] == "[2606:4700::1111]:8080"


async def test_the_proxys_credential_goes_beside_the_receivers_own(through: Through) -> None:
    async with receiving(answers(OK)) as proxy:
        await through(at(proxy.port)).send(envelope(80, authorization="Basic dTpw"))
    sent = dict(proxy.requests[0].headers)
    assert (sent["proxy-authorization"], sent["authorization"]) == (CREDENTIAL, "Basic dTpw")


async def test_a_connection_to_the_proxy_is_used_again_for_the_same_receiver(through: Through) -> None:
    async with receiving(answers(OK)) as proxy:
        transport = through(at(proxy.port))
        hosts = ["a.test", "a.test", "b.test", "a.test"]
        told = [await transport.send(envelope(80, host=host)) for host in hosts]
    assert [answer.reused for answer in told] == [False, True, False, True]
    assert [dict(request.headers)["host"] for request in proxy.requests] == hosts


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_refusal_of_the_proxy_before_the_end_of_a_large_body_is_heard(
    scheme: str, through: Through, authority: Authority
) -> None:
    async with receiving(refuses_early, authority.server("localhost") if scheme == "https" else None) as proxy:
        transport = through(at(proxy.port, "localhost", scheme=scheme))
        for _ in range(5):
            answer = await transport.send(envelope(80, LARGE))
            assert (answer.status, answer.header("server"), answer.excerpt) == (413, "tiny", b"too large")


async def test_a_header_that_would_change_the_request_never_reaches_the_proxy(through: Through) -> None:
    async with receiving(answers(OK)) as proxy:
        answer = await through(at(proxy.port)).send(envelope(80, headers=(("x-a", "1\r\nx-evil: 2"),)))
    assert answer.failure is Failure.UNSENDABLE
    assert proxy.connections == 0


# https


@RESOLVING
async def test_tls_goes_through_a_tunnel_to_the_name_that_the_proxy_is_told(
    lookup: Lookup, through: Through, authority: Authority
) -> None:
    names: list[str | None] = []
    tls = authority.server("hook.test")
    tls.sni_callback = lambda _socket, name, _context: names.append(name)
    async with receiving(tunnels()) as proxy, receiving(answers(OK), tls) as receiver:
        transport = through(at(proxy.port), lookup)
        told = [await transport.send(envelope(receiver.port, bytes(2**20), scheme="https")) for _ in range(2)]
    assert [(answer.status, answer.peer, answer.reused) for answer in told] == [
        (200, "127.0.0.1", False),
        (200, "127.0.0.1", True),
    ]
    assert names == ["hook.test"]
    [asked] = proxy.requests
    authority_of_the_receiver = f"hook.test:{receiver.port}"
    assert asked.line == f"CONNECT {authority_of_the_receiver} HTTP/1.1"
    assert asked.headers == [("host", authority_of_the_receiver), ("proxy-authorization", CREDENTIAL)]
    for request in receiver.requests:
        assert request.line == "POST /callback?id=7 HTTP/1.1"
        assert dict(request.headers)["host"] == authority_of_the_receiver
        assert "proxy-authorization" not in dict(request.headers)
        assert len(request.body) == 2**20


async def test_where_the_time_went_is_told_of_a_tunnel_too(through: Through, authority: Authority) -> None:
    async with receiving(tunnels()) as proxy, receiving(answers(OK), authority.server("hook.test")) as receiver:
        transport = through(at(proxy.port))
        fresh = (await transport.send(envelope(receiver.port, scheme="https"))).timing
        kept = (await transport.send(envelope(receiver.port, scheme="https"))).timing
    steps = (fresh.dns, fresh.connect, fresh.tls, fresh.first_byte)
    assert 0 < sum(step for step in steps if step is not None) <= fresh.total
    assert None not in steps
    assert (kept.dns, kept.connect, kept.tls) == (None, None, None)


async def test_a_kept_tunnel_that_was_given_up_is_replaced_at_once(through: Through, authority: Authority) -> None:
    async with receiving(tunnels()) as proxy, receiving(gives_up_idle, authority.server("hook.test")) as receiver:
        transport = through(at(proxy.port))
        told = [await transport.send(envelope(receiver.port, scheme="https")) for _ in range(2)]
    assert [(answer.status, answer.reused) for answer in told] == [(200, False)] * 2
    assert (proxy.connections, receiver.connections) == (2, 2)


async def test_an_early_413_is_heard_through_a_tunnel(through: Through, authority: Authority) -> None:
    async def refuses(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with receiving(tunnels()) as proxy, receiving(refuses, authority.server("hook.test")) as receiver:
        transport = through(at(proxy.port))
        told = [await transport.send(envelope(receiver.port, LARGE, scheme="https")) for _ in range(2)]
    assert [(answer.status, answer.reused) for answer in told] == [(413, False)] * 2


async def test_a_deadline_is_for_the_whole_exchange_through_a_tunnel(through: Through, authority: Authority) -> None:
    async with receiving(tunnels()) as proxy, receiving(hangs, authority.server("hook.test")) as receiver:
        transport = through(at(proxy.port), bounds=ExchangeBounds(exchange_timeout=1.0))
        answer = await transport.send(envelope(receiver.port, scheme="https"))
    assert answer.failure is Failure.READ_TIMEOUT


async def test_a_certificate_is_checked_through_a_tunnel(through: Through, authority: Authority) -> None:
    async with receiving(tunnels()) as proxy, receiving(answers(OK), authority.server("other.test")) as receiver:
        answer = await through(at(proxy.port)).send(envelope(receiver.port, scheme="https"))
    assert answer.failure is Failure.TLS
    assert receiver.requests == []


# the proxy itself


@pytest.mark.parametrize("status", [403, 407, 502])
async def test_a_proxy_that_refuses_the_tunnel_is_a_connect_failure(status: int, through: Through) -> None:
    refusal = b"HTTP/1.1 %d No\r\nProxy-Authenticate: Basic\r\nContent-Length: 5\r\n\r\nsorry" % status
    async with receiving(says(refusal)) as proxy:
        answer = await through(at(proxy.port)).send(envelope(443, scheme="https"))
        await proxy.hung_up.wait()
    assert answer.failure is Failure.CONNECT
    assert answer.detail == f"The proxy refused to connect to the receiver ({status})."


async def test_an_interim_answer_of_the_proxy_is_passed_over(through: Through, authority: Authority) -> None:
    async def hesitates(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await tunnels()(receiver, reader, writer)

    async with receiving(hesitates) as proxy, receiving(answers(OK), authority.server("hook.test")) as receiver:
        answer = await through(at(proxy.port)).send(envelope(receiver.port, scheme="https"))
    assert answer.status == 200


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 Connection est"], ids=["at once", "in its head"])
@pytest.mark.parametrize("end", [lambda writer: writer.close(), resets], ids=["closes", "resets"])
async def test_a_proxy_that_hangs_up_before_the_tunnel_stands_is_a_connect_failure(
    beginning: bytes, end: Callable[[Writer], None], through: Through
) -> None:
    async with receiving(says(beginning, end)) as proxy:
        answer = await through(at(proxy.port)).send(envelope(443, scheme="https"))
    assert answer.failure is Failure.CONNECT
    assert answer.detail == "The proxy closed the connection before it led to the receiver."


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Large: " + b"x" * 2**20 + b"\r\n\r\n",
        b"HTTP/1.1 103 Wait\r\n\r\n" * 1000,
    ],
    ids=["SSH", "another protocol", "1 MB", "interim answers without end"],
)
async def test_a_proxy_that_talks_nonsense_is_a_connect_failure(answer: bytes, through: Through) -> None:
    async with receiving(says(answer)) as proxy:
        told = await through(at(proxy.port)).send(envelope(443, scheme="https"))
        await proxy.hung_up.wait()
    assert told.failure is Failure.CONNECT
    assert told.detail == "The proxy answered the request for a tunnel with no acceptable HTTP."


async def test_a_proxy_that_says_nothing_is_a_connect_timeout(through: Through) -> None:
    async with receiving(says(b"")) as proxy:
        transport = through(at(proxy.port), bounds=ExchangeBounds(connect_timeout=0.3))
        answer = await transport.send(envelope(443, scheme="https"))
        await proxy.hung_up.wait()
    assert answer.failure is Failure.CONNECT_TIMEOUT


async def test_a_tunnel_that_is_cancelled_leaves_no_socket_behind(through: Through) -> None:
    async with receiving(says(b"")) as proxy:
        sending = asyncio.create_task(through(at(proxy.port)).send(envelope(443, scheme="https")))
        await proxy.reached.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await proxy.hung_up.wait()


async def test_nobody_listening_where_the_proxy_should_be_is_a_connect_failure(through: Through) -> None:
    async with receiving(answers(OK)) as proxy:
        pass
    answer = await through(at(proxy.port)).send(envelope(443, scheme="https"))
    assert (answer.failure, answer.detail) == (Failure.CONNECT, "The connection failed: Connection refused.")


async def test_the_proxy_may_have_a_name_of_its_own(through: Through) -> None:
    async with receiving(answers(OK)) as proxy:
        answer = await through(at(proxy.port, "localhost")).send(envelope(80))
    assert answer.status == 200


async def test_a_proxy_whose_name_has_no_address_is_a_dns_failure(through: Through) -> None:
    answer = await through(at(3128, "nowhere.invalid")).send(envelope(80))
    assert answer.failure is Failure.DNS


@pytest.mark.parametrize("host", ["10.0.0.1", "hook.test"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_forbidden_receiver_is_blocked_before_the_proxy_hears_of_it(
    host: str, scheme: str, through: Through
) -> None:
    async with receiving(answers(OK)) as proxy:
        answer = await through(at(proxy.port), private).send(envelope(80, host=host, scheme=scheme))
    assert answer.failure is Failure.BLOCKED
    assert proxy.connections == 0


# TLS with the proxy


async def test_a_plain_request_goes_to_the_proxy_in_tls(through: Through, authority: Authority) -> None:
    async with receiving(answers(OK), authority.server("localhost")) as proxy:
        transport = through(at(proxy.port, "localhost", scheme="https"))
        told = [await transport.send(envelope(80, bytes(2**20))) for _ in range(2)]
    assert [(answer.status, answer.reused) for answer in told] == [(200, False), (200, True)]
    assert proxy.requests[0].line == "POST http://hook.test/callback?id=7 HTTP/1.1"
    assert dict(proxy.requests[0].headers)["proxy-authorization"] == CREDENTIAL


async def test_tls_goes_through_a_tunnel_in_tls(through: Through, authority: Authority) -> None:
    tls = authority.server("hook.test")
    async with receiving(tunnels(), authority.server("localhost")) as proxy, receiving(answers(OK), tls) as receiver:
        transport = through(at(proxy.port, "localhost", scheme="https"))
        told = [await transport.send(envelope(receiver.port, bytes(2**20), scheme="https")) for _ in range(2)]
    assert [(answer.status, answer.reused) for answer in told] == [(200, False), (200, True)]
    assert [request.line for request in proxy.requests] == [f"CONNECT hook.test:{receiver.port} HTTP/1.1"]


async def test_a_kept_tunnel_in_tls_that_was_given_up_is_replaced(through: Through, authority: Authority) -> None:
    tls = authority.server("hook.test")
    async with receiving(tunnels(), authority.server("localhost")) as proxy, receiving(gives_up_idle, tls) as receiver:
        transport = through(at(proxy.port, "localhost", scheme="https"))
        told = [await transport.send(envelope(receiver.port, scheme="https")) for _ in range(2)]
    assert [(answer.status, answer.reused) for answer in told] == [(200, False)] * 2


async def test_a_proxy_in_tls_that_never_reads_is_not_waited_for(through: Through, authority: Authority) -> None:
    async with receiving(never_reads, authority.server("localhost")) as proxy:
        transport = through(at(proxy.port, "localhost", scheme="https"), bounds=ExchangeBounds(exchange_timeout=1.0))
        answer = await transport.send(envelope(80, LARGE))
    assert answer.failure is Failure.READ_TIMEOUT


async def test_the_proxys_certificate_is_checked(through: Through, authority: Authority) -> None:
    async with receiving(tunnels(), authority.server("other.test")) as proxy:
        answer = await through(at(proxy.port, "localhost", scheme="https")).send(envelope(443, scheme="https"))
    assert answer.failure is Failure.CONNECT
    assert answer.detail.startswith("The TLS handshake with the proxy failed: Hostname mismatch")
    assert proxy.requests == []


async def test_a_proxy_that_speaks_no_tls_is_a_connect_failure(through: Through) -> None:
    async def speaks_plainly(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with receiving(speaks_plainly) as proxy:
        answer = await through(at(proxy.port, "localhost", scheme="https")).send(envelope(80))
    assert answer.failure is Failure.CONNECT
    assert answer.detail.startswith("The TLS handshake with the proxy failed: ")


# WebSockets


async def told(
    proxy: Target, scheme: str, port: int, lookup: Lookup = public, authority: Authority | None = None
) -> Answer:
    """What came of one message on one socket through a proxy, and the answer to its handshake."""
    confirmed = asyncio.Event()
    trusted = authority.trusted() if authority else None
    transport = WebSocketTransport(Resolver(Rules(), Names(lookup)), WebSocketBounds(close_timeout=0.5), trusted, proxy)
    opened = await transport.open(Target(scheme, "hook.test", port, "/a?b=1"), (), confirmed.set)
    if isinstance(opened, Answer):
        return opened
    await opened.send(b"{}")
    await confirmed.wait()
    await opened.close(1000)
    return opened.answer


@RESOLVING
@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_websocket_goes_through_a_tunnel(
    scheme: str, lookup: Lookup, authority: Authority, nothing_is_left: None
) -> None:
    heard: list[Frame] = []
    tls = authority.server("hook.test") if scheme == "wss" else None
    async with receiving(tunnels()) as proxy, receiving(polite(heard), tls) as receiver:
        answer = await told(at(proxy.port), scheme, receiver.port, lookup, authority)
    assert (answer.status, answer.peer) == (101, "127.0.0.1")
    assert [one.data for one in heard if one.kind == TEXT] == [b"{}"]
    assert proxy.requests[0].line == f"CONNECT hook.test:{receiver.port} HTTP/1.1"
    assert dict(proxy.requests[0].headers)["proxy-authorization"] == CREDENTIAL
    assert receiver.requests[0].line == "GET /a?b=1 HTTP/1.1"
    assert "proxy-authorization" not in dict(receiver.requests[0].headers)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_websocket_goes_through_a_tunnel_in_tls(
    scheme: str, authority: Authority, nothing_is_left: None
) -> None:
    heard: list[Frame] = []
    tls = authority.server("hook.test") if scheme == "wss" else None
    async with receiving(tunnels(), authority.server("localhost")) as proxy, receiving(polite(heard), tls) as receiver:
        by_name = at(proxy.port, "localhost", scheme="https")
        answer = await told(by_name, scheme, receiver.port, authority=authority)
    assert answer.status == 101
    assert [one.data for one in heard if one.kind == TEXT] == [b"{}"]


async def test_a_certificate_is_checked_behind_a_proxy_too(authority: Authority, nothing_is_left: None) -> None:
    async with receiving(tunnels()) as proxy, receiving(polite([]), authority.server("other.test")) as receiver:
        answer = await told(at(proxy.port), "wss", receiver.port, authority=authority)
    assert answer.failure is Failure.TLS


async def test_a_forbidden_receiver_of_a_websocket_is_blocked_before_the_proxy_hears_of_it(
    nothing_is_left: None,
) -> None:
    async with receiving(tunnels()) as proxy:
        answer = await told(at(proxy.port), "ws", 80, private)
    assert answer.failure is Failure.BLOCKED
    assert proxy.connections == 0


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_proxy_that_refuses_a_websocket_is_a_connect_failure(scheme: str, nothing_is_left: None) -> None:
    async with receiving(says(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")) as proxy:
        answer = await told(at(proxy.port), scheme, 443)
    assert (answer.failure, answer.detail) == (
        Failure.CONNECT,
        "The proxy refused to connect to the receiver (403).",
    )
