"""Reading an answer without a socket."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from relay.policy.attempt import Failure
from relay.transports.exchange import ExchangeBounds, Reply
from relay.transports.fault import Fault
from relay.transports.parser import ReplyParser
from tests.cases import cases

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"
SMALL = ExchangeBounds(head_bytes=200, header_count=4, informational=2, body_bytes=10, excerpt_bytes=4)


def test_nothing_is_told_before_the_answer_is_whole() -> None:
    parser = ReplyParser(ExchangeBounds())
    assert parser.feed(HEAD + b"o") is None
    assert parser.feed(b"k") == Reply(200, (("Content-Length", "2"),), b"ok")
    assert parser.reusable


@given(st.lists(st.integers(1, len(HEAD) + len(INTERIM) + 1)))
def test_where_the_wire_cuts_makes_no_difference(cuts: list[int]) -> None:
    whole, parser = INTERIM + HEAD + b"ok", ReplyParser(ExchangeBounds())
    edges = sorted({0, *cuts, len(whole)})
    told = [parser.feed(whole[start:end]) for start, end in pairwise(edges)]
    assert told[-1] == Reply(200, (("Content-Length", "2"),), b"ok")
    assert not any(told[:-1])


def test_one_parser_reads_one_answer_after_another() -> None:
    parser = ReplyParser(SMALL)
    for _ in range(5):
        parser.begin()
        assert isinstance(parser.feed(INTERIM * 2 + HEAD + b"ok"), Reply)
        assert parser.reusable


def test_a_cut_before_the_final_head_leaves_nothing() -> None:
    parser = ReplyParser(ExchangeBounds())
    parser.feed(INTERIM + HEAD[:-2])
    assert parser.cut() is None


def test_a_cut_after_the_head_leaves_a_reply_but_not_a_connection() -> None:
    parser = ReplyParser(ExchangeBounds())
    parser.feed(HEAD)
    assert parser.cut() == Reply(200, (("Content-Length", "2"),), b"", "its body was cut off after 0 of 2 bytes")
    assert not parser.reusable


@cases(
    "wire",
    [
        INTERIM * 3,
        b"HTTP/1.1 200 OK\r\nA: %b\r\n\r\n" % (b"x" * 200),
        b"HTTP/1.1 200 %b" % (b"x" * 200),
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5 + b"\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 099 Early\r\n\r\n",
    ],
)
def test_a_head_beyond_a_bound_is_a_protocol_fault(wire: bytes) -> None:
    told = ReplyParser(SMALL).feed(wire)
    assert isinstance(told, Fault)
    assert told.failure is Failure.PROTOCOL


@cases(
    "tail",
    [
        b"5\r\nabcde\r\n5\r\nfghij\r\n5\r\nklmno\r\n",
        b"5\r\nabcde\r\nnonsense\r\n",
        b"5\r\nabcde\r\n0\r\n" + b"X: y\r\n" * 50,
        b"5\r\nabcde\r\n1;%b" % (b"x" * 300),
    ],
)
def test_a_body_beyond_a_bound_ends_the_connection_and_not_the_reply(tail: bytes) -> None:
    parser = ReplyParser(SMALL)
    told = parser.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + tail)
    assert isinstance(told, Reply)
    assert (told.status, told.excerpt) == (200, b"abcd")
    assert not parser.reusable
