from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.policy.fairness import share

Case = tuple[int, dict[int, list[int]], dict[int, int]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A room, queues of distinct items per destination, and how many each may still have in flight."""
    lengths = draw(st.lists(st.integers(0, 8), max_size=8))
    queues = {key: [key * 100 + item for item in range(length)] for key, length in enumerate(lengths)}
    free = {key: draw(st.integers(0, 6)) for key in queues}
    return draw(st.integers(0, 20)), queues, free


def taken(picked: list[int], key: int) -> list[int]:
    return [item for item in picked if item // 100 == key]


@given(cases())
def test_never_more_than_the_room_and_never_more_than_is_free(case: Case) -> None:
    room, queues, free = case
    picked = share(room, queues, free)
    assert len(picked) <= room
    assert all(len(taken(picked, key)) <= free[key] for key in queues)


@given(cases())
def test_nothing_is_picked_twice_and_each_queue_keeps_its_order(case: Case) -> None:
    room, queues, free = case
    picked = share(room, queues, free)
    assert len(set(picked)) == len(picked)
    assert all(taken(picked, key) == queue[: len(taken(picked, key))] for key, queue in queues.items())


@given(cases())
def test_no_slot_stays_empty_while_something_may_go(case: Case) -> None:
    room, queues, free = case
    possible = sum(min(len(queue), free[key]) for key, queue in queues.items())
    assert len(share(room, queues, free)) == min(room, possible)


@given(cases())
def test_nobody_gets_a_second_slot_while_another_waits_for_a_first(case: Case) -> None:
    room, queues, free = case
    picked = share(room, queues, free)
    counts = {key: len(taken(picked, key)) for key in queues}
    held_back = [key for key, queue in queues.items() if counts[key] < min(len(queue), free[key])]
    assert all(counts[other] <= counts[key] + 1 for key in held_back for other in queues)


def test_the_turns_of_a_backlog_and_two_newcomers() -> None:
    picked = share(6, {1: [11, 12, 13, 14], 2: [21], 3: [31, 32]}, {1: 4, 2: 4, 3: 4})
    assert sorted(picked) == [11, 12, 13, 21, 31, 32]
