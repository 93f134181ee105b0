from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.policy.schedule import ExponentialSchedule, FixedSchedule, Schedule

DAY = 86400.0


def due_after(schedule: Schedule, attempts: int, now: float = 0.0, dice: float = 1.0) -> float | None:
    return schedule.next_due(attempts, began_at=0.0, now=now, dice=dice)


def test_attempts_are_the_same_time_apart() -> None:
    schedule = FixedSchedule(retries=3, delay=30.0)
    assert [due_after(schedule, attempts, now=100.0) for attempts in (1, 2, 3)] == [130.0, 130.0, 130.0]


def test_after_the_last_retry_there_is_no_further_one() -> None:
    schedule = FixedSchedule(retries=3)
    assert due_after(schedule, 3) is not None
    assert due_after(schedule, 4) is None


def test_without_retries_the_first_attempt_is_the_last() -> None:
    assert due_after(FixedSchedule(retries=0), 1) is None


def test_the_default_is_ten_retries_thirty_seconds_apart() -> None:
    schedule = FixedSchedule()
    assert [due_after(schedule, attempts) for attempts in range(1, 12)] == [30.0] * 10 + [None]


@given(dice=st.floats(0.0, 1.0))
def test_fixed_pauses_know_no_dice(dice: float) -> None:
    assert due_after(FixedSchedule(), 1, dice=dice) == 30.0


def test_exponential_pauses_double_up_to_the_longest() -> None:
    schedule = ExponentialSchedule(first=5.0, longest=3600.0)
    pauses = [due_after(schedule, attempts) for attempts in range(1, 13)]
    assert pauses == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0, 3600.0, 3600.0]


def test_the_dice_choose_a_moment_anywhere_in_the_pause() -> None:
    schedule = ExponentialSchedule(first=8.0)
    assert [due_after(schedule, 2, now=100.0, dice=dice) for dice in (0.0, 0.25, 1.0)] == [100.0, 104.0, 116.0]


def test_three_days_after_it_was_added_a_delivery_is_given_up() -> None:
    schedule = ExponentialSchedule()
    last = 3 * DAY - 3600.0
    assert due_after(schedule, 90, now=last) == 3 * DAY
    assert due_after(schedule, 90, now=last + 0.001) is None
    assert due_after(schedule, 90, now=last + 0.001, dice=0.5) is not None


@given(
    attempts=st.integers(1, 10**9), now=st.floats(0, 4e9), since=st.floats(0, 4e9), dice=st.floats(0.0, 1.0),
    first=st.floats(0.001, DAY), longest=st.floats(0.001, DAY), total=st.floats(0.001, 30 * DAY),
)  # fmt: skip
def test_whatever_happens_a_pause_is_within_its_bounds(
    attempts: int, now: float, since: float, dice: float, first: float, longest: float, total: float
) -> None:
    schedule = ExponentialSchedule(first, longest, total)
    due_at = schedule.next_due(attempts, began_at=since, now=now, dice=dice)
    assert due_at is None or now <= due_at <= min(now + longest, since + total)
