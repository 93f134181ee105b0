"""An answer begun is an answer: what the transport makes of heads and bodies that break the rules."""

from __future__ import annotations

from itertools import pairwise

import pytest

from relay.policy.attempt import Failure
from relay.transports.exchange import ExchangeBounds, Reply
from relay.transports.fault import Fault
from relay.transports.parser import ReplyParser
from tests.cases import cases
from tests.relay.transports.answers import NO_ANSWERS, ODD, USUAL, OddAnswer
from tests.relay.transports.conftest import Open, envelope
from tests.relay.transports.receivers import (
    Reader,
    Receiver,
    Request,
    Writer,
    answers,
    answers_and_closes,
    drips,
    receiving,
)

HASTY = ExchangeBounds(exchange_timeout=0.5, undelimited_seconds=0.05)
PATIENT = ExchangeBounds(undelimited_seconds=0.05)


@pytest.mark.parametrize("odd", ODD, ids=str)
async def test_an_odd_answer_counts_and_its_connection_is_closed(odd: OddAnswer, open_transport: Open) -> None:
    behaviour = answers(odd.wire) if odd.left_open else answers_and_closes(odd.wire)
    async with receiving(behaviour) as receiver:
        transport = open_transport(HASTY if "in time" in odd.says else PATIENT)
        told = [await transport.send(envelope(receiver.port)) for _ in range(2)]
        await receiver.hung_up.wait()
    expected = (odd.status, odd.excerpt, odd.says, False)
    assert [(answer.status, answer.excerpt, answer.detail, answer.reused) for answer in told] == [expected] * 2


@pytest.mark.parametrize("usual", USUAL, ids=str)
async def test_what_only_looks_odd_is_an_answer_like_any_other(usual: OddAnswer, open_transport: Open) -> None:
    async with receiving(answers(usual.wire)) as receiver:
        transport = open_transport()
        told = [await transport.send(envelope(receiver.port)) for _ in range(2)]
    assert [(answer.status, answer.excerpt, answer.detail) for answer in told] == [
        (usual.status, usual.excerpt, usual.says)
    ] * 2
    assert [answer.reused for answer in told] == [False, True]


@pytest.mark.parametrize(("wire", "detail"), [case[1:] for case in NO_ANSWERS], ids=[case[0] for case in NO_ANSWERS])
async def test_what_is_no_answer_is_a_fault_that_names_it(wire: bytes, detail: str, open_transport: Open) -> None:
    async with receiving(answers(wire)) as receiver:
        told = await open_transport().send(envelope(receiver.port))
        await receiver.hung_up.wait()
    assert (told.status, told.failure, told.detail) == (None, Failure.PROTOCOL, detail)


@cases("odd", [odd for odd in ODD if len(odd.wire) < 400])
def test_where_the_wire_cuts_an_odd_answer_makes_no_difference(odd: OddAnswer) -> None:
    def read(step: int) -> tuple[int, bytes, list[tuple[str, str]], bool]:
        parser = ReplyParser(ExchangeBounds())
        edges = [*range(0, len(odd.wire), step), len(odd.wire)]
        told: Reply | Fault | None = None
        for start, end in pairwise(edges):
            told = told or parser.feed(odd.wire[start:end])
        told = told or parser.overdue()
        assert isinstance(told, Reply)
        return told.status, told.excerpt, list(told.headers), parser.reusable and bool(told.oddity)

    assert read(1) == read(7) == read(len(odd.wire))


async def test_headers_of_an_odd_head_are_told_without_what_a_terminal_would_obey(open_transport: Open) -> None:
    wire = b"HTTP/1.1 503 Busy\nRetry-After: 8\nServer : ti\x1bny\nX-Long: one\n two\nnonsense\nContent-Length: 0\n\n"
    async with receiving(answers(wire)) as receiver:
        answer = await open_transport().send(envelope(receiver.port))
    assert answer.headers == (
        ("Retry-After", "8"),
        ("Server", "tiny"),
        ("X-Long", "one two"),
        ("Content-Length", "0"),
    )


async def test_a_dripping_body_ends_at_the_deadline_and_its_status_counts(open_transport: Open) -> None:
    async with receiving(drips) as receiver:
        answer = await open_transport(HASTY).send(envelope(receiver.port))
    assert (answer.status, answer.failure) == (200, None)
    assert answer.detail.startswith("its body had not ended in time")


async def test_a_dripping_head_is_no_answer(open_transport: Open) -> None:
    async with receiving(answers(b"HTTP/1.1 200 OK\nContent-Le")) as receiver:
        answer = await open_transport(HASTY).send(envelope(receiver.port))
    assert answer.failure is Failure.READ_TIMEOUT


@pytest.mark.parametrize("end", [b"\r\n", b"\n"], ids=["CRLF", "LF"])
async def test_a_head_that_is_cut_is_no_answer(end: bytes, open_transport: Open) -> None:
    async with receiving(answers_and_closes(b"HTTP/1.1 200 OK" + end + b"Content-Le")) as receiver:
        answer = await open_transport().send(envelope(receiver.port))
    assert answer.failure is Failure.RESET


async def test_an_answer_without_an_end_does_not_end_the_body_that_it_accepts(open_transport: Open) -> None:
    body = bytes(8 * 2**20)

    async def accepts_without_length(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.drain()
        receiver.requests.append(Request(head, await reader.readexactly(len(body))))
        await reader.read()

    async with receiving(accepts_without_length) as receiver:
        answer = await open_transport(ExchangeBounds(undelimited_seconds=0.0)).send(envelope(receiver.port, body))
        await receiver.hung_up.wait()
    assert answer.status == 200
    assert [len(request.body) for request in receiver.requests] == [len(body)]


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 204 No Content\r\nContent-Length: %d\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: %d\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: %d\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : %d\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    ],
)
async def test_what_follows_a_doubtful_answer_never_answers_the_next_delivery(
    first: bytes, open_transport: Open
) -> None:
    """The body that one reader sees and another does not is an answer itself, and comes when the next request does."""
    smuggled = b"HTTP/1.1 200 Smuggled\r\nContent-Length: 0\r\n\r\n"
    head = first % len(smuggled) if b"%d" in first else first

    async def smuggles(receiver: Receiver, reader: Reader, writer: Writer) -> None:
        if receiver.connections > 1:
            await answers(b"HTTP/1.1 500 Honest\r\nContent-Length: 0\r\n\r\n")(receiver, reader, writer)
        await receiver.read(reader)
        writer.write(head)
        await receiver.read(reader)
        writer.write(smuggled)
        await writer.drain()

    async with receiving(smuggles) as receiver:
        transport = open_transport(ExchangeBounds(undelimited_seconds=0.05))
        await transport.send(envelope(receiver.port))
        answer = await transport.send(envelope(receiver.port))
    assert (answer.status, answer.reused) == (500, False)
