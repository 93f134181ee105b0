from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.outbox.links import opens, signature
from tests.cases import cases

NOW = 1000.5
SECRET = b"s" * 32
SIGNED = signature(SECRET, "id-1", 1600)


def test_a_link_opens_its_result_until_it_expires() -> None:
    assert opens(SECRET, "id-1", "1600", SIGNED, NOW)
    assert opens(SECRET, "id-1", "1600", SIGNED, 1599.9)
    assert not opens(SECRET, "id-1", "1600", SIGNED, 1600.0)


def test_a_link_opens_nothing_else() -> None:
    assert not opens(SECRET, "id-2", "1600", SIGNED, NOW)
    assert not opens(b"t" * 32, "id-1", "1600", SIGNED, NOW)


def test_a_link_cannot_be_made_to_last_longer() -> None:
    assert not opens(SECRET, "id-1", "9999", SIGNED, NOW)


@cases("expires", ["", "-1600", "+1600", "1600.0", " 1600", "1_600", "١٦٠٠", "16e2", "9" * 13, "9" * 5000])
def test_an_expiry_is_a_plain_number(expires: str) -> None:
    assert not opens(SECRET, "id-1", expires, SIGNED, NOW)


@cases("signed", ["", "0" * 64, "ü" * 64, "\udcff", "0" * 100_000])
def test_a_signature_that_is_none_opens_nothing(signed: str) -> None:
    assert not opens(SECRET, "id-1", "1600", signed, NOW)


def test_a_signature_is_compared_as_it_is_written() -> None:
    assert not opens(SECRET, "id-1", "1600", signature(SECRET, "id-1", 1600).upper(), NOW)


@given(st.text(), st.text(), st.text())
def test_whatever_is_asked_is_answered(id_: str, expires: str, signed: str) -> None:
    assert not opens(SECRET, id_, expires, signed, NOW)


def test_an_id_that_no_text_can_hold_opens_nothing() -> None:
    assert not opens(SECRET, "\udcff", "1600", "0" * 64, NOW)
