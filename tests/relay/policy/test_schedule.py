from __future__ import annotations

from relay.policy.schedule import FixedSchedule


def test_attempts_are_the_same_time_apart() -> None:
    schedule = FixedSchedule(retries=3, delay=30.0)
    assert [schedule.next_due(attempts, now=100.0) for attempts in (1, 2, 3)] == [130.0, 130.0, 130.0]


def test_after_the_last_retry_there_is_no_further_one() -> None:
    schedule = FixedSchedule(retries=3)
    assert schedule.next_due(3, now=0.0) is not None
    assert schedule.next_due(4, now=0.0) is None


def test_without_retries_the_first_attempt_is_the_last() -> None:
    assert FixedSchedule(retries=0).next_due(1, now=0.0) is None


def test_the_default_is_ten_retries_thirty_seconds_apart() -> None:
    schedule = FixedSchedule()
    due = [schedule.next_due(attempts, now=0.0) for attempts in range(1, 12)]
    assert due == [30.0] * 10 + [None]
