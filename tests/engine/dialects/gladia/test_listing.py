"""The query that lists jobs."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from engine.dialects.gladia import GladiaProblem, Listing, parse_listing
from engine.record import JobState
from tests.cases import cases


def at(*moment: int) -> float:
    return datetime(*moment, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]


def test_nothing_asked_for_is_the_first_page_of_everything() -> None:
    assert parse_listing([]) == Listing(offset=0, limit=20)


def test_everything_can_be_asked_for_at_once() -> None:
    pairs = [("offset", "10"), ("limit", "5"), ("status", "done"), ("status", "error"), ("region", "eu-west")]
    pairs += [("custom_metadata[user]", "J"), ("custom_metadata[a[b]]", "1"), ("kind", "pre-recorded")]
    assert parse_listing(pairs) == Listing(
        offset=10, limit=5, states=(JobState.DONE, JobState.FAILED), metadata={"user": "J", "a[b]": "1"}
    )


@cases(
    ("pairs", "since", "before"),
    [
        ({"date": "2026-01-31"}, at(2026, 1, 31), at(2026, 2, 1)),
        ({"date": "2026-01-31T15:00:00Z"}, at(2026, 1, 31), at(2026, 2, 1)),
        ({"after_date": "2026-01-31T15:31:53.249Z"}, at(2026, 1, 31, 15, 31, 53, 249000), None),
        ({"after_date": "2026-01-31T15:00:00+02:00"}, at(2026, 1, 31, 13), None),
        ({"after_date": "2026-01-31T15:00:00 02:00"}, at(2026, 1, 31, 13), None),
        ({"before_date": "2026-01-31"}, None, at(2026, 1, 31)),
        ({"date": "2026-01-31", "after_date": "2026-01-31T12:00"}, at(2026, 1, 31, 12), at(2026, 2, 1)),
        ({"date": "9999-12-31"}, at(9999, 12, 31), at(9999, 12, 31) + 86400),
    ],
)
def test_dates_are_days_or_moments_and_utc(pairs: dict[str, str], since: float | None, before: float | None) -> None:
    listing = parse_listing(list(pairs.items()))
    assert isinstance(listing, Listing)
    assert (listing.since, listing.before) == (since, before)


def test_live_jobs_are_another_list() -> None:
    assert parse_listing([("kind", "live")]) == Listing(nothing=True)


@cases(
    ("pairs", "name"),
    [
        ([("limit", "0")], "limit"),
        ([("limit", "101")], "limit"),
        ([("limit", "٣")], "limit"),
        ([("limit", "5"), ("limit", "6")], "limit"),
        ([("offset", "-1")], "offset"),
        ([("offset", "9" * 400)], "offset"),
        ([("status", "dead")], "status"),
        ([("kind", "x")], "kind"),
        ([("date", "yesterday")], "date"),
        ([("date", "0001-01-01T00:00+23:59")], "date"),
        ([("before_date", "2026-13-01")], "before_date"),
        ([("zoom", "1")], "zoom"),
        ([("custom_metadata[]", "1")], "'custom_metadata[]'"),
    ],
)
def test_what_cannot_be_asked_for_is_named(pairs: list[tuple[str, str]], name: str) -> None:
    problem = parse_listing(pairs)
    assert isinstance(problem, GladiaProblem)
    assert problem.status == 422
    assert problem.validation_errors[0].startswith(f"{name} must ")


_NAMES = st.sampled_from(
    ["offset", "limit", "date", "before_date", "after_date", "status", "kind", "custom_metadata[a]"]
)


@given(st.lists(st.tuples(_NAMES | st.text(max_size=8), st.text(max_size=12)), max_size=4))
def test_no_query_breaks_the_reader(pairs: list[tuple[str, str]]) -> None:
    assert isinstance(parse_listing(pairs), Listing | GladiaProblem)
