"""multipart/form-data without I/O: pieces of a body in, parts and their bytes out, in constant memory.

After RFC 7578 and RFC 2046. Everything about it is a stranger's: heads, their number and the space around boundaries
are bounded, and a body that breaks the format ends with Malformed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from enum import Enum, auto

MAX_HEAD = 16 * 1024
"""Bytes of one part's headers."""

MAX_PARTS = 64

_MAX_PADDING = 256
_ESCAPES = {"%22": '"', "%0D": "\r", "%0A": "\n"}  # what browsers write in the place of these three


class Malformed(Exception):
    """The body is not what its Content-Type says. The message says what must be otherwise."""


@dataclass(frozen=True, slots=True)
class Part:
    """The beginning of a part; the bytes that follow are its own. `filename` is None where none was sent."""

    name: str
    filename: str | None


class _At(Enum):
    PREAMBLE = auto()
    BOUNDARY = auto()
    HEAD = auto()
    BODY = auto()
    END = auto()


class FormData:
    def __init__(self, content_type: str) -> None:
        """Raises Malformed for a type that is not a form's, or has no boundary."""
        head = Message()
        head["Content-Type"] = content_type
        boundary = head.get_boundary()
        if head.get_content_type() != "multipart/form-data" or not boundary or len(boundary) > 70:
            raise Malformed("be sent as multipart/form-data with a boundary")
        self._delimiter = b"\r\n--" + boundary.encode("utf-8", "surrogateescape")
        self._buffer = bytearray(b"\r\n")  # so that the first boundary looks like all others
        self._at = _At.PREAMBLE
        self._parts = 0

    @property
    def finished(self) -> bool:
        """Whether the last boundary has come; what follows it does not matter."""
        return self._at is _At.END

    def feed(self, piece: bytes) -> Iterator[Part | bytes]:
        """What another piece of the body holds: beginnings of parts, and bytes of the last one that began."""
        self._buffer += piece
        while self._at is not _At.END:
            if self._at is _At.BOUNDARY:
                if not self._boundary():
                    return
            elif self._at is _At.HEAD:
                if (part := self._head()) is None:
                    return
                yield part
            else:
                content, found = self._content()
                if content and self._at is _At.BODY:
                    yield content
                if not found:
                    return
                self._at = _At.BOUNDARY
        self._buffer.clear()

    def _content(self) -> tuple[bytes, bool]:
        """The bytes before the next delimiter; where none is in sight, those that surely are not part of one."""
        found = self._buffer.find(self._delimiter)
        if found >= 0:
            return self._take(found, len(self._delimiter)), True
        return self._take(max(0, len(self._buffer) - len(self._delimiter) + 1)), False

    def _boundary(self) -> bool:
        """The rest of the boundary's line; False while it has not come."""
        if self._buffer.startswith(b"--"):
            self._at = _At.END
            return True
        end = self._buffer.find(b"\r\n")
        if len(self._buffer) < 2 or (end < 0 and len(self._buffer) <= _MAX_PADDING):
            return False
        if end < 0 or self._take(end, 2).strip(b" \t"):
            raise Malformed("have nothing after a boundary but the end of the line")
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise Malformed(f"be sent in a form of no more than {MAX_PARTS} parts")
        self._at = _At.HEAD
        return True

    def _head(self) -> Part | None:
        """The part's headers; None while they have not all come."""
        end = 0 if self._buffer.startswith(b"\r\n") else self._buffer.find(b"\r\n\r\n")
        if end > MAX_HEAD or (end < 0 and len(self._buffer) > MAX_HEAD):
            raise Malformed(f"have headers of no more than {MAX_HEAD} bytes")
        if end < 0:
            return None
        head = self._take(end, 4 if end else 2)
        self._at = _At.BODY
        return _part(head)

    def _take(self, size: int, and_drop: int = 0) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[: size + and_drop]
        return taken


def _part(head: bytes) -> Part:
    disposition = Message()
    for line in head.decode("utf-8", "replace").split("\r\n"):
        header, _, value = line.partition(":")
        if header.strip().lower() == "content-disposition" and "Content-Disposition" not in disposition:
            disposition["Content-Disposition"] = value.strip()
    name = disposition.get_param("name", "", header="content-disposition")
    filename = disposition.get_filename()
    return Part(name if isinstance(name, str) else "", None if filename is None else _unescaped(filename))


def _unescaped(filename: str) -> str:
    for escape, character in _ESCAPES.items():
        filename = filename.replace(escape, character)
    return filename
