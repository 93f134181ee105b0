"""The destination that an operator means: an origin, or any URL from which it follows."""

from __future__ import annotations

from relay.admin.errors import Refused
from relay.guard.rules import ANYWHERE, Refusal
from relay.guard.url import LIVE, read


def origin_of(text: str) -> str:
    """`https://Host/path` -> `https://host:443`. Raises Refused, without repeating what may hold a password."""
    target = read(text, ANYWHERE, LIVE)
    if isinstance(target, Refusal):
        raise Refused(f"destination: {target.message} Name it as scheme://host:port.")
    return target.origin
