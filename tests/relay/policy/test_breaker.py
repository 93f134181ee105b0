from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.policy.attempt import Outcome
from relay.policy.breaker import (
    OURS,
    SILENT,
    THRESHOLD,
    TRICKLE,
    TRICKLE_SECONDS,
    UNREACHED,
    WELL,
    AttemptResult,
    Health,
    of_endpoint,
    of_origin,
)
from tests.cases import cases

NOW = 1000.0
FAULTS = {Outcome.READ_TIMEOUT, Outcome.RESET, Outcome.PROTOCOL, Outcome.HTTP_5XX}
ANSWERS = set(Outcome) - OURS - UNREACHED - FAULTS - {Outcome.HTTP_429}
OPEN = Health(failures=5, open=True, starts=(NOW, NOW + 1, NOW + 2, NOW + 3))


def came(
    outcome: Outcome, at: float = NOW, took: float = 0.0, pause: float | None = None, **more: bool
) -> AttemptResult:
    return AttemptResult(outcome, at - took, at, pause, **more)


def endpoint(health: Health, *outcomes: Outcome, at: float = NOW) -> Health:
    for outcome in outcomes:
        health = of_endpoint(health, came(outcome, at))
    return health


@cases("fault", sorted(FAULTS))
def test_five_failures_in_a_row_open_an_endpoint(fault: Outcome) -> None:
    four = endpoint(WELL, *[fault] * 4)
    assert (four.failures, four.held) == (4, False)
    opened = endpoint(four, fault)
    assert (opened.open, opened.silent) == (True, fault in SILENT)
    assert opened.allows(NOW + 29.9, 0, 4) == 0
    assert opened.allows(NOW + 30, 0, 4) == TRICKLE


@cases("fault", sorted(UNREACHED))
def test_an_origin_that_cannot_be_reached_says_nothing_of_its_endpoints(fault: Outcome) -> None:
    health = WELL
    for _ in range(THRESHOLD):
        health = of_origin(health, came(fault))
    assert health.open
    assert of_endpoint(WELL, came(fault)) == WELL


def test_an_endpoint_that_fails_says_nothing_of_its_origin() -> None:
    health = WELL
    for outcome in (Outcome.HTTP_5XX, Outcome.HTTP_429, Outcome.RESET):
        health = of_origin(health, came(outcome))
    assert health == WELL


def test_an_origin_is_silent_until_it_answers_and_not_where_it_answered_others_meanwhile() -> None:
    assert of_origin(WELL, came(Outcome.READ_TIMEOUT, alone=False)) == WELL
    silent = of_origin(WELL, came(Outcome.READ_TIMEOUT))
    assert silent == Health(silent=True)
    assert [silent.allows(NOW, in_flight, 4) for in_flight in (0, 3, 4, 5)] == [4, 1, 0, 0]
    assert of_origin(silent, came(Outcome.HTTP_5XX)) == WELL


@cases("outcome", sorted(OURS))
@cases("before", [WELL, Health(failures=4), OPEN])
def test_what_is_ours_counts_neither_way(before: Health, outcome: Outcome) -> None:
    assert endpoint(before, *[outcome] * 10) == before
    assert of_origin(before, came(outcome)) == before


@cases("outcome", sorted(ANSWERS))
def test_an_answer_closes_it_into_a_slow_start_whatever_it_says_of_one_delivery(outcome: Outcome) -> None:
    assert endpoint(Health(failures=4), outcome) == WELL
    rates, health = [], OPEN
    for _ in range(4):
        health = endpoint(health, outcome)
        rates.append(health.allows(NOW, 0, 4))
    assert rates == [1, 2, 3, 4]
    assert endpoint(health, *[outcome] * 12).rate == 16
    assert endpoint(health, *[outcome] * 13) == WELL


def test_a_failure_on_the_way_up_halves_what_goes_at_once() -> None:
    assert endpoint(Health(rate=8), Outcome.HTTP_5XX).rate == 4
    assert endpoint(Health(rate=1), Outcome.HTTP_5XX).rate == 1


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 8)), max_size=60))
def test_while_it_is_open_never_more_than_four_begin_in_half_a_minute(asked: list[tuple[float, int]]) -> None:
    health, now, starts = OPEN, NOW + 3, [NOW, NOW + 1, NOW + 2, NOW + 3]
    for rest, wanted in asked:
        now += rest
        going = min(wanted, health.allows(now, 0, 4))
        health = health.went(going, now)
        starts += [now] * going
        assert len([start for start in starts if start > now - TRICKLE_SECONDS]) <= TRICKLE
        assert health.allows(health.asks_at(now), 0, 4) > 0


def test_those_that_were_under_way_when_it_opened_count_by_their_beginning() -> None:
    late = of_endpoint(OPEN, came(Outcome.HTTP_5XX, NOW + 20, took=21))
    assert late.starts == OPEN.starts
    assert of_endpoint(OPEN, came(Outcome.HTTP_5XX, NOW + 20, took=1, allowed=True)).starts == OPEN.starts


def test_a_receiver_that_asks_for_it_is_left_alone_and_then_called_one_by_one() -> None:
    slow = of_endpoint(WELL, came(Outcome.HTTP_429, pause=7.5))
    assert (slow.asks_at(NOW), slow.allows(NOW + 7.4, 0, 4), slow.allows(NOW + 7.5, 9, 4)) == (NOW + 7.5, 0, 1)
    grown = slow.went(1, NOW + 8)
    assert (grown.allows(NOW + 8.9, 0, 4), grown.allows(NOW + 9, 0, 4)) == (0, 2)
    assert of_endpoint(WELL, came(Outcome.HTTP_5XX, pause=2.0)).asks_at(NOW) == NOW + 2


def test_it_is_slowed_down_once_for_all_that_was_under_way() -> None:
    slow = Health(rate=8, every=1.0)
    halved = of_endpoint(slow, came(Outcome.HTTP_429, NOW, pause=1.0))
    again = of_endpoint(halved, came(Outcome.HTTP_429, NOW + 0.5, took=0.6, pause=1.0))
    assert (halved.rate, again.rate, again.asks_at(NOW)) == (4, 4, NOW + 1.5)
    assert of_endpoint(again, came(Outcome.HTTP_429, NOW + 2, took=0.1, pause=1.0)).rate == 2


def test_one_that_names_no_time_is_left_alone_longer_and_longer() -> None:
    health, waits = WELL, []
    for _ in range(7):
        now = health.asks_at(NOW)
        health = of_endpoint(health.went(1, now), came(Outcome.HTTP_429, now))
        waits.append(health.asks_at(now) - now)
    assert waits == [1, 2, 4, 8, 16, 30, 30]


@given(st.lists(st.tuples(st.sampled_from(sorted(Outcome)), st.floats(0, 100), st.floats(0, 100)), max_size=60))
def test_in_any_history_it_can_be_called_again_at_some_time(history: list[tuple[Outcome, float, float]]) -> None:
    health, now = WELL, NOW
    for outcome, rest, took in history:
        now += rest + took
        health = of_endpoint(health, came(outcome, now, took))
        assert health.asks_at(now) <= now + TRICKLE_SECONDS
        assert health.allows(health.asks_at(now), 0, 4) > 0
        assert health.open == (health.failures >= THRESHOLD)
