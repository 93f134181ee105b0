"""Keeping the beginning of a body."""

from __future__ import annotations

import gzip
import zlib

from relay.transports.exchange import excerpt
from tests.cases import cases

PLAIN = b"no space left on device " * 100
RAW = zlib.compressobj(wbits=-15)
DEFLATED = RAW.compress(PLAIN) + RAW.flush()


@cases(
    ("body", "coding"),
    [
        (PLAIN, None),
        (PLAIN, "identity"),
        (gzip.compress(PLAIN), "gzip"),
        (gzip.compress(PLAIN), " X-GZip "),
        (zlib.compress(PLAIN), "deflate"),
        (DEFLATED, "deflate"),
        (gzip.compress(PLAIN)[:-12], "gzip"),
        (PLAIN, "gzip"),
    ],
)
def test_the_beginning_is_kept_decoded(body: bytes, coding: str | None) -> None:
    assert excerpt(body, coding, 100) == PLAIN[:100]


def test_an_unknown_coding_is_kept_as_it_came() -> None:
    assert excerpt(b"\x0b\x02\x80", "br", 2) == b"\x0b\x02"
