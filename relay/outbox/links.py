"""Links that open one result for a while: the relay signs them, the engine checks them."""

from __future__ import annotations

import hashlib
import hmac

PATH = "/v1/results/"


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
