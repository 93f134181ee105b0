from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime, formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.service.retry_after import LONGEST_SECONDS, retry_after
from tests.cases import cases

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@cases(
    ("value", "wait"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 120\t", 120.0),
        ("007", 7.0),
        ("3600", LONGEST_SECONDS),
        ("3601", LONGEST_SECONDS),
        ("9" * 20, LONGEST_SECONDS),
    ],
)
def test_a_delay_is_seconds_and_at_most_an_hour(value: str, wait: float) -> None:
    assert retry_after(value, NOW) == wait


@cases(
    ("value", "wait"),
    [
        ("Sun, 06 Nov 1994 08:51:37 GMT", 120.0),
        ("Sunday, 06-Nov-94 08:51:37 GMT", 120.0),
        ("Sun Nov  6 08:51:37 1994", 120.0),
        ("Sun, 06 Nov 1994 10:51:37 +0200", 120.0),
        ("Sun, 06 Nov 1994 03:51:37 EST", 120.0),
        ("Sun, 06 Nov 1994 08:51:37 -0000", 120.0),
        ("Sun, 06 Nov 1994 08:49:36 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_SECONDS),
        ("Fri, 31 Dec 9999 23:59:59 -2359", LONGEST_SECONDS),
    ],
)
def test_a_date_is_a_moment_whatever_its_zone(value: str, wait: float) -> None:
    assert retry_after(value, NOW) == wait


@cases(
    "value",
    [
        "", " ", "1e17", "inf", "-inf", "Infinity", "nan", "-5", "+5", "1.5.", "1_000", "0x10", "٣", "²", "5 s",
        "5, 10", "9" * 21, "9" * 4096, "soon", "Sun, 06 Nov 1994", "Sun, 99 Nov 1994 08:51:37 GMT", "\x00", "\udcff",
        "Sun, 06 Nov 1994 08:51:37 +9999", "Fri, 31 Dec 99999 23:59:59 GMT",
        "Sun, 06 Nov 1994 08:51:37 GMT" + " x" * 40, "Sun, 06 Nov " + "9" * 40 + " 08:51:37 GMT",
    ],
)  # fmt: skip
def test_nonsense_is_no_hint(value: str) -> None:
    assert retry_after(value, NOW) is None


def test_without_the_header_there_is_no_hint() -> None:
    assert retry_after(None, NOW) is None


@given(st.one_of(st.text(), st.from_regex(r"[0-9]{1,40}"), st.from_regex(r"[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} .*")))
def test_whatever_is_sent_is_survived(value: str) -> None:
    wait = retry_after(value, NOW)
    assert wait is None or 0.0 <= wait <= LONGEST_SECONDS


ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(timezones=ZONES), st.floats(0, 2e11))
def test_every_date_that_mail_can_write_is_a_wait_within_bounds(date: datetime, now: float) -> None:
    wait = retry_after(format_datetime(date), now)
    assert wait is not None
    assert 0.0 <= wait <= LONGEST_SECONDS


@given(st.integers(0, 3600))
def test_a_date_says_the_same_as_the_seconds_until_it(seconds: int) -> None:
    assert retry_after(formatdate(NOW + seconds, usegmt=True), NOW) == retry_after(str(seconds), NOW) == seconds


@pytest.mark.acceptance
def test_a_date_without_a_zone_is_not_in_the_zone_of_this_machine() -> None:
    code = f"from relay.service.retry_after import retry_after; print(retry_after('Sun Nov  6 08:51:37 1994', {NOW}))"
    elsewhere = os.environ | {"TZ": "Asia/Kathmandu"}
    said = subprocess.run([sys.executable, "-c", code], env=elsewhere, capture_output=True, check=True)
    assert said.stdout == b"120.0\n"
