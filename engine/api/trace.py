"""The caller's trace, so that a delivery can be found from the request that asked for it."""

from __future__ import annotations

import re

from aiohttp import web

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent(request: web.Request) -> str | None:
    """The W3C `traceparent` header, version 00; None where it is absent or malformed, as the standard asks."""
    value = request.headers.get("traceparent", "").strip()
    return value if _TRACEPARENT.fullmatch(value) else None
