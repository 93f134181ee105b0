"""Reading an answer: bytes in, a Reply or a Fault out. No socket, no clock; llhttp does the grammar.

One parser serves one connection, one answer after another. Per answer it goes one way only:

    begin() -> interim heads (1xx, counted) -> final head -> body (kept up to a bound) -> end

Before the final head is complete, anything wrong is a Fault. From then on the status counts, whatever becomes of the
body: a reply that ends badly is a reply, on a connection that is not used again.
"""

from __future__ import annotations

import httptools

from relay.transports import fault
from relay.transports.exchange import Bounds, Reply, excerpt
from relay.transports.fault import Fault

_FIELD_OVERHEAD = len(": \r\n")


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

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        # Chunk sizes, chunk extensions and trailers count too, or a body of nothing else would have no end.
        self._wire_bytes = bounds.head_bytes + bounds.body_bytes
        self._llhttp = httptools.HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        """Get ready for the next answer on this connection."""
        self._received = self._informational = self.status = 0
        self._room = self._bounds.body_bytes
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._complete = self.reusable = False

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
            return self._stopped(error)
        if self._complete or self._room <= 0:
            return self._reply()
        if self.status:
            return self._reply() if self._received > self._wire_bytes else None
        return self._head_too_large() if self._received > self._bounds.head_bytes else None

    def cut(self) -> Reply | None:
        """The connection ended: the reply, if its head had come. A body without a length ends like this."""
        return self._reply() if self.status else None

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        """Another head: an interim one's successor, or something that nobody asked for."""
        if self._complete:
            self.reusable = False
            raise _Broken(fault.SURPLUS)
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head; those of trailers are dropped."""
        if not self.status:
            if len(self._headers) >= self._bounds.header_count:
                raise _Broken(fault.malformed(f"its head has more than {self._bounds.header_count} fields"))
            self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """A head ends: an interim one is counted, the final one decides."""
        status = self._llhttp.get_status_code()
        if status >= 200:
            self._check_head()
            self.status = status
        else:
            self._interim(status)

    def on_body(self, data: bytes) -> None:
        """A part of the body, without its chunk framing."""
        if self._room > 0:
            self._body.append(data)
            self._room -= len(data)

    def on_message_complete(self) -> None:
        """An answer ends."""
        if self.status:
            self._complete = True
            self.reusable = self._llhttp.should_keep_alive()

    # bounds

    def _interim(self, status: int) -> None:
        if status == 101:
            raise _Broken(fault.SWITCHED)
        if status < 100:
            raise _Broken(fault.malformed("its status is below 100"))
        self._informational += 1
        if self._informational > self._bounds.informational:
            raise _Broken(fault.malformed(f"more than {self._bounds.informational} informational answers"))

    def _check_head(self) -> None:
        # What was received may be body already: the exact sum is worth its time only where the bound is in question.
        if self._received > self._bounds.head_bytes and self._head_bytes() > self._bounds.head_bytes:
            raise _Broken(self._head_too_large())

    def _head_bytes(self) -> int:
        return sum(len(name) + len(value) + _FIELD_OVERHEAD for name, value in self._headers)

    def _head_too_large(self) -> Fault:
        return fault.malformed(f"its head is larger than {self._bounds.head_bytes} bytes")

    # endings

    def _stopped(self, error: httptools.HttpParserError) -> Reply | Fault:
        if self.status:
            self.reusable = False
            return self._reply()
        cause = error.__context__
        return cause.fault if isinstance(cause, _Broken) else fault.malformed("it cannot be parsed")

    def _reply(self) -> Reply:
        if not self._body:
            return Reply(self.status, tuple(self._headers), b"")
        coding = next((value for name, value in self._headers if name.lower() == "content-encoding"), None)
        body = b"".join(self._body)
        return Reply(self.status, tuple(self._headers), excerpt(body, coding, self._bounds.excerpt_bytes))
