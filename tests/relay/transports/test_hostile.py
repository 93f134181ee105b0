"""What the transport makes of receivers that break rules, promises or connections."""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import AsyncExitStack

import pytest

from relay.guard.resolver import Found, Unresolved
from relay.policy.attempt import Failure
from relay.transports.exchange import ExchangeBounds
from tests.relay.transports.certificates import Authority
from tests.relay.transports.conftest import QUICK, Open, envelope
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
    hangs_up,
    never_reads,
    receiving,
    refuse_abruptly,
    refuses_early,
    repeats,
    resets,
)

LARGE = bytes(20 * 2**20)


@pytest.mark.parametrize(
    ("opening", "part"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"8000\r\n" + b"x" * 0x8000 + b"\r\n"),
    ],
    ids=["undelimited", "length", "chunked"],
)
async def test_an_endless_body_is_cut_and_its_status_counts(opening: bytes, part: bytes, open_transport: Open) -> None:
    async with receiving(repeats(opening, part)) as receiver:
        answer = await open_transport().send(envelope(receiver.port))
        await receiver.hung_up.wait()
    assert (answer.status, len(answer.excerpt)) == (200, 4096)
    assert answer.detail == "its body was cut off after 64 KiB"


async def test_a_gzip_bomb_inflates_to_the_excerpt_and_no_further(open_transport: Open) -> None:
    async with receiving(bombs) as receiver:
        transport = open_transport()
        before = _peak()
        answer = await transport.send(envelope(receiver.port))
    assert (answer.status, answer.excerpt) == (200, bytes(4096))
    assert _peak() - before < 16 * 1024


async def test_a_redirect_is_an_answer_and_is_not_followed(open_transport: Open) -> None:
    async with receiving(answers(OK)) as elsewhere:
        location = f"Location: http://hook.test:{elsewhere.port}/\r\nContent-Length: 0\r\n\r\n"
        async with receiving(answers(f"HTTP/1.1 302 Found\r\n{location}".encode())) as receiver:
            answer = await open_transport().send(envelope(receiver.port))
    assert answer.status == 302
    assert elsewhere.connections == 0


async def test_a_redirect_to_a_private_address_is_not_followed(open_transport: Open) -> None:
    moved = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
    async with receiving(answers(moved)) as receiver:
        answer = await open_transport().send(envelope(receiver.port))
    assert (answer.status, answer.failure) == (307, None)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
    ids=["bare", "to a WebSocket"],
)
async def test_switching_protocols_is_a_protocol_failure(head: bytes, open_transport: Open) -> None:
    async with receiving(answers(head + b"\x81\x02hi")) as receiver:
        answer = await open_transport().send(envelope(receiver.port))
    assert answer.failure is Failure.PROTOCOL


@pytest.mark.parametrize("status", [100, 103])
async def test_endless_interim_answers_are_a_failure(status: int, open_transport: Open) -> None:
    async with receiving(repeats(b"", b"HTTP/1.1 %d Wait\r\n\r\n" % status)) as receiver:
        answer = await open_transport(QUICK).send(envelope(receiver.port))
        await receiver.hung_up.wait()
    assert answer.failure is Failure.PROTOCOL


async def test_a_connection_closed_after_the_request_is_a_reset(open_transport: Open) -> None:
    async with receiving(hangs_up) as receiver:
        answer = await open_transport().send(envelope(receiver.port))
    assert answer.failure is Failure.RESET
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "head",
    [
        b"X-Large: " + b"x" * 2**20 + b"\r\n",
        b"".join(b"X-%d: y\r\n" % number for number in range(10_000)),
        b"X-Split: " + b"x" * 60_000 + b"\r\nX-More: " + b"x" * 60_000 + b"\r\n",
    ],
    ids=["1 MB", "10,000 headers", "two large ones"],
)
async def test_a_head_beyond_the_bounds_is_a_protocol_failure(head: bytes, open_transport: Open) -> None:
    async with receiving(answers(b"HTTP/1.1 200 OK\r\n" + head + b"Content-Length: 0\r\n\r\n")) as receiver:
        answer = await open_transport().send(envelope(receiver.port))
        await receiver.hung_up.wait()
    assert answer.failure is Failure.PROTOCOL


async def test_a_head_without_end_is_a_failure(open_transport: Open) -> None:
    async with receiving(repeats(b"HTTP/1.1 200 ", b"x" * 4096)) as receiver:
        answer = await open_transport(QUICK).send(envelope(receiver.port))
        await receiver.hung_up.wait()
    assert answer.failure is Failure.PROTOCOL


async def test_trailers_without_end_are_cut_and_the_status_counts(open_transport: Open) -> None:
    opening = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
    async with receiving(repeats(opening, b"X-Trailer: " + b"x" * 4000 + b"\r\n")) as receiver:
        answer = await open_transport().send(envelope(receiver.port))
        await receiver.hung_up.wait()
    assert (answer.status, answer.excerpt) == (200, b"ok")


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_early_413_is_heard_before_the_reset(scheme: str, open_transport: Open, authority: Authority) -> None:
    tls = authority.server("hook.test") if scheme == "https" else None
    async with receiving(refuses_early, tls) as receiver:
        transport = open_transport()
        for _ in range(5):
            answer = await transport.send(envelope(receiver.port, LARGE, scheme=scheme))
            assert (answer.status, answer.header("server"), answer.excerpt) == (413, "tiny", b"too large")


async def test_a_413_with_a_reset_on_its_heels_is_heard(open_transport: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        refusing = asyncio.create_task(asyncio.to_thread(refuse_abruptly, listening, 20))
        transport = open_transport()
        told = [await transport.send(envelope(listening.getsockname()[1], LARGE)) for _ in range(20)]
        await refusing
    assert {answer.status or answer.failure for answer in told} == {413}


async def test_an_early_refusal_on_a_connection_that_stays_open_ends_its_use(open_transport: Open) -> None:
    async def refuses(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with receiving(refuses) as receiver:
        transport = open_transport()
        told = [await transport.send(envelope(receiver.port, LARGE)) for _ in range(2)]
    assert [(answer.status, answer.reused) for answer in told] == [(413, False)] * 2


async def test_an_answer_cut_in_its_body_counts(open_transport: Open) -> None:
    half = b"HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\nhalf of"
    async with receiving(answers_and_closes(half)) as receiver:
        transport = open_transport()
        told = [await transport.send(envelope(receiver.port)) for _ in range(2)]
    assert [(answer.status, answer.reused) for answer in told] == [(500, False)] * 2


async def test_an_answer_cut_in_its_head_is_a_reset(open_transport: Open) -> None:
    async with receiving(answers_and_closes(b"HTTP/1.1 200 OK\r\nContent-Le")) as receiver:
        answer = await open_transport().send(envelope(receiver.port))
    assert answer.failure is Failure.RESET


async def test_a_reset_instead_of_an_answer_is_told(open_transport: Open) -> None:
    async def resets_at_once(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        await receiver.read(reader)
        resets(writer)

    async with receiving(resets_at_once) as receiver:
        answer = await open_transport().send(envelope(receiver.port))
    assert answer.failure is Failure.RESET
    assert len(receiver.requests) == 1


async def test_a_reset_at_once_is_told_every_time(open_transport: Open) -> None:
    async def resets_unheard(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        resets(writer)

    async with receiving(resets_unheard) as receiver:
        transport = open_transport()
        told = [await transport.send(envelope(receiver.port)) for _ in range(50)]
    assert {answer.failure for answer in told} == {Failure.RESET}


async def test_a_receiver_that_never_reads_ends_at_the_deadline(open_transport: Open) -> None:
    async with receiving(never_reads) as receiver:
        answer = await open_transport(QUICK).send(envelope(receiver.port, LARGE))
    assert answer.failure is Failure.READ_TIMEOUT


async def test_speaking_unasked_ends_an_idle_connection(open_transport: Open) -> None:
    async def speaks(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        await receiver.read(reader)
        writer.write(OK)
        await writer.drain()
        if receiver.connections == 1:
            await speak.wait()
            writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    speak = asyncio.Event()
    async with receiving(speaks) as receiver, receiving(answers(OK)) as another:
        transport = open_transport()
        first = await transport.send(envelope(receiver.port))
        speak.set()
        await transport.send(envelope(another.port))  # by its end, the words have arrived
        second = await transport.send(envelope(receiver.port))
    assert [(answer.status, answer.reused) for answer in (first, second)] == [(200, False)] * 2


async def test_an_expired_certificate_is_a_tls_failure(open_transport: Open, authority: Authority) -> None:
    async with receiving(answers(OK), authority.server("hook.test", expired=True)) as receiver:
        answer = await open_transport().send(envelope(receiver.port, scheme="https"))
    assert answer.failure is Failure.TLS
    assert answer.detail == "The receiver's certificate is not valid: certificate has expired."
    assert receiver.requests == []


async def test_a_certificate_for_another_host_is_a_tls_failure(open_transport: Open, authority: Authority) -> None:
    async with receiving(answers(OK), authority.server("other.test")) as receiver:
        answer = await open_transport().send(envelope(receiver.port, scheme="https"))
    assert answer.failure is Failure.TLS
    assert "hook.test" in answer.detail


async def test_a_tls_handshake_that_never_finishes_is_a_connect_timeout(open_transport: Open) -> None:
    async def never_shakes(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        await reader.read()

    async with receiving(never_shakes) as receiver:
        transport = open_transport(ExchangeBounds(connect_timeout=0.3))
        answer = await transport.send(envelope(receiver.port, scheme="https"))
        await receiver.hung_up.wait()
    assert answer.failure is Failure.CONNECT_TIMEOUT


async def test_plain_http_where_tls_was_promised_is_a_tls_failure(open_transport: Open) -> None:
    async def speaks_plainly(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with receiving(speaks_plainly) as receiver:
        answer = await open_transport().send(envelope(receiver.port, scheme="https"))
    assert answer.failure is Failure.TLS
    assert answer.detail.endswith("because what answers is no TLS: perhaps the URL should say http://.")


async def test_hanging_up_in_the_tls_handshake_is_a_tls_failure(open_transport: Open) -> None:
    async def hangs_up_early(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        await reader.read(1)
        resets(writer)

    async with receiving(hangs_up_early) as receiver:
        answer = await open_transport().send(envelope(receiver.port, scheme="https"))
    assert answer.failure is Failure.TLS


async def test_nobody_listening_is_a_connect_failure(open_transport: Open) -> None:
    async with receiving(answers(OK)) as receiver:
        pass
    answer = await open_transport().send(envelope(receiver.port))
    assert (answer.failure, answer.detail) == (Failure.CONNECT, "The connection failed: Connection refused.")


async def test_a_name_without_address_is_a_dns_failure(open_transport: Open) -> None:
    async def knows_nothing(host: str) -> Unresolved:
        return Unresolved("The host name does not resolve: it does not exist.", answered=True)

    answer = await open_transport(lookup=knows_nothing).send(envelope(80))
    assert answer.failure is Failure.DNS


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "::1", "fe80::1", "0x7f.1", "2130706433"])
async def test_a_forbidden_address_in_the_url_is_blocked(host: str, open_transport: Open) -> None:
    answer = await open_transport().send(envelope(80, host=host))
    assert answer.failure is Failure.BLOCKED
    assert answer.timing.connect is None


async def test_one_forbidden_address_among_many_blocks_the_name(open_transport: Open) -> None:
    async def half_private(host: str) -> Found:
        return Found(("127.0.0.1", "192.168.1.1"))

    async with receiving(answers(OK)) as receiver:
        answer = await open_transport(lookup=half_private).send(envelope(receiver.port))
    assert answer.failure is Failure.BLOCKED
    assert receiver.connections == 0


async def test_a_name_that_rebinds_is_blocked_at_its_next_connection(open_transport: Open) -> None:
    found = iter(["127.0.0.1", "10.0.0.1"])

    async def rebinds(host: str) -> Found:
        return Found((next(found),))

    async with receiving(answers_and_closes(OK)) as receiver:
        transport = open_transport(lookup=rebinds)
        first = await transport.send(envelope(receiver.port))
        await receiver.hung_up.wait()
        second = await transport.send(envelope(receiver.port))
    assert (first.status, second.failure) == (200, Failure.BLOCKED)
    assert receiver.connections == 1


async def test_a_dead_address_is_passed_over_for_the_next(open_transport: Open) -> None:
    async def two(host: str) -> Found:
        return Found(("127.0.0.9", "127.0.0.1"))

    async with receiving(answers(OK)) as receiver:
        answer = await open_transport(lookup=two).send(envelope(receiver.port))
    assert (answer.status, answer.peer) == (200, "127.0.0.1")


@pytest.mark.parametrize(
    "header",
    [
        ("x-a", "1\r\nx-evil: 2"),
        ("x-a", "1\n"),
        ("x-a", "\0"),
        ("x-a\r\nx-evil", "1"),
        ("x a", "1"),
        ("", "1"),
        ("x-a", "\u2028"),
        ("Content-Length", "0"),
        ("transfer-encoding", "chunked"),
        ("Host", "other.test"),
    ],
    ids=repr,
)
async def test_a_header_that_would_change_the_request_never_leaves(
    header: tuple[str, str], open_transport: Open
) -> None:
    async with receiving(answers(OK)) as receiver:
        answer = await open_transport().send(envelope(receiver.port, headers=(("x-good", "1"), header)))
    assert answer.failure is Failure.UNSENDABLE
    assert repr(header[0]) in answer.detail
    assert receiver.connections == 0


@pytest.mark.parametrize("path", ["/a b", "/a\r\nx: y", "/a\tb", "/\u00e9"])
async def test_a_path_that_would_change_the_request_never_leaves(path: str, open_transport: Open) -> None:
    answer = await open_transport().send(envelope(80, path=path))
    assert answer.failure is Failure.UNSENDABLE


HOSTILE: list[Behaviour] = [
    drips,
    bombs,
    hangs_up,
    never_reads,
    refuses_early,
    repeats(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
    repeats(b"", b"HTTP/1.1 103 Wait\r\n\r\n"),
    repeats(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
]


async def test_a_healthy_receiver_is_served_among_hostile_ones(open_transport: Open) -> None:
    async with AsyncExitStack() as stack:
        hostile = [await stack.enter_async_context(receiving(behaviour)) for behaviour in HOSTILE]
        healthy = await stack.enter_async_context(receiving(answers(OK)))
        transport = open_transport(QUICK)
        attacks = [asyncio.create_task(transport.send(envelope(receiver.port, bytes(2**20)))) for receiver in hostile]
        served = [await transport.send(envelope(healthy.port)) for _ in range(50)]
        await asyncio.gather(*attacks)
    assert {answer.status for answer in served} == {200}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
