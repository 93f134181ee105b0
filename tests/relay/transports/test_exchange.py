"""What the transport does with receivers that behave."""

from __future__ import annotations

import asyncio
import gzip
import socket
import tracemalloc

import pytest

from relay.outbox.model import Method
from relay.policy.attempt import Failure
from relay.transports.exchange import ExchangeBounds
from tests.relay.transports.certificates import Authority
from tests.relay.transports.conftest import QUICK, Open, envelope
from tests.relay.transports.receivers import (
    OK,
    Reader,
    Receiver,
    Writer,
    accepts_early,
    accepts_early_and_reads_slowly,
    answers,
    answers_and_closes,
    gives_up_idle,
    gives_up_midway,
    hangs,
    reads_once,
    receiving,
)


async def test_a_post_arrives_byte_for_byte(open_transport: Open) -> None:
    body = bytes(range(256)) * 8
    async with receiving(answers(OK)) as receiver:
        answer = await open_transport().send(envelope(receiver.port, body))
    assert (answer.status, answer.failure, answer.excerpt) == (200, None, b"ok")
    [request] = receiver.requests
    assert request.line == "POST /callback?id=7 HTTP/1.1"
    assert request.body == body


async def test_only_the_envelopes_headers_and_the_framing_are_sent(open_transport: Open) -> None:
    async with receiving(answers(OK)) as receiver:
        await open_transport().send(envelope(receiver.port, b"12345"))
    assert sorted(receiver.requests[0].headers) == [
        ("content-length", "5"),
        ("content-type", "application/json"),
        ("host", f"hook.test:{receiver.port}"),
        ("webhook-id", "msg_1"),
    ]


async def test_a_put_without_headers_or_body_arrives(open_transport: Open) -> None:
    async with receiving(answers(OK)) as receiver:
        await open_transport().send(envelope(receiver.port, b"", method=Method.PUT, headers=(), path="/a%2Fb/../c"))
    [request] = receiver.requests
    assert request.line == "PUT /a%2Fb/../c HTTP/1.1"
    assert dict(request.headers) == {"host": f"hook.test:{receiver.port}", "content-length": "0"}


async def test_a_credential_of_the_url_becomes_a_header(open_transport: Open) -> None:
    async with receiving(answers(OK)) as receiver:
        await open_transport().send(envelope(receiver.port, authorization="Basic dTpw"))
    assert ("authorization", "Basic dTpw") in receiver.requests[0].headers


async def test_an_authorization_of_the_envelope_comes_before_that_of_the_url(open_transport: Open) -> None:
    own = (("Authorization", "Bearer x"),)
    async with receiving(answers(OK)) as receiver:
        await open_transport().send(envelope(receiver.port, headers=own, authorization="Basic dTpw"))
    assert [value for name, value in receiver.requests[0].headers if name == "authorization"] == ["Bearer x"]


async def test_a_body_of_many_megabytes_arrives_whole(open_transport: Open) -> None:
    body = bytes(range(256)) * 4096 * 20
    async with receiving(answers(OK)) as receiver:
        transport = open_transport(ExchangeBounds(exchange_timeout=20))
        answer = await transport.send(envelope(receiver.port, body))
        again = await transport.send(envelope(receiver.port))
    assert (answer.status, again.status, again.reused) == (200, 200, True)
    assert receiver.requests[0].body == body


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_body_is_sent_from_where_it_is(scheme: str, open_transport: Open, authority: Authority) -> None:
    """What is copied of one that nobody reads is no more than a fifth of 2 MB."""
    body = bytes(32 * 2**20)  # more than the kernel takes
    async with receiving(reads_once, authority.server("hook.test") if scheme == "https" else None) as receiver:
        transport = open_transport()
        await transport.send(envelope(receiver.port, scheme=scheme))
        tracemalloc.start()
        sending = asyncio.create_task(transport.send(envelope(receiver.port, body, scheme=scheme)))
        for _ in range(10):
            await asyncio.sleep(0)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert not sending.done()
        sending.cancel()
    assert peak < 400_000


async def test_headers_status_and_peer_of_the_answer_are_told(open_transport: Open) -> None:
    async with receiving(
        answers(b"HTTP/1.1 418 \r\nX-A: 1\r\nX-Empty:\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n")
    ) as receiver:
        answer = await open_transport().send(envelope(receiver.port))
    assert answer.status == 418
    assert [(name.lower(), value) for name, value in answer.headers] == [
        ("x-a", "1"),
        ("x-empty", ""),
        ("x-a", "2"),
        ("content-length", "0"),
    ]
    assert answer.peer == "127.0.0.1"


async def test_where_the_time_went_is_told(open_transport: Open) -> None:
    async with receiving(answers(OK)) as receiver:
        transport = open_transport()
        fresh = (await transport.send(envelope(receiver.port))).timing
        kept = (await transport.send(envelope(receiver.port))).timing
    assert fresh.dns is not None
    assert fresh.connect is not None
    assert fresh.first_byte is not None
    assert 0 < fresh.dns + fresh.connect + fresh.first_byte <= fresh.total
    assert (kept.dns, kept.connect) == (None, None)


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: t\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    ],
    ids=["length", "204", "empty", "chunked", "1.0 keep-alive"],
)
async def test_a_connection_is_used_again_after(answer: bytes, open_transport: Open) -> None:
    async with receiving(answers(answer)) as receiver:
        transport = open_transport()
        told = [await transport.send(envelope(receiver.port)) for _ in range(3)]
    assert [answer.reused for answer in told] == [False, True, True]
    assert all(answer.status and answer.status < 300 for answer in told)
    assert receiver.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nok",
        OK + b"HTTP/1.1 500 Smuggled\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["close", "1.0", "undelimited", "a second answer"],
)
async def test_a_connection_is_not_used_again_after(answer: bytes, open_transport: Open) -> None:
    async with receiving(answers_and_closes(answer)) as receiver:
        transport = open_transport()
        told = [await transport.send(envelope(receiver.port)) for _ in range(2)]
    assert [(answer.status, answer.excerpt, answer.reused) for answer in told] == [(200, b"ok", False)] * 2
    assert receiver.connections == 2


async def test_garbage_after_an_answer_ends_the_use_of_the_connection(open_transport: Open) -> None:
    async with receiving(answers_and_closes(OK + b"garbage")) as receiver:
        transport = open_transport()
        told = [await transport.send(envelope(receiver.port)) for _ in range(2)]
    assert [(answer.status, answer.failure, answer.reused) for answer in told] == [(200, None, False)] * 2


async def test_a_chunked_answer_is_put_together(open_transport: Open) -> None:
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
    async with receiving(answers(chunks)) as receiver:
        answer = await open_transport().send(envelope(receiver.port))
    assert answer.excerpt == b"abcdefg"


async def test_an_answer_may_come_byte_by_byte(open_transport: Open) -> None:
    whole = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy"
    async with receiving(answers(*(bytes([byte]) for byte in whole))) as receiver:
        transport = open_transport()
        answer = await transport.send(envelope(receiver.port))
        again = await transport.send(envelope(receiver.port))
    assert (answer.status, answer.header("retry-after"), answer.excerpt) == (503, "7", b"busy")
    assert (again.status, again.reused) == (503, True)


async def test_interim_answers_are_passed_over(open_transport: Open) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </style>\r\n\r\n"
    async with receiving(answers(b"HTTP/1.1 100 Continue\r\n\r\n" + interim * 15 + OK)) as receiver:
        answer = await open_transport().send(envelope(receiver.port))
    assert (answer.status, answer.header("link")) == (200, None)


async def test_a_gzipped_body_is_kept_unpacked(open_transport: Open) -> None:
    packed = gzip.compress(b"out of space " * 1000)
    head = f"HTTP/1.1 507 Full\r\nContent-Encoding: GZIP\r\nContent-Length: {len(packed)}\r\n\r\n"
    async with receiving(answers(head.encode() + packed)) as receiver:
        answer = await open_transport().send(envelope(receiver.port))
    assert answer.excerpt == (b"out of space " * 1000)[:4096]


async def test_a_kept_connection_that_was_given_up_is_replaced_at_once(open_transport: Open) -> None:
    async with receiving(gives_up_idle) as receiver:
        transport = open_transport()
        first = await transport.send(envelope(receiver.port))
        second = await transport.send(envelope(receiver.port, b"again"))
    assert (first.status, second.status, second.failure) == (200, 200, None)
    assert second.reused is False
    assert receiver.connections == 2
    assert [request.body for request in receiver.requests] == [b'{"text":"hello"}', b"again"]


async def test_a_connection_closed_while_idle_is_not_used(open_transport: Open) -> None:
    async with receiving(answers_and_closes(OK)) as receiver:
        transport = open_transport()
        for _ in range(5):
            answer = await transport.send(envelope(receiver.port))
            assert answer.status == 200
            await receiver.hung_up.wait()
    assert receiver.connections == 5


async def test_nothing_is_sent_twice_once_an_answer_began(open_transport: Open) -> None:
    async with receiving(gives_up_midway) as receiver:
        transport = open_transport()
        await transport.send(envelope(receiver.port))
        second = await transport.send(envelope(receiver.port))
    assert second.failure in (Failure.RESET, Failure.PROTOCOL)
    assert receiver.connections == 1


async def test_concurrent_exchanges_have_connections_of_their_own(open_transport: Open) -> None:
    meeting = asyncio.Barrier(8)

    async def meets(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        request = await receiver.read(reader)
        await meeting.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(request.body), request.body))
        await reader.read()

    async with receiving(meets) as receiver:
        transport = open_transport()
        told = await asyncio.gather(*(transport.send(envelope(receiver.port, b"%d" % number)) for number in range(8)))
    assert [answer.excerpt for answer in told] == [b"%d" % number for number in range(8)]


async def test_a_cancelled_exchange_leaves_no_connection_behind(open_transport: Open) -> None:
    async with receiving(hangs) as receiver:
        transport = open_transport()
        sending = asyncio.create_task(transport.send(envelope(receiver.port)))
        await receiver.reached.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await receiver.hung_up.wait()


async def test_a_cancelled_connect_leaves_no_socket_behind(open_transport: Open) -> None:
    async def accepts(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        await reader.readexactly(1)
        receiver.reached.set()
        await reader.read()

    async with receiving(accepts) as receiver:
        transport = open_transport()
        sending = asyncio.create_task(transport.send(envelope(receiver.port, scheme="https")))
        await receiver.reached.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await receiver.hung_up.wait()


async def test_tls_names_and_checks_the_host_and_not_the_address(open_transport: Open, authority: Authority) -> None:
    names: list[str | None] = []
    tls = authority.server("hook.test")
    tls.sni_callback = lambda _socket, name, _context: names.append(name)
    async with receiving(answers(OK), tls) as receiver:
        transport = open_transport()
        answer = await transport.send(envelope(receiver.port, bytes(2**20), scheme="https"))
        again = await transport.send(envelope(receiver.port, scheme="https"))
    assert (answer.status, answer.peer, again.status, again.reused) == (200, "127.0.0.1", 200, True)
    assert names == ["hook.test"]
    assert len(receiver.requests[0].body) == 2**20
    assert dict(receiver.requests[0].headers)["host"] == f"hook.test:{receiver.port}"


async def test_an_idle_connection_is_closed_after_a_while(open_transport: Open) -> None:
    async with receiving(answers(OK)) as receiver:
        await open_transport(ExchangeBounds(idle_seconds=0.05)).send(envelope(receiver.port))
        async with asyncio.timeout(30):
            await receiver.hung_up.wait()


async def test_a_success_before_the_end_of_the_body_does_not_end_the_body(open_transport: Open) -> None:
    body = bytes(8 * 2**20)
    async with receiving(accepts_early) as receiver:
        transport = open_transport()
        answer = await transport.send(envelope(receiver.port, body))
        assert answer.status == 200
        await transport.aclose()
        await receiver.hung_up.wait()
    assert [len(request.body) for request in receiver.requests] == [len(body)]


async def test_a_success_before_the_end_of_the_body_drops_no_part_of_it(open_transport: Open) -> None:
    sizes = [6 * 2**20 + 3000 * number for number in range(24)]
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        accepting = asyncio.create_task(asyncio.to_thread(accepts_early_and_reads_slowly, listening, len(sizes)))
        for size in sizes:
            answer = await open_transport().send(envelope(listening.getsockname()[1], bytes(size)))
            assert answer.status == 200
        came = await accepting
    assert [count >= size for count, size in zip(came, sizes, strict=True)] == [True] * len(sizes)


async def test_a_deadline_is_for_the_whole_exchange(open_transport: Open) -> None:
    async with receiving(hangs) as receiver:
        answer = await open_transport(QUICK).send(envelope(receiver.port))
    assert answer.failure is Failure.READ_TIMEOUT
