from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook

from relay.admin.keys import generate
from relay.admin.signatures import SignatureFlaw, Verification, headers_for, read_verifier, verify
from relay.policy.signing import PrivateKey, parse_key
from tests.cases import cases

NOW = 1_800_000_000.0
SECRET, PAIR = generate(), generate(ed25519=True)
BODY = '{"text": "grüße", "b": 1,\n "a": [1, 2]}'.encode()


def signed(body: bytes = BODY, *keys: str, at: float = NOW) -> dict[str, str]:
    return headers_for([parse_key(key) for key in keys or (SECRET,)], "d1", int(at), body)


def judged(headers: dict[str, str], body: bytes = BODY, *keys: str, now: float = NOW) -> Verification:
    return verify(headers, body, [read_verifier(key) for key in keys or (SECRET,)], now)


def test_what_was_signed_holds_by_any_of_the_keys() -> None:
    public = parse_key(PAIR)
    assert isinstance(public, PrivateKey)
    assert judged(signed()).valid
    assert judged(signed(BODY, SECRET, PAIR), BODY, public.public).valid
    assert judged(signed(BODY, PAIR), BODY, generate(), PAIR).valid


def test_the_reference_implementation_agrees() -> None:
    now = datetime.now(UTC).timestamp()
    body = json.dumps({"text": "hello"}).encode()
    assert Webhook(SECRET).verify(body, signed(body, at=now)) == {"text": "hello"}
    stamp = datetime.fromtimestamp(int(now), UTC)
    theirs = {
        "Webhook-Id": "d1",
        "Webhook-Timestamp": str(int(now)),
        "Webhook-Signature": Webhook(SECRET).sign("d1", stamp, body.decode()),
    }
    assert judged(theirs, body, now=now).valid


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in signed().items() if key != name}


@cases(
    ("headers", "flaw", "words"),
    [
        ({}, SignatureFlaw.MISSING_HEADER, "webhook-id, webhook-timestamp, webhook-signature"),
        (without("webhook-signature"), SignatureFlaw.MISSING_HEADER, "no webhook-signature"),
        (signed() | {"webhook-timestamp": "soon"}, SignatureFlaw.MALFORMED_HEADER, "whole seconds"),
        (signed() | {"webhook-timestamp": "9" * 400}, SignatureFlaw.MALFORMED_HEADER, "whole seconds"),
        (signed() | {"webhook-signature": "sha256=abc"}, SignatureFlaw.MALFORMED_HEADER, "v1,<base64>"),
        (signed(at=NOW - 301), SignatureFlaw.CLOCK_SKEW, "301 s old"),
        (signed(at=NOW + 600), SignatureFlaw.CLOCK_SKEW, "600 s in the future"),
        (signed(BODY, generate()), SignatureFlaw.WRONG_KEY, "another key"),
        (signed() | {"webhook-id": "d2"}, SignatureFlaw.WRONG_KEY, "the id was changed"),
        (signed(BODY, PAIR), SignatureFlaw.KIND_OF_KEY, "whpk_"),
    ],
)
def test_a_signature_that_does_not_hold_says_why(headers: dict[str, str], flaw: SignatureFlaw, words: str) -> None:
    found = judged(headers)
    assert (found.flaw, found.valid) == (flaw, False)
    assert words in found.message


def test_five_minutes_either_way_are_allowed() -> None:
    assert judged(signed(at=NOW - 300)).valid
    assert judged(signed(at=NOW + 300)).valid


# What the relay sends, and what a framework made of it before the receiver looked.
VALUE = {"text": "grüße", "b": 1, "a": [1, 2]}


@cases(
    ("sent", "seen"),
    [
        (json.dumps(VALUE, ensure_ascii=False, separators=(",", ":")), json.dumps(VALUE)),
        (json.dumps(VALUE), json.dumps(VALUE, indent=2)),
        (json.dumps(VALUE, sort_keys=True), json.dumps(VALUE)),
        (json.dumps(VALUE, indent=2, ensure_ascii=False), json.dumps(VALUE)),
        ('{"text":"hello"}\n', '{"text":"hello"}'),
    ],
)
def test_a_body_that_was_parsed_and_written_again_is_recognised(sent: str, seen: str) -> None:
    found = judged(signed(sent.encode()), seen.encode())
    assert found.flaw is SignatureFlaw.RESERIALISED
    assert "the key is right" in found.message


@cases("body", [b"", b"\xff\xfe", b"[" * 100_000, b'"\\ud800"', b"not json"])
def test_any_body_is_judged_without_an_exception(body: bytes) -> None:
    assert judged(signed(), body).flaw is SignatureFlaw.WRONG_KEY
    assert judged(signed(body), body).valid


@cases("text", ["", "whpk_!", "whpk_c2hvcnQ=", "whsec_c2hvcnQ=", "hunter2"])
def test_a_key_that_cannot_be_read_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"key|secret") as complaint:
        read_verifier(text)
    assert "c2hvcnQ" not in str(complaint.value)
    assert "hunter2" not in str(complaint.value)
