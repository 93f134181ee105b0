"""Helps receivers: signs a body as the relay does, and says of a callback why its signature does or does not hold."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from relay.policy.signing import PrivateKey, SigningKey, SymmetricKey, parse_key, signature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TOLERANCE_SECONDS = 300.0

_ID, _TIMESTAMP, _SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
_PUBLIC_PREFIX = "whpk_"


class SignatureFlaw(StrEnum):
    MISSING_HEADER = "missing_header"
    MALFORMED_HEADER = "malformed_header"
    CLOCK_SKEW = "clock_skew"
    RESERIALISED = "reserialised"
    KIND_OF_KEY = "kind_of_key"
    WRONG_KEY = "wrong_key"


@dataclass(frozen=True, slots=True)
class Verification:
    """`flaw` None: the signature holds. `message` is a sentence with the remedy."""

    flaw: SignatureFlaw | None
    message: str

    @property
    def valid(self) -> bool:
        """Whether a receiver should take the callback."""
        return self.flaw is None


@dataclass(frozen=True, slots=True)
class Verifier:
    """One key as a receiver holds it: `version` is v1 or v1a, `fits` says whether a signature is that of a content."""

    version: str
    fits: Callable[[bytes, bytes], bool]


def headers_for(keys: Sequence[SigningKey], delivery_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a signed callback."""
    return {_ID: delivery_id, _TIMESTAMP: str(timestamp), _SIGNATURE: signature(keys, delivery_id, timestamp, body)}


def read_verifier(text: str) -> Verifier:
    """A key in its written form: whsec_, whsk_ or whpk_. Raises ValueError, which does not repeat it."""
    if not text.startswith(_PUBLIC_PREFIX):
        return verifier(parse_key(text))
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(text.removeprefix(_PUBLIC_PREFIX), validate=True))
    except (ValueError, binascii.Error):
        raise ValueError("a public key is whpk_ and the base64 of 32 bytes") from None
    return _asymmetric(public)


def verifier(key: SigningKey) -> Verifier:
    """The receiver's side of a signing key."""
    if isinstance(key, PrivateKey):
        return _asymmetric(key.key.public_key())
    return _symmetric(key)


def verify(headers: Mapping[str, str], body: bytes, keys: Sequence[Verifier], now: float) -> Verification:
    """Whether one of the keys signed exactly this, within five minutes of now; if not, the likeliest reason.

    Header names are compared in lower case. A body that was parsed and written again is recognised when it is JSON and
    one of the usual ways of writing it fits.
    """
    plain = {name.lower(): value.strip() for name, value in headers.items()}
    missing = [name for name in (_ID, _TIMESTAMP, _SIGNATURE) if not plain.get(name)]
    if missing:
        return Verification(
            SignatureFlaw.MISSING_HEADER, f"no {', '.join(missing)}: was it dropped by a proxy, or not signed?"
        )
    offered = list(_offered(plain[_SIGNATURE]))
    if not plain[_TIMESTAMP].isascii() or not plain[_TIMESTAMP].isdigit() or len(plain[_TIMESTAMP]) > 12:
        return Verification(SignatureFlaw.MALFORMED_HEADER, f"{_TIMESTAMP} is not whole seconds since 1970")
    if not offered:
        return Verification(SignatureFlaw.MALFORMED_HEADER, f"{_SIGNATURE} holds no `v1,<base64>` or `v1a,<base64>`")
    head = f"{plain[_ID]}.{plain[_TIMESTAMP]}.".encode()
    if _any_fits(keys, offered, head + body):
        return _in_time(float(plain[_TIMESTAMP]), now)
    return _why_not(keys, offered, head, body)


def _in_time(timestamp: float, now: float) -> Verification:
    skew = now - timestamp
    if abs(skew) <= TOLERANCE_SECONDS:
        return Verification(None, "the signature holds")
    side = "old" if skew > 0 else "in the future"
    return Verification(
        SignatureFlaw.CLOCK_SKEW,
        f"the signature holds, but it is {abs(skew):.0f} s {side}, and {TOLERANCE_SECONDS:.0f} are allowed: "
        "set this machine's clock, or judge the callback when it arrives",
    )


def _why_not(keys: Sequence[Verifier], offered: Sequence[tuple[str, bytes]], head: bytes, body: bytes) -> Verification:
    if any(_any_fits(keys, offered, head + other) for other in _rewritten(body)):
        return Verification(
            SignatureFlaw.RESERIALISED,
            "the key is right, but the body was parsed and written again: same JSON, other bytes. "
            "Verify the bytes as they arrived, before any framework parses them",
        )
    versions = {version for version, _ in offered}
    if versions.isdisjoint(key.version for key in keys):
        return Verification(
            SignatureFlaw.KIND_OF_KEY,
            f"it is signed with {', '.join(sorted(versions))}, which none of these keys verifies: "
            "v1 needs the shared whsec_ secret, v1a the whpk_ public key",
        )
    return Verification(
        SignatureFlaw.WRONG_KEY,
        "no signature fits: another key signed it, or the body or the id was changed on the way",
    )


def _offered(header: str) -> Iterator[tuple[str, bytes]]:
    for part in header.split():
        version, comma, text = part.partition(",")
        if comma and version in ("v1", "v1a"):
            try:
                yield version, base64.b64decode(text, validate=True)
            except binascii.Error:
                continue  # one that cannot be read fits nothing; another may


def _any_fits(keys: Sequence[Verifier], offered: Sequence[tuple[str, bytes]], content: bytes) -> bool:
    return any(key.version == version and key.fits(content, sig) for key in keys for version, sig in offered)


def _rewritten(body: bytes) -> Iterator[bytes]:
    """The same JSON value in the ways in which libraries write it, and the same text with another end."""
    yield body.rstrip(b"\r\n")
    yield body.rstrip(b"\r\n") + b"\n"
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return
    for separators in ((",", ":"), (", ", ": ")):
        for ascii_ in (False, True):
            for sort in (False, True):
                yield json.dumps(value, separators=separators, ensure_ascii=ascii_, sort_keys=sort).encode(
                    errors="surrogatepass"
                )
    for indent in (2, 4):
        yield json.dumps(value, indent=indent, ensure_ascii=False).encode(errors="surrogatepass")


def _symmetric(key: SymmetricKey) -> Verifier:
    def fits(content: bytes, sig: bytes) -> bool:
        return hmac.compare_digest(hmac.digest(key.secret, content, hashlib.sha256), sig)

    return Verifier("v1", fits)


def _asymmetric(key: Ed25519PublicKey) -> Verifier:
    from cryptography.exceptions import InvalidSignature

    def fits(content: bytes, sig: bytes) -> bool:
        try:
            key.verify(sig, content)
        except InvalidSignature:
            return False
        return True

    return Verifier("v1a", fits)
