from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.model import Kind
from relay.policy.pointer import Pointers, opens, signature
from tests.relay.deliveries import claimed

NOW = 1000.5
SECRET = b"s" * 32
POINTERS = Pointers("https://speech.example/", SECRET, lifetime=600.0)


def link(id_: str = "id-1") -> dict[str, str]:
    """The query of a link to a result."""
    envelope = json.loads(POINTERS.envelope(claimed(id_), NOW))
    return {name: value for name, (value,) in parse_qs(urlsplit(envelope["result_url"]).query).items()}


def test_the_envelope_says_what_waits_where_and_for_how_long() -> None:
    envelope = json.loads(POINTERS.envelope(claimed("id-1", kind=Kind.ERROR, body_bytes=5_000_000), NOW))
    assert set(envelope) == {"id", "event", "result_url", "expires_at", "size"}
    assert (envelope["id"], envelope["event"], envelope["size"]) == ("id-1", "result.error", 5_000_000)
    assert envelope["expires_at"] == 1600
    url = urlsplit(envelope["result_url"])
    assert (url.scheme, url.netloc, url.path) == ("https", "speech.example", "/v1/results/id-1")


def test_an_envelope_is_small_whatever_the_result() -> None:
    assert len(POINTERS.envelope(claimed("x" * 128, body_bytes=10**9), NOW)) < 600


def test_an_id_with_signs_of_its_own_stays_one_segment_of_the_path() -> None:
    envelope = json.loads(POINTERS.envelope(claimed("a/b?c#d e%"), NOW))
    assert urlsplit(envelope["result_url"]).path == "/v1/results/a%2Fb%3Fc%23d%20e%25"


def test_a_link_opens_its_result_until_it_expires() -> None:
    query = link()
    assert opens(SECRET, "id-1", query["expires"], query["signature"], NOW)
    assert opens(SECRET, "id-1", query["expires"], query["signature"], 1599.9)
    assert not opens(SECRET, "id-1", query["expires"], query["signature"], 1600.0)


def test_a_link_opens_nothing_else() -> None:
    query = link()
    assert not opens(SECRET, "id-2", query["expires"], query["signature"], NOW)
    assert not opens(b"t" * 32, "id-1", query["expires"], query["signature"], NOW)


def test_a_link_cannot_be_made_to_last_longer() -> None:
    assert not opens(SECRET, "id-1", "9999", link()["signature"], NOW)


@pytest.mark.parametrize(
    "expires", ["", "-1600", "+1600", "1600.0", " 1600", "1_600", "١٦٠٠", "16e2", "9" * 13, "9" * 5000]
)
def test_an_expiry_is_a_plain_number(expires: str) -> None:
    assert not opens(SECRET, "id-1", expires, link()["signature"], NOW)


@pytest.mark.parametrize("signed", ["", "0" * 64, "ü" * 64, "\udcff", "0" * 100_000])
def test_a_signature_that_is_none_opens_nothing(signed: str) -> None:
    assert not opens(SECRET, "id-1", "1600", signed, NOW)


def test_a_signature_is_compared_as_it_is_written() -> None:
    assert not opens(SECRET, "id-1", "1600", signature(SECRET, "id-1", 1600).upper(), NOW)


@given(st.text(), st.text(), st.text())
def test_whatever_is_asked_is_answered(id_: str, expires: str, signed: str) -> None:
    assert not opens(SECRET, id_, expires, signed, NOW)


def test_an_id_that_no_text_can_hold_opens_nothing() -> None:
    assert not opens(SECRET, "\udcff", "1600", "0" * 64, NOW)


def test_the_secret_is_not_shown() -> None:
    assert "ssss" not in repr(POINTERS)
