"""What receivers send back that is not quite HTTP, and what becomes of the delivery.

curl takes what has a status here, unless a comment says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

_OK = b"HTTP/1.1 200 OK\r\n"
_EMPTY = b"Content-Length: 0\r\n\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
_CHUNKS = b"2\r\nok\r\n0\r\n\r\n"
_LF = "its lines end in LF alone"
_STATUS_LINE = "its status line is not one of HTTP/1.1"
_FOLDED = "a header is folded"
_NAME = "a header's name is no token"
_CONTROL = "a header holds control characters"
_BESIDE = "Content-Length stands beside Transfer-Encoding"
_TWICE = "Content-Length is there more than once"
_NO_NUMBER = "Content-Length is no number"
_OPEN = "its body has no length, and the connection stayed open"
_MISFRAMED = "its body is framed wrongly"
_SURPLUS = "more came after its end"


@dataclass(frozen=True)
class OddAnswer:
    """`wire` comes for every request, and then the connection is `left_open` or closed. `says` is the detail of the
    answer, `excerpt` what is kept of its body."""

    name: str
    wire: bytes
    says: str
    status: int = 200
    excerpt: bytes = b""
    left_open: bool = True

    def __str__(self) -> str:
        return self.name


ODD = (
    OddAnswer("LF alone", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", _LF, excerpt=b"ok"),
    OddAnswer("LF after the status line", b"HTTP/1.1 200 OK\n" + _EMPTY, _LF),
    OddAnswer("LF after the last header", _OK + b"Content-Length: 0\r\n\n", _LF),
    OddAnswer("two CRs", b"HTTP/1.1 200 OK\r\r\nContent-Length: 0\r\r\n\r\r\n", "its head breaks a rule of HTTP"),
    OddAnswer("LF and 500", b"HTTP/1.1 500 Oops\nContent-Length: 0\nContent-Length: 0\n\n", f"{_LF}, {_TWICE}", 500),
    OddAnswer("interim in LF", b"HTTP/1.1 100 Continue\n\n" + _OK + _EMPTY, _LF),
    OddAnswer("LF after an interim one", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\nContent-Length: 0\n\n", _LF),
    OddAnswer("folded", _OK + b"X-Note: one\r\n two\r\n" + _EMPTY, _FOLDED),
    OddAnswer("folded, nothing before", _OK + b" one\r\n" + _EMPTY, _FOLDED),  # curl: no
    OddAnswer("folded length", _OK + b"Content-Length:\r\n 2\r\n\r\nok", _FOLDED, excerpt=b"ok"),  # curl: no
    OddAnswer("no colon", _OK + b"Bad Header\r\n" + _EMPTY, "a header has no colon"),  # curl: no
    OddAnswer("space before the colon", _OK + b"Content-Length : 0\r\n\r\n", _NAME),
    OddAnswer("space in a name", _OK + b"X Note: one\r\n" + _EMPTY, _NAME),
    OddAnswer("no name", _OK + b": one\r\n" + _EMPTY, _NAME),
    OddAnswer("name beyond ASCII", _OK + "X-Nöte: one\r\n".encode() + _EMPTY, _NAME),
    OddAnswer("control characters", _OK + b"X-Note: a\x01\x1b[2J\r\n" + _EMPTY, _CONTROL),
    OddAnswer("NUL", _OK + b"X-Note: a\0b\r\n" + _EMPTY, _CONTROL),  # curl: no
    OddAnswer("CR in a value", _OK + b"X-Note: a\rContent-Length: 9\r\n" + _EMPTY, _CONTROL),
    OddAnswer("HTTP/2", b"HTTP/2 200\r\n" + _EMPTY, _STATUS_LINE),
    OddAnswer("lower case", b"http/1.1 200 ok\r\ncontent-length: 0\r\n\r\n", _STATUS_LINE),
    OddAnswer("two spaces", b"HTTP/1.1  200  OK\r\n" + _EMPTY, _STATUS_LINE),
    OddAnswer("no space behind the status", b"HTTP/1.1 200OK\r\n" + _EMPTY, _STATUS_LINE),
    OddAnswer("length and chunked", _OK + b"Content-Length: 2\r\n" + _CHUNKED[17:] + _CHUNKS, _BESIDE, excerpt=b"ok"),
    OddAnswer(
        "chunked, as it says",
        _OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nok",
        f"{_BESIDE}; {_MISFRAMED}",
    ),
    OddAnswer("length twice", _OK + b"Content-Length: 0\r\n" + _EMPTY, _TWICE),
    OddAnswer("length listed twice", _OK + b"Content-Length: 2, 2\r\n\r\nok", _TWICE, excerpt=b"ok"),
    OddAnswer(
        "two lengths", _OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", f"{_TWICE}; {_OPEN}", excerpt=b"ok"
    ),
    OddAnswer("negative length", _OK + b"Content-Length: -2\r\n\r\nok", f"{_NO_NUMBER}; {_OPEN}", excerpt=b"ok"),
    OddAnswer("length with a plus", _OK + b"Content-Length: +2\r\n\r\nok", f"{_NO_NUMBER}; {_OPEN}", excerpt=b"ok"),
    OddAnswer("endless length", _OK + b"Content-Length: 1" + b"0" * 30 + b"\r\n\r\n", f"{_NO_NUMBER}; {_OPEN}"),
    OddAnswer("no length", _OK + b"\r\nthank you", _OPEN, excerpt=b"thank you"),
    OddAnswer("no length, and 500", b"HTTP/1.1 500 Oops\r\n\r\nout of ink", _OPEN, 500, b"out of ink"),
    OddAnswer(
        "too long", _OK + b"Content-Length: 9\r\n\r\nok", "its body had not ended in time, after 2 bytes", 200, b"ok"
    ),
    OddAnswer("too short", _OK + b"Content-Length: 1\r\n\r\nok", _SURPLUS, excerpt=b"o"),
    OddAnswer(
        "cut",
        _OK + b"Content-Length: 100\r\n\r\nok",
        "its body was cut off after 2 of 100 bytes",
        excerpt=b"ok",
        left_open=False,
    ),
    OddAnswer("cut, in LF", b"HTTP/1.1 200 OK\n\nok", _LF, excerpt=b"ok", left_open=False),
    OddAnswer(
        "no last chunk",
        _CHUNKED + b"2\r\nok\r\n",
        "its body was cut off before its last chunk",
        excerpt=b"ok",
        left_open=False,
    ),
    OddAnswer(
        "no last chunk, open",
        _CHUNKED + b"2\r\nok\r\n",
        "its body had not ended in time, after 2 bytes",
        excerpt=b"ok",
    ),
    OddAnswer("no size of a chunk", _CHUNKED + b"two\r\nok\r\n0\r\n\r\n", _MISFRAMED),
    OddAnswer("chunks in LF", _CHUNKED + b"2\nok\n0\n\n", _MISFRAMED),
    OddAnswer("longer than its chunk", _CHUNKED + b"2\r\nokay\r\n0\r\n\r\n", _MISFRAMED, excerpt=b"ok"),
    OddAnswer("no trailer", _CHUNKED + b"0\r\nnonsense\r\n\r\n", _MISFRAMED),
    OddAnswer("no chunks after all", _CHUNKED + b'{"ok":true}', _MISFRAMED),
    OddAnswer(
        "chunked twice",
        _OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + _CHUNKS,
        "its Transfer-Encoding says chunked twice",
        excerpt=b"ok",
    ),
    OddAnswer(
        "chunked in 1.0",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + _CHUNKED[17:] + _CHUNKS,
        "its Transfer-Encoding is not for HTTP/1.0",
        excerpt=b"ok",
    ),
    OddAnswer(
        "identity",
        _OK + b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok",
        "its head breaks a rule of HTTP",
        excerpt=b"ok",
    ),
    OddAnswer("another coding", _OK + b"Transfer-Encoding: foo\r\n\r\nok", "", excerpt=b"ok", left_open=False),
    OddAnswer(
        "204 with a body",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
        f"it announces a body, and a 204 has none; {_SURPLUS}",
        204,
    ),
    OddAnswer(
        "204 with a body to come",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n",
        "it announces a body, and a 204 has none",
        204,
    ),
    OddAnswer("a second answer", _OK + _EMPTY + b"HTTP/1.1 500 Oops\r\n" + _EMPTY, _SURPLUS),
)
"""Answers, all of them. Their connections are closed, and carry no other delivery."""

USUAL = (
    OddAnswer("no reason", b"HTTP/1.1 200\r\n" + _EMPTY, ""),
    OddAnswer("a reason beyond ASCII", "HTTP/1.1 200 Schön\r\n".encode() + _EMPTY, ""),
    OddAnswer("a value beyond ASCII", _OK + "X-Note: schön\r\n".encode() + _EMPTY, ""),
    OddAnswer("chunk extension", _CHUNKED + b'2;a="b"\r\nok\r\n0\r\n\r\n', "", excerpt=b"ok"),
    OddAnswer("not gzip", _OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok", "", excerpt=b"ok"),
    OddAnswer("a refused upgrade", _OK + b"Connection: upgrade\r\nUpgrade: h2c\r\n" + _EMPTY, ""),
    OddAnswer("204 without a body", b"HTTP/1.1 204 No Content\r\n" + _EMPTY, "", 204),
)
"""Answers like any other, whose connections are used again."""

_SAYS = "The answer is not acceptable HTTP: "

NO_ANSWERS = (
    ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n", _SAYS + "it is SSH."),
    ("TLS", b"\x15\x03\x01\x00\x02\x02\x28", _SAYS + "it is TLS, and the URL says http: write https://."),
    (
        "HTTP/2",
        b"\x00\x00\x06\x04\x00" + bytes(10),
        _SAYS + "it is HTTP/2, and callbacks are HTTP/1.1: let it take that too.",
    ),
    ("SMTP", b"220 mail ESMTP\r\n", _SAYS + "it is a mail or FTP server's greeting."),
    ("HTTP/0.9", b"<html>ok</html>", _SAYS + "it has no head (HTTP/0.9)."),
    ("no status", b"HTTP/1.1 two hundred\r\n\r\n", _SAYS + "it cannot be parsed."),
    ("no version", b"HTTP 200 OK\r\n" + _EMPTY, _SAYS + "it cannot be parsed."),
    ("two digits", b"HTTP/1.1 20 OK\r\n" + _EMPTY, _SAYS + "it cannot be parsed."),
    ("four digits", b"HTTP/1.1 2000 OK\r\n" + _EMPTY, _SAYS + "it cannot be parsed."),
    ("600", b"HTTP/1.1 600 Odd\r\n" + _EMPTY, _SAYS + "its status is not one of 100 to 599."),
    ("099", b"HTTP/1.1 099 Odd\r\n" + _EMPTY, _SAYS + "its status is not one of 100 to 599."),
    ("600 in LF", b"HTTP/1.1 600 Odd\n\n", _SAYS + "it cannot be parsed."),
    ("a line before it", b"warning\r\n" + _OK + _EMPTY, _SAYS + "it cannot be parsed."),
    (
        "a head too large in LF",
        b"HTTP/1.1 200 OK\nX: " + b"x" * 2**17 + b"\n\n",
        _SAYS + "its head is larger than 65536 bytes.",
    ),
    (
        "too many fields in LF",
        b"HTTP/1.1 200 OK\n" + b"X: y\n" * 300 + b"\n",
        _SAYS + "its head has more than 256 fields.",
    ),
    (
        "a storm in LF",
        b"HTTP/1.1 103 Early Hints\n\n" * 100,
        _SAYS + "more than 16 informational answers.",
    ),
)
"""Name, bytes, and the detail of the protocol fault that they are."""
