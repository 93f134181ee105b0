"""The beginning of an answer's body, decompressed without ever inflating more than is kept."""

from __future__ import annotations

import zlib

_ZLIB_OR_GZIP = zlib.MAX_WBITS | 32
_RAW_DEFLATE = -zlib.MAX_WBITS
_WINDOWS = {
    "gzip": (_ZLIB_OR_GZIP,),
    "x-gzip": (_ZLIB_OR_GZIP,),
    # The standard says zlib, some servers send the bare stream.
    "deflate": (_ZLIB_OR_GZIP, _RAW_DEFLATE),
}


def excerpt(body: bytes, coding: str | None, limit: int) -> bytes:
    """At most `limit` bytes of a body, decoded from its Content-Encoding where that is gzip or deflate.

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
