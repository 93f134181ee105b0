"""A link instead of a body: what a receiver gets that called the body too large, and how its link is checked."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from relay.model import Delivery

PATH = "/v1/results/"


@dataclass(frozen=True, slots=True)
class Pointers:
    """Makes and checks links. `base` is the engine's public URL, `lifetime` how long a link opens, in seconds."""

    base: str
    secret: bytes = field(repr=False)
    lifetime: float = 7 * 86400.0

    def envelope(self, delivery: Delivery, now: float) -> bytes:
        """The small JSON body that stands in for the result."""
        expires_at = int(now + self.lifetime)
        query = urlencode({"expires": expires_at, "signature": signature(self.secret, delivery.id, expires_at)})
        return json.dumps(
            {
                "id": delivery.id,
                "event": f"result.{delivery.kind.value}",
                "result_url": f"{self.base.rstrip('/')}{PATH}{quote(delivery.id, safe='')}?{query}",
                "expires_at": expires_at,
                "size": delivery.body_bytes,
            }
        ).encode()


def signature(secret: bytes, delivery_id: str, expires_at: int) -> str:
    """Hex HMAC-SHA256 over id and expiry."""
    # A path may decode to half a surrogate pair, in no id that was ever given out.
    return hmac.new(secret, f"{delivery_id}.{expires_at}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def opens(secret: bytes, delivery_id: str, expires: str, signed: str, now: float) -> bool:
    """Whether a link with this query opens this result now."""
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
        return False
    # Bytes: compare_digest refuses text that is not ASCII, which a caller may well send.
    true = hmac.compare_digest(signature(secret, delivery_id, int(expires)).encode(), signed.encode("utf-8", "replace"))
    return true and now < int(expires)
