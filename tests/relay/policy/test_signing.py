from __future__ import annotations

import base64
import secrets
import time

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook, WebhookVerificationError

from relay.policy.signing import PrivateKey, SymmetricKey, parse_key, signature
from tests.cases import cases

BODY = b'{"text":"Gr\xc3\xbc\xc3\x9fe"}'


def written(secret: bytes, prefix: str = "whsec_") -> str:
    return prefix + base64.b64encode(secret).decode()


OLD, NEW, OTHER = (written(secrets.token_bytes(32)) for _ in range(3))
SEED = bytes(range(32))
ASYMMETRIC = written(SEED, "whsk_")


def signed_by(*keys: str, body: bytes = BODY) -> dict[str, str]:
    now = int(time.time())
    made = signature([parse_key(key) for key in keys], "id-1", now, body)
    return {"webhook-id": "id-1", "webhook-timestamp": str(now), "webhook-signature": made}


@cases("size", [24, 32, 64])
def test_a_receivers_library_verifies_what_was_signed(size: int) -> None:
    key = written(secrets.token_bytes(size))
    assert Webhook(key).verify(BODY, signed_by(key)) == {"text": "Grüße"}


def test_while_keys_are_rotated_a_receiver_with_either_of_them_verifies() -> None:
    headers = signed_by(NEW, ASYMMETRIC, OLD)
    for key in (OLD, NEW):
        Webhook(key).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(BODY, headers)


@cases("changed", [{"webhook-id": "id-2"}, {"webhook-timestamp": str(int(time.time()) - 60)}])
def test_id_and_time_are_signed_too(changed: dict[str, str]) -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(BODY, signed_by(OLD) | changed)


def test_another_body_does_not_verify() -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(b"{}", signed_by(OLD))


def public_half(key: str) -> Ed25519PublicKey:
    private = parse_key(key)
    assert isinstance(private, PrivateKey)
    prefix, _, encoded = private.public.partition("_")
    assert prefix == "whpk"
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(encoded, validate=True))


def test_with_ed25519_the_public_half_verifies() -> None:
    headers = signed_by(ASYMMETRIC)
    version, _, encoded = headers["webhook-signature"].partition(",")
    assert version == "v1a"
    content = b"id-1." + headers["webhook-timestamp"].encode() + b"." + BODY
    public_half(ASYMMETRIC).verify(base64.b64decode(encoded), content)
    with pytest.raises(InvalidSignature):
        public_half(ASYMMETRIC).verify(base64.b64decode(encoded), content + b" ")


def test_a_private_key_may_carry_its_public_half() -> None:
    both = written(SEED + public_half(ASYMMETRIC).public_bytes_raw(), "whsk_")
    assert public_half(both) == public_half(ASYMMETRIC)


def test_no_keys_make_no_signature() -> None:
    assert signature([], "id-1", 1000, BODY) == ""


@cases(
    ("key", "message"),
    [
        ("canary", "begins with whsec_ .* or whsk_"),
        ("", "begins with whsec_"),
        ("WHSEC_" + "canary00" * 4, "begins with whsec_"),
        ("whpk_" + "canary00" * 4, "begins with whsec_"),
        ("whsec_canary!" + "canary00" * 4, "must be base64"),
        ("whsec_canary0", "must be base64"),
        ("whsec_\N{SNOWMAN}canary", "must be base64"),
        ("whsec_canary00", "24 to 64 bytes, this one 6"),
        ("whsec_", "24 to 64 bytes, this one 0"),
        ("whsec_" + "canary00" * 11, "24 to 64 bytes, this one 66"),
        ("whsk_" + "canary00" * 4, "32 bytes .*, this one 24"),
    ],
)
def test_a_key_that_is_none_is_refused_without_being_repeated(key: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        parse_key(key)
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_a_key_shows_nothing_of_itself() -> None:
    assert repr(SymmetricKey(b"canary" * 5)) == "SymmetricKey()"
    assert repr(parse_key(ASYMMETRIC)) == "PrivateKey()"
