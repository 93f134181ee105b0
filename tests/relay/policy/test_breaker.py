from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.policy.attempt import Outcome
from relay.policy.breaker import CLOSED, FIRST_PAUSE, LONGEST_PAUSE, OWN_FAULTS, THRESHOLD, Breaker, after

NOW = 1000.0
OURS = {Outcome.BLOCKED, Outcome.UNSENDABLE, Outcome.SHORTAGE, Outcome.INTERNAL}
ANSWERED = set(Outcome) - OWN_FAULTS - OURS
OPEN = Breaker(5, NOW + 30, 30.0)


def told(breaker: Breaker, *outcomes: Outcome, now: float = NOW) -> Breaker:
    for outcome in outcomes:
        breaker = after(breaker, outcome, started_at=now, now=now)
    return breaker


@pytest.mark.parametrize("fault", sorted(OWN_FAULTS))
def test_five_failures_in_a_row_open_it_for_thirty_seconds(fault: Outcome) -> None:
    four = told(CLOSED, *[fault] * 4)
    assert (four.failures, four.is_open) == (4, False)
    assert told(four, fault) == Breaker(5, NOW + 30, 30.0)


def test_a_success_between_them_begins_the_count_anew() -> None:
    outcomes = [Outcome.RESET] * 4 + [Outcome.SUCCESS] + [Outcome.RESET] * 4
    assert told(CLOSED, *outcomes) == Breaker(failures=4)


@pytest.mark.parametrize("outcome", sorted(OURS))
@pytest.mark.parametrize("before", [CLOSED, Breaker(4), OPEN], ids=["closed", "counting", "open"])
def test_what_is_ours_counts_neither_way(before: Breaker, outcome: Outcome) -> None:
    assert told(before, *[outcome] * 10) == before


def test_an_answer_about_one_delivery_is_no_fault_of_the_destination() -> None:
    assert {Outcome.SUCCESS, Outcome.HTTP_3XX, Outcome.HTTP_4XX, Outcome.HTTP_410, Outcome.HTTP_413} == ANSWERED


@pytest.mark.parametrize("outcome", sorted(ANSWERED))
@pytest.mark.parametrize("before", [CLOSED, Breaker(4), OPEN, Breaker(9, 1.0, 600.0)])
def test_an_answer_closes_it_whatever_it_says_of_one_delivery(before: Breaker, outcome: Outcome) -> None:
    assert told(before, outcome) == CLOSED


def test_the_failure_of_a_probe_doubles_the_pause_up_to_ten_minutes() -> None:
    breaker, pauses = OPEN, []
    for _ in range(6):
        now = breaker.open_until or 0.0
        breaker = told(breaker, Outcome.CONNECT, now=now)
        pauses.append((breaker.open_until or 0.0) - now)
    assert pauses == [60.0, 120.0, 240.0, 480.0, 600.0, 600.0]


def test_what_started_before_it_opened_says_nothing_new() -> None:
    late = after(OPEN, Outcome.READ_TIMEOUT, started_at=NOW - 1, now=NOW + 29)
    assert late == OPEN
    assert after(OPEN, Outcome.READ_TIMEOUT, started_at=NOW - 1, now=NOW + 31) == OPEN


def test_the_pause_is_counted_from_the_end_of_the_probe() -> None:
    assert after(OPEN, Outcome.READ_TIMEOUT, started_at=NOW + 30, now=NOW + 60).open_until == NOW + 120


@given(st.lists(st.tuples(st.sampled_from(sorted(Outcome)), st.floats(0, 1000), st.floats(0, 100)), max_size=60))
def test_in_any_history_the_pause_keeps_its_bounds_and_a_success_ends_it(
    history: list[tuple[Outcome, float, float]],
) -> None:
    breaker, now = CLOSED, 0.0
    for outcome, rest, took in history:
        started_at, now = now + rest, now + rest + took
        breaker = after(breaker, outcome, started_at=started_at, now=now)
        assert breaker.is_open == (breaker.failures >= THRESHOLD)
        assert not breaker.is_open or FIRST_PAUSE <= breaker.pause <= LONGEST_PAUSE
        assert outcome is not Outcome.SUCCESS or breaker == CLOSED
