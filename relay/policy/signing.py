"""Standard Webhooks signatures: v1 (HMAC-SHA256) and v1a (ed25519), by every key that is valid at the time.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SECRET_PREFIX = "whsec_"  # noqa: S105
_PRIVATE_PREFIX = "whsk_"
_PUBLIC_PREFIX = "whpk_"
_SHORTEST, _LONGEST = 24, 64


@dataclass(frozen=True, slots=True)
class SymmetricKey:
    """A shared secret of 24 to 64 bytes, written `whsec_<base64>`."""

    secret: bytes = field(repr=False)
    # HMAC over nothing yet: to copy it costs half of what it costs to begin with the key each time.
    _begun: hmac.HMAC = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_begun", hmac.new(self.secret, digestmod=hashlib.sha256))

    def sign(self, head: bytes, body: bytes) -> str:
        """`v1,<base64>`."""
        mac = self._begun.copy()
        mac.update(head)
        mac.update(body)  # apart, because to join them would copy a body that may be large
        return "v1," + base64.b64encode(mac.digest()).decode()


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """An ed25519 key, written `whsk_<base64 of the 32-byte seed>`; receivers hold the public half, `whpk_<base64>`."""

    key: Ed25519PrivateKey = field(repr=False)

    def sign(self, head: bytes, body: bytes) -> str:
        """`v1a,<base64>`."""
        return "v1a," + base64.b64encode(self.key.sign(head + body)).decode()

    @property
    def public(self) -> str:
        """What receivers verify with."""
        return _PUBLIC_PREFIX + base64.b64encode(self.key.public_key().public_bytes_raw()).decode()


SigningKey = SymmetricKey | PrivateKey


def parse_key(text: str) -> SigningKey:
    """A key from its written form. Raises ValueError, which does not repeat the key."""
    for prefix, make in ((_SECRET_PREFIX, _symmetric), (_PRIVATE_PREFIX, _private)):
        if text.startswith(prefix):
            return make(_decode(text.removeprefix(prefix)))
    raise ValueError(f"a signing key begins with {_SECRET_PREFIX} (shared secret) or {_PRIVATE_PREFIX} (ed25519)")


def signature(keys: Sequence[SigningKey], delivery_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header: one signature by each key, separated by spaces."""
    head = f"{delivery_id}.{timestamp}.".encode()
    return " ".join([key.sign(head, body) for key in keys])


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("the part of a signing key behind its prefix must be base64") from None


def _symmetric(secret: bytes) -> SymmetricKey:
    if not _SHORTEST <= len(secret) <= _LONGEST:
        raise ValueError(f"a shared secret has {_SHORTEST} to {_LONGEST} bytes, this one {len(secret)}")
    return SymmetricKey(secret)


def _private(seed: bytes) -> PrivateKey:
    if len(seed) not in (32, 64):
        raise ValueError(f"an ed25519 key has 32 bytes (or 64 with its public half), this one {len(seed)}")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # who has no such key need not wait

    return PrivateKey(Ed25519PrivateKey.from_private_bytes(seed[:32]))
