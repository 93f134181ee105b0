"""Heads that llhttp refuses, read as curl reads them. Receivers are what they are: their answer still says whether they
have the delivery.

What framed an answer here is open to doubt, so its connection never carries another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relay.transports import fault
from relay.transports.fault import Fault

Fields = Sequence[tuple[str, str]]

_HEAD_ENDS = re.compile(rb"\n\r{0,6}\n")
# So many bytes of an end may already have been searched.
_OVERLAP = 8
_STATUS_LINE = re.compile(rb"(?i:HTTP)/(?:1\.[01]|[23](?:\.[0-9])?) [ \t]*([1-5][0-9]{2})(?![0-9])")
_STRICT_STATUS_LINE = re.compile(rb"HTTP/1\.[01] [0-9]{3}(?: .*)?")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# Longer ones are beyond what anybody sends, and beyond what llhttp counts.
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_SPOKEN = (
    (re.compile(rb"SSH-"), "it is SSH"),
    (re.compile(rb"[\x15\x16]\x03"), "it is TLS, and the URL says http: write https://"),
    (
        re.compile(rb"\x00\x00.[\x04\x07]\x00", re.DOTALL),
        "it is HTTP/2, and callbacks are HTTP/1.1: let it take that too",
    ),
    (re.compile(rb"220[ -]"), "it is a mail or FTP server's greeting"),
    (re.compile(rb"\+OK|-ERR"), "it is POP3 or Redis"),
    (re.compile(rb"\s*[<{\[]"), "it has no head (HTTP/0.9)"),
)


@dataclass(frozen=True, slots=True)
class Head:
    """A head as it was meant. `size` counts its bytes, `oddity` names rules that it breaks."""

    status: int
    fields: tuple[tuple[str, str], ...]
    size: int
    oddity: str

    def canonical(self) -> bytes:
        """The same status and framing in a head that llhttp takes."""
        return b"HTTP/1.1 %d \r\n%b\r\n" % (self.status, framing(self.fields).line())


@dataclass(frozen=True, slots=True)
class Framing:
    """How the end of a body is found: by its `length`, by its last chunk, or, with neither, by the connection's end."""

    length: int | None = None
    chunked: bool = False

    @property
    def delimited(self) -> bool:
        """Whether a body says where it ends."""
        return self.chunked or self.length is not None

    def line(self) -> bytes:
        """The field that announces it."""
        if self.chunked:
            return b"Transfer-Encoding: chunked\r\n"
        return b"" if self.length is None else b"Content-Length: %d\r\n" % self.length


def framing(fields: Fields) -> Framing:
    """What fields say about a body. A Transfer-Encoding comes before a length (RFC 9112, 6.3), and lengths that differ
    or are no numbers say nothing."""
    codings, lengths = _codings(fields), _lengths(fields)
    if codings:
        return Framing(chunked=codings[-1] == "chunked")
    if len(set(lengths)) == 1 and _LENGTH.fullmatch(lengths[0]):
        return Framing(int(lengths[0]))
    return Framing()


def read_head(data: bytes | bytearray, searched: int = 0) -> Head | Fault | None:
    """The head that bytes begin with. None: its end is still to come; it is not among the first `searched` bytes."""
    end = _HEAD_ENDS.search(data, max(0, searched - _OVERLAP))
    lines = bytes(data[: end.start()]).split(b"\n") if end else [bytes(data)]
    status = _STATUS_LINE.match(data)
    if status is None and (end or b"\n" in data or not b"HTTP/".startswith(bytes(data[:5]).upper())):
        return _not_http(data)
    if status is None or end is None:
        return None
    fields = tuple(_fields(lines[1:]))
    return Head(int(status[1]), fields, end.end(), ", ".join(_oddities(lines, end[0], fields)))


def _not_http(data: bytes | bytearray) -> Fault:
    return fault.malformed(next((name for start, name in _SPOKEN if start.match(data)), "it cannot be parsed"))


def _fields(lines: Sequence[bytes]) -> Iterator[tuple[str, str]]:
    """Names and values; folded lines are put together, what has no name is left out, and so are control characters."""
    whole: list[bytes] = []
    for line in lines:
        if not line.startswith((b" ", b"\t")):
            whole.append(line)
        elif whole:
            whole[-1] = whole[-1].rstrip() + b" " + line.strip()
    for line in whole:
        name, colon, value = (_CONTROL.sub(b"", part).strip().decode("latin-1") for part in line.partition(b":"))
        if name and colon:
            yield name, value


def _oddities(lines: Sequence[bytes], end: bytes, fields: Fields) -> Iterator[str]:
    status_line, *rest = (line.rstrip(b"\r") for line in lines)
    if not _STRICT_STATUS_LINE.fullmatch(status_line):
        yield "its status line is not one of HTTP/1.1"
    if end == b"\n\n" or not all(line.endswith(b"\r") for line in lines):
        yield "its lines end in LF alone"
    if any(line.startswith((b" ", b"\t")) for line in rest):
        yield "a header is folded"
    plain = [line.partition(b":") for line in rest if not line.startswith((b" ", b"\t"))]
    if not all(colon for _, colon, _ in plain):
        yield "a header has no colon"
    if not all(_TOKEN.fullmatch(name) for name, colon, _ in plain if colon):
        yield "a header's name is no token"
    if any(_CONTROL.search(line) for line in rest):
        yield "a header holds control characters"
    yield from _oddities_of_framing(_codings(fields), _lengths(fields))


def _oddities_of_framing(codings: Sequence[str], lengths: Sequence[str]) -> Iterator[str]:
    if codings and lengths:
        yield "Content-Length stands beside Transfer-Encoding"
    if len(lengths) > 1:
        yield "Content-Length is there more than once"
    if not all(map(_LENGTH.fullmatch, lengths)):
        yield "Content-Length is no number"


def _codings(fields: Fields) -> list[str]:
    """Of transfer; `identity` is none."""
    return [coding for coding in _listed("transfer-encoding", fields) if coding not in ("identity", "")]


def _lengths(fields: Fields) -> list[str]:
    return _listed("content-length", fields)


def _listed(wanted: str, fields: Fields) -> list[str]:
    values = (value for name, value in fields if name.lower() == wanted)
    return [part.strip().lower() for value in values for part in value.split(",")]
