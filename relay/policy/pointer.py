"""A link instead of a body: what a receiver gets that called the body too large."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from relay.outbox.links import PATH, signature
from relay.policy.attempt import Delivery


@dataclass(frozen=True, slots=True)
class Pointers:
    """Makes links. `base` is the engine's public URL, `lifetime` how long a link opens, in seconds."""

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
