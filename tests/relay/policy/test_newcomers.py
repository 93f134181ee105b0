"""The pace of those that may not answer."""

from __future__ import annotations

from relay.policy.newcomers import MOST, TOGETHER, Credit, a_second

SLOTS, TIMEOUT = 448, 30.0


def test_a_crowd_that_hangs_leaves_a_seventh_of_the_slots_and_is_gone_through_all_the_same() -> None:
    step, hanging, ends = 0.1, 0, [0]
    credit = Credit(0.0, 0.0)
    began: list[float] = []
    for turn in range(1, int(10 * TIMEOUT / step)):
        now = turn * step
        hanging = sum(start + TIMEOUT > now for start in began[-SLOTS:])
        credit = credit.earned(now, a_second(SLOTS - hanging, TIMEOUT))
        if credit.left >= TOGETHER:
            began += [now] * int(credit.left)
            credit = credit.spent(int(credit.left))
        ends.append(hanging)
    assert max(ends) < 6 / 7 * SLOTS + TOGETHER
    assert sum(start > 9 * TIMEOUT for start in began) > SLOTS / 2


def test_the_pace_goes_down_with_the_slots_that_are_left() -> None:
    assert a_second(SLOTS, TIMEOUT) == 2 * SLOTS / TIMEOUT
    assert a_second(SLOTS, 1.0) == 50
    assert a_second(0, TIMEOUT) == a_second(-5, TIMEOUT) == 0


def test_waiting_saves_up_no_burst_and_answers_do() -> None:
    idle = Credit(0.0, 0.0).earned(60.0, 50.0)
    assert idle.left == TOGETHER
    assert idle.earned(60.0, 50.0, answers=2).left == TOGETHER + 16
    assert idle.earned(60.0, 50.0, answers=100).left == MOST


def test_what_came_beyond_the_pace_is_forgiven_once_there_is_something_to_earn() -> None:
    credit = Credit(2.0, 0.0).spent(10)
    assert credit.wait(50.0) == TOGETHER / 50
    assert credit.earned(TOGETHER / 50, 50.0).left == TOGETHER


def test_where_no_slot_is_left_it_is_asked_again_in_a_second() -> None:
    assert Credit(0.0, 0.0).wait(0.0) == 1.0
