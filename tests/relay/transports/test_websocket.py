"""One WebSocket to receivers on real sockets, most of them hostile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from relay.guard.resolver import Lookup, Names, Resolver
from relay.guard.rules import Rules
from relay.guard.url import Target
from relay.policy.attempt import Answer, Failure
from relay.transports.websocket import WebSocketTransport
from relay.transports.websocket_connection import WebSocketBounds, WebSocketConnection
from tests.relay.transports.certificates import Authority
from tests.relay.transports.conftest import LOOPBACK, loopback
from tests.relay.transports.peers import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    Frame,
    deaf,
    flooding,
    frame,
    handshake,
    polite,
    read_frame,
    sending,
)
from tests.relay.transports.receivers import (
    Behaviour,
    Reader,
    Receiver,
    Writer,
    hangs,
    receiving,
    resets,
)

PATIENT = WebSocketBounds()
QUICK = WebSocketBounds(open_timeout=0.5, ping_seconds=0.1, pong_timeout=0.3, close_timeout=0.3)
SENT = (("user-agent", "tests"), ("webhook-id", "s"))


class Opened:
    """What one opening came to, and a way to wait for news of the socket."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.came: WebSocketConnection | Answer | None = None

    @property
    def socket(self) -> WebSocketConnection:
        """It has to stand."""
        assert isinstance(self.came, WebSocketConnection), self.came
        return self.came

    @property
    def answer(self) -> Answer:
        """It must not."""
        assert isinstance(self.came, Answer)
        return self.came

    async def until(self, ready: Callable[[WebSocketConnection], bool]) -> WebSocketConnection:
        """Wait until the socket is so."""
        async with asyncio.timeout(10):
            while not ready(self.socket):
                self.news.clear()
                await self.news.wait()
        return self.socket

    async def lost(self) -> Failure:
        """Why the socket is gone, once it is."""
        fault = (await self.until(lambda socket: socket.lost is not None)).lost
        assert fault is not None
        return fault.failure


Open = Callable[..., Awaitable[Opened]]


@pytest.fixture
async def open_socket(authority: Authority, nothing_is_left: None) -> AsyncIterator[Open]:
    """Opens sockets to this machine, whatever the host's name, and closes what is still open."""
    async with AsyncExitStack() as stack:

        async def open_one(
            port: int,
            bounds: WebSocketBounds = PATIENT,
            scheme: str = "ws",
            rules: Rules = LOOPBACK,
            lookup: Lookup = loopback,
            headers: Any = SENT,
        ) -> Opened:
            opened = Opened()
            transport = WebSocketTransport(Resolver(rules, Names(lookup)), bounds, authority.trusted())
            opened.came = await transport.open(Target(scheme, "hook.test", port, "/a?b=1"), headers, opened.news.set)
            if isinstance(opened.came, WebSocketConnection):
                stack.push_async_callback(opened.came.close, 1000)
            return opened

        yield open_one


async def test_messages_arrive_in_order_and_count_once_a_ping_after_them_was_answered(open_socket: Open) -> None:
    heard: list[Frame] = []
    async with receiving(polite(heard)) as receiver:
        opened = await open_socket(receiver.port)
        for number in range(100):
            await opened.socket.send(b'{"n":%d}' % number)
        await opened.until(lambda socket: socket.confirmed == 100)
        await opened.socket.close(1001)
    assert [one.data for one in heard if one.kind == TEXT] == [b'{"n":%d}' % number for number in range(100)]
    assert heard[-1].kind == CLOSE
    assert heard[-1].code == 1001
    assert 1 <= sum(one.kind == PING for one in heard) < 100
    assert opened.socket.lost is None
    assert (opened.socket.answer.status, opened.socket.answer.peer) == (101, "127.0.0.1")


async def test_the_handshake_carries_the_headers_and_no_others_of_ours(open_socket: Open) -> None:
    async with receiving(polite([])) as receiver:
        await open_socket(receiver.port)
        (request,) = receiver.requests
    assert request.line == "GET /a?b=1 HTTP/1.1"
    sent = dict(request.headers)
    assert sent.pop("host").startswith("hook.test:")
    assert len(sent.pop("sec-websocket-key")) == 24
    assert sent == {
        "user-agent": "tests",
        "webhook-id": "s",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-version": "13",
    }


async def test_a_certificate_is_checked(open_socket: Open, authority: Authority) -> None:
    async with receiving(polite([]), authority.server("hook.test")) as receiver:
        opened = await open_socket(receiver.port, scheme="wss")
        await opened.socket.send(b"{}")
        await opened.until(lambda socket: socket.confirmed == 1)
    async with receiving(polite([]), authority.server("another.test")) as receiver:
        assert (await open_socket(receiver.port, scheme="wss")).answer.failure is Failure.TLS


async def test_nothing_is_dialled_that_the_guard_forbids(open_socket: Open) -> None:
    async with receiving(polite([])) as receiver:
        refused = await open_socket(receiver.port, rules=Rules())
        assert refused.answer.failure is Failure.BLOCKED
        assert "127.0.0.1" not in refused.answer.detail
        assert receiver.connections == 0


async def test_a_redirect_is_an_answer_and_is_not_followed(open_socket: Open) -> None:
    async with receiving(polite([])) as inside:
        moved = f"HTTP/1.1 302 Found\r\nLocation: ws://hook.test:{inside.port}/\r\nContent-Length: 0\r\n\r\n"
        async with receiving(_answering(moved.encode())) as receiver:
            assert (await open_socket(receiver.port)).answer.status == 302
        assert inside.connections == 0


@pytest.mark.parametrize(
    ("head", "status", "failure"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nServer: tiny\r\nContent-Length: 0\r\n\r\n", 401, None),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 503, None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", None, Failure.PROTOCOL),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", None, Failure.PROTOCOL),
        (
            b"HTTP/1.1 101 So\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n",
            None,
            Failure.PROTOCOL,
        ),
        (b"HTTP/1.1 101 So\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", None, Failure.PROTOCOL),
        (b"220 mail.test ESMTP\r\n", None, Failure.PROTOCOL),
        (b"", None, Failure.RESET),
    ],
)
async def test_whatever_is_not_a_websocket_is_an_answer(
    open_socket: Open, head: bytes, status: int | None, failure: Failure | None
) -> None:
    async with receiving(_answering(head)) as receiver:
        answer = (await open_socket(receiver.port)).answer
    assert (answer.status, answer.failure) == (status, failure)


async def test_a_receiver_that_never_answers_is_given_up(open_socket: Open) -> None:
    async with receiving(hangs_on) as receiver:
        assert (await open_socket(receiver.port, QUICK)).answer.failure is Failure.READ_TIMEOUT


async def test_a_port_where_nobody_listens_is_an_answer(open_socket: Open) -> None:
    async with receiving(hangs) as receiver:
        port = receiver.port
    assert (await open_socket(port)).answer.failure is Failure.CONNECT


async def test_a_header_that_would_break_the_request_is_not_sent(open_socket: Open) -> None:
    async with receiving(polite([])) as receiver:
        opened = await open_socket(receiver.port, headers=(("x", "a\r\nb: c"),))
        assert opened.answer.failure is Failure.UNSENDABLE
        assert receiver.connections == 0


async def test_an_opening_that_is_cancelled_leaves_nothing(open_socket: Open) -> None:
    async with receiving(hangs_on) as receiver:
        task = asyncio.ensure_future(open_socket(receiver.port))
        async with asyncio.timeout(60):
            await receiver.reached.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()


GOODBYE = frame(CLOSE, (1000).to_bytes(2, "big"))


@pytest.mark.parametrize(
    ("behaviour", "failure"),
    [
        (sending(GOODBYE), Failure.RESET),
        (sending(frame(CLOSE)), Failure.RESET),
        (sending(frame(TEXT, b"x", claimed=2**40)), Failure.PROTOCOL),
        (sending(frame(TEXT, b"x" * 70_000)), Failure.PROTOCOL),
        (sending(frame(TEXT, b"x" * 60_000, final=False), frame(0, b"x" * 60_000)), Failure.PROTOCOL),
        (sending(b"\x8f\x00"), Failure.PROTOCOL),
        (sending(b"\xf1\x00"), Failure.PROTOCOL),
        (sending(frame(TEXT, b"\xff")), Failure.PROTOCOL),
        (sending(frame(PING, b"x" * 126)), Failure.PROTOCOL),
        (flooding(frame(TEXT)), Failure.PROTOCOL),
        (flooding(frame(PING, b"x")), Failure.PROTOCOL),
        (flooding(frame(PONG, b"1")), Failure.PROTOCOL),
        (flooding(frame(TEXT, b"x" * 60_000)), Failure.PROTOCOL),
    ],
)
async def test_a_receiver_that_goes_or_breaks_the_rules_loses_its_socket(
    open_socket: Open, behaviour: Behaviour, failure: Failure
) -> None:
    async with receiving(behaviour) as receiver:
        opened = await open_socket(receiver.port, WebSocketBounds(unasked=100))
        assert await opened.lost() is failure
        await opened.socket.send(b"too late")
        assert opened.socket.confirmed == 0


async def test_a_connection_that_ends_without_a_goodbye_is_lost(open_socket: Open) -> None:
    for end in (_ends, _breaks):
        async with receiving(end) as receiver:
            assert await (await open_socket(receiver.port)).lost() is Failure.RESET


async def test_an_echo_is_borne_for_as_long_as_it_answers_pings(open_socket: Open) -> None:
    bounds = WebSocketBounds(unasked=20)
    async with receiving(_echoing) as receiver:
        opened = await open_socket(receiver.port, bounds)
        for number in range(1, 101):
            await opened.socket.send(b"{}")
            await opened.until(lambda socket, number=number: socket.confirmed == number)  # type: ignore[misc]
        assert opened.socket.lost is None


async def test_a_ping_of_the_receivers_is_answered(open_socket: Open) -> None:
    heard: list[Frame] = []
    came = asyncio.Event()

    async def asking(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        writer.write(await handshake(receiver, reader) + frame(PING, b"there?"))
        heard.append(await read_frame(reader))
        came.set()

    async with receiving(asking) as receiver:
        await open_socket(receiver.port)
        async with asyncio.timeout(60):
            await came.wait()
    assert heard == [Frame(PONG, b"there?")]


@pytest.mark.parametrize(
    "behaviour", [deaf(reads=True), deaf(reads=False), sending(frame(PONG, b"99"), frame(PONG), after=PING)]
)
async def test_a_receiver_that_answers_no_ping_has_nothing(open_socket: Open, behaviour: Behaviour) -> None:
    async with receiving(behaviour) as receiver:
        opened = await open_socket(receiver.port, QUICK)
        await opened.socket.send(b"{}")
        assert await opened.lost() is Failure.READ_TIMEOUT
        assert opened.socket.confirmed == 0


async def test_a_receiver_that_reads_nothing_holds_nobody_up_for_ever(open_socket: Open) -> None:
    async with receiving(deaf(reads=False)) as receiver:
        opened = await open_socket(receiver.port, QUICK)
        async with asyncio.timeout(10):
            while opened.socket.lost is None:
                await opened.socket.send(b"x" * 1_000_000)
        assert await opened.lost() is Failure.READ_TIMEOUT


async def test_a_silent_socket_is_pinged_so_that_a_death_is_noticed(open_socket: Open) -> None:
    heard: list[Frame] = []
    async with receiving(deaf(reads=True)) as receiver:
        assert await (await open_socket(receiver.port, QUICK)).lost() is Failure.READ_TIMEOUT
    async with receiving(polite(heard)) as receiver:
        opened = await open_socket(receiver.port, QUICK)
        for _ in range(4):  # longer than it takes to give a dead one up
            opened.news.clear()
            async with asyncio.timeout(60):
                await opened.news.wait()
        assert opened.socket.lost is None
    assert {one.kind for one in heard} <= {PING, CLOSE}


async def test_a_receiver_that_answers_no_goodbye_is_not_waited_for(open_socket: Open) -> None:
    async with receiving(deaf(reads=True)) as receiver:
        opened = await open_socket(receiver.port, QUICK)
        async with asyncio.timeout(2):
            await opened.socket.close(1000)
        async with asyncio.timeout(2):
            await receiver.hung_up.wait()


def _answering(head: bytes) -> Behaviour:
    async def behave(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        await writer.drain()

    return behave


async def hangs_on(receiver: Receiver, reader: Reader, writer: Writer) -> None:
    """Reads the request and says nothing."""
    await reader.readuntil(b"\r\n\r\n")
    receiver.reached.set()
    await reader.read()


async def _ends(receiver: Receiver, reader: Reader, writer: Writer) -> None:
    writer.write(await handshake(receiver, reader))
    await writer.drain()
    writer.close()


async def _breaks(receiver: Receiver, reader: Reader, writer: Writer) -> None:
    writer.write(await handshake(receiver, reader))
    await writer.drain()
    await reader.read(0)
    resets(writer)


async def _echoing(receiver: Receiver, reader: Reader, writer: Writer) -> None:
    writer.write(await handshake(receiver, reader))
    while True:
        came = await read_frame(reader)
        writer.write(frame(PONG if came.kind == PING else came.kind, came.data))
