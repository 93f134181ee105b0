"""Reading an answer: bytes in, a Reply or a Fault out. No socket, no clock; llhttp does the grammar, and a head that it
refuses is read leniently.

One parser serves one connection, one answer after another. Per answer it goes one way only:

    begin() -> interim heads (1xx, counted) -> final head -> body (kept up to a bound) -> end

Before the final head is complete, anything wrong is a Fault. From then on the status counts, whatever becomes of the
body: a reply that ends badly is a reply, on a connection that is not used again, and it says what was odd.
"""

from __future__ import annotations

import httptools

from relay.transports import fault, lenient
from relay.transports.exchange import ExchangeBounds, Reply, excerpt
from relay.transports.fault import Fault

_FIELD_OVERHEAD = len(": \r\n")
_KIB = 1024
_BODILESS = (204, 304)
_SURPLUS = "more came after its end"


class _Broken(Exception):
    """Thrown through llhttp by a callback, to stop it at once."""

    def __init__(self, broken: Fault) -> None:
        super().__init__(broken.detail)
        self.fault = broken


class ReplyParser:
    """Feed it what comes from the wire; it is done when it returns something.

    `started`: a byte of the answer has come. `status`: of the final head, 0 before. `reusable`: the answer is complete,
    nothing came after it, and the receiver keeps the connection open.
    """

    def __init__(self, bounds: ExchangeBounds) -> None:
        self._bounds = bounds
        self._head_bytes, self._header_count = bounds.head_bytes, bounds.header_count
        # Chunk sizes, chunk extensions and trailers count too, or a body of nothing else would have no end.
        self._wire_bytes = bounds.head_bytes + bounds.body_bytes
        self._llhttp = httptools.HttpResponseParser(self)
        self._head = bytearray()
        # Neither is ever taken back: a connection of which one is true carries no other answer.
        self._oddity = ""
        self._refused = False
        self.begin()

    def begin(self) -> None:
        """Get ready for the next answer on this connection."""
        self._received = self._informational = self.status = 0
        self._room = self._bounds.body_bytes
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._complete = self.reusable = False
        self._coding = b""
        if self._head:
            self._head = bytearray()

    @property
    def started(self) -> bool:
        """Whether any byte of the answer has come."""
        return self._received > 0

    def feed(self, data: bytes) -> Reply | Fault | None:
        """Take bytes from the wire. None: more are needed."""
        self._received += len(data)
        try:
            self._llhttp.feed_data(data)
        except httptools.HttpParserError as error:
            return self._stopped(error, data)
        if self._complete:
            return self._reply()
        if self.status:
            return self._body_too_large() if self._room <= 0 or self._received > self._wire_bytes else None
        self._head += data
        return self._head_too_large() if self._received > self._head_bytes else None

    @property
    def undelimited(self) -> bool:
        """Whether the final head has come, and only the connection's end will end its body."""
        return self.status > 0 and not lenient.framing(self._headers).delimited

    def cut(self) -> Reply | None:
        """The connection ended: the reply, if its head had come. A body without a length ends like this."""
        if not self.status:
            return None
        framing = lenient.framing(self._headers)
        if framing.length is not None:
            return self._reply(f"its body was cut off after {self._body_bytes} of {framing.length} bytes")
        return self._reply("its body was cut off before its last chunk" if framing.chunked else "")

    def overdue(self) -> Reply | None:
        """Nobody waits any longer: the reply, if its head had come."""
        if not self.status:
            return None
        if self.undelimited:
            return self._reply("its body has no length, and the connection stayed open")
        return self._reply(f"its body had not ended in time, after {self._body_bytes} bytes")

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        """Another head: an interim one's successor, or something that nobody asked for."""
        if self._complete:
            raise _Broken(fault.malformed(_SURPLUS))
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head; those of trailers are dropped."""
        if not self.status:
            self._headers.append((name.decode("latin-1"), value.decode("latin-1")))
            # The length of a name tells it from nearly all others, and faster than its letters.
            if len(name) == 17 and name.lower() == b"transfer-encoding":
                self._coding += value

    def on_headers_complete(self) -> None:
        """A head ends: an interim one is counted, the final one decides."""
        status = self._llhttp.get_status_code()
        if not 100 <= status <= 599:
            raise _Broken(fault.malformed("its status is not one of 100 to 599"))
        if len(self._headers) > self._header_count:
            raise _Broken(self._too_many_fields())
        if status >= 200:
            # What was received may be body already: the exact sum is worth its time only where it may be too large.
            if self._received > self._head_bytes and self._fields_bytes() > self._head_bytes:
                raise _Broken(self._head_too_large())
            self.status = status
            if status in _BODILESS and (self._coding or self._has_length()):
                self._doubt(f"it announces a body, and a {status} has none")
        else:
            self._interim(status)

    def on_body(self, data: bytes) -> None:
        """A part of the body, without its chunk framing."""
        if self._room > 0:
            self._body.append(data)
            self._room -= len(data)

    def on_message_complete(self) -> None:
        if self.status:
            self._complete = True
            if self._coding:
                self._doubt_coding()
            self.reusable = self._llhttp.should_keep_alive() and not self._oddity

    # doubts: what llhttp takes, and whoever wrote it may have framed otherwise

    def _doubt(self, oddity: str) -> None:
        self._oddity = self._oddity or oddity

    def _doubt_coding(self) -> None:
        if self._llhttp.get_http_version() == "1.0":
            self._doubt("its Transfer-Encoding is not for HTTP/1.0")
        elif self._coding != b"chunked" and self._coding.lower().count(b"chunked") > 1:
            self._doubt("its Transfer-Encoding says chunked twice")

    def _has_length(self) -> bool:
        for name, value in self._headers:  # a generator would take twice the time, on every 204
            if len(name) == 14 and name.lower() == "content-length" and value != "0":
                return True
        return False

    # bounds

    def _interim(self, status: int) -> None:
        if status == 101:
            raise _Broken(fault.SWITCHED)
        self._informational += 1
        if self._informational > self._bounds.informational:
            raise _Broken(fault.malformed(f"more than {self._bounds.informational} informational answers"))

    def _fields_bytes(self) -> int:
        return sum(len(name) + len(value) + _FIELD_OVERHEAD for name, value in self._headers)

    def _head_too_large(self) -> Fault:
        return fault.malformed(f"its head is larger than {self._head_bytes} bytes")

    def _too_many_fields(self) -> Fault:
        return fault.malformed(f"its head has more than {self._header_count} fields")

    def _body_too_large(self) -> Reply:
        return self._reply(f"its body was cut off after {self._bounds.body_bytes // _KIB} KiB")

    @property
    def _body_bytes(self) -> int:
        return self._bounds.body_bytes - self._room

    # endings

    def _stopped(self, error: httptools.HttpParserError, data: bytes) -> Reply | Fault | None:
        if self.status:
            self.reusable = False
            return self._reply(_SURPLUS if self._complete else "its body is framed wrongly")
        cause = error.__context__
        return cause.fault if isinstance(cause, _Broken) else self._read_leniently(data)

    def _read_leniently(self, data: bytes) -> Reply | Fault | None:
        """What llhttp refuses; once it has refused a head, it refuses what follows."""
        searched = len(self._head)
        if not self._refused:  # heads that llhttp took before are read once more
            self._refused, self._informational, searched = True, 0, 0
        self._head += data
        try:
            while isinstance(head := lenient.read_head(self._head, searched), lenient.Head):
                self._check_lenient(head)
                self._oddity = self._oddity or head.oddity
                if head.status >= 200:
                    return self._resume(head)
                self._interim(head.status)
                del self._head[: head.size]
                searched = 0
        except _Broken as broken:
            return broken.fault
        return head or (self._head_too_large() if self._received > self._head_bytes else None)

    def _check_lenient(self, head: lenient.Head) -> None:
        if head.size > self._head_bytes:
            raise _Broken(self._head_too_large())
        if len(head.fields) > self._header_count:
            raise _Broken(self._too_many_fields())

    def _resume(self, head: lenient.Head) -> Reply | Fault | None:
        """llhttp again, from the body on."""
        body = bytes(self._head[head.size :])
        self._llhttp = httptools.HttpResponseParser(self)
        self._oddity = self._oddity or "its head breaks a rule of HTTP"
        self._llhttp.feed_data(head.canonical())
        self._headers = list(head.fields)
        self._received -= len(body)  # it is counted once more
        return self.feed(body)

    def _reply(self, ending: str = "") -> Reply:
        oddity = "; ".join(filter(None, (self._oddity, ending))) if self._oddity or ending else ""
        headers = tuple(self._headers)
        if not self._body:
            return Reply(self.status, headers, b"", oddity)
        return Reply(self.status, headers, self._excerpt(), oddity)

    def _excerpt(self) -> bytes:
        coding = None
        for name, value in self._headers:
            if len(name) == 16 and name.lower() == "content-encoding":
                coding = value
                break
        return excerpt(b"".join(self._body), coding, self._bounds.excerpt_bytes)
