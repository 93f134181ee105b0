"""What one exchange with a receiver may cost, whom nobody has a reason to trust, and what comes back of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from relay.policy.attempt import Answer, Timing

_ZLIB_OR_GZIP = zlib.MAX_WBITS | 32
_RAW_DEFLATE = -zlib.MAX_WBITS
_WINDOWS = {
    "gzip": (_ZLIB_OR_GZIP,),
    "x-gzip": (_ZLIB_OR_GZIP,),
    # The standard says zlib, some servers send the bare stream.
    "deflate": (_ZLIB_OR_GZIP, _RAW_DEFLATE),
}


@dataclass(frozen=True, slots=True)
class ExchangeBounds:
    """What a receiver may cost us. Times are seconds, sizes bytes.

    `connect_timeout` spans TCP and TLS over all addresses, `exchange_timeout` everything from the call of `send` to the
    end of the answer's body. `head_bytes` bounds one answer head, `informational` the 1xx answers before the final one.
    Beyond `body_bytes` the rest of an answer is not read, and `excerpt_bytes` of what was read are kept, decompressed.
    A connection idles for at most `idle_seconds` and is used for at most `age_seconds`, so that a destination which
    moved to another address is found there. A body that only the connection's end would end is waited for
    `undelimited_seconds` after its head.
    """

    connect_timeout: float = 5.0
    exchange_timeout: float = 30.0
    undelimited_seconds: float = 1.0
    head_bytes: int = 64 * 1024
    header_count: int = 256
    informational: int = 16
    body_bytes: int = 64 * 1024
    excerpt_bytes: int = 4 * 1024
    idle_seconds: float = 15.0
    idle_per_origin: int = 16
    idle_in_all: int = 256
    age_seconds: float = 300.0


@dataclass(slots=True)
class Reply:
    """A final answer: its head, the decoded beginning of its body, and what was odd about them, if anything."""

    status: int
    headers: tuple[tuple[str, str], ...]
    excerpt: bytes
    oddity: str = ""

    def answer(self, timing: Timing, peer: str | None, reused: bool) -> Answer:
        """The answer that this reply is."""
        return Answer(
            timing,
            self.status,
            detail=self.oddity,
            headers=self.headers,
            excerpt=self.excerpt,
            peer=peer,
            reused=reused,
        )


def excerpt(body: bytes, coding: str | None, limit: int) -> bytes:
    """At most `limit` bytes of a body, decoded from its Content-Encoding where that is gzip or deflate, without ever
    inflating more than is kept.

    A body in another coding, or in one that it does not really have, is kept as it came.
    """
    if not body or not coding:
        return body[:limit]
    for window in _WINDOWS.get(coding.strip().lower(), ()):
        try:
            return zlib.decompressobj(window).decompress(body, limit)
        except zlib.error:
            continue
    return body[:limit]
