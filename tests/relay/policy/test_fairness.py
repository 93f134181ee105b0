from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.policy.fairness import different_first, in_turn

QUEUES = st.lists(st.lists(st.integers(), max_size=8), max_size=8)


@given(QUEUES)
def test_everything_comes_once_and_each_queue_keeps_its_order(queues: list[list[int]]) -> None:
    named = [[(queue, place) for place, _ in enumerate(items)] for queue, items in enumerate(queues)]
    came = list(in_turn(named))
    assert sorted(came) == sorted(one for items in named for one in items)
    assert all([one for one in came if one[0] == queue] == items for queue, items in enumerate(named))


@given(QUEUES, st.integers(0, 20))
def test_nobody_gets_a_second_turn_while_another_waits_for_a_first(queues: list[list[int]], room: int) -> None:
    named = [[queue] * len(items) for queue, items in enumerate(queues)]
    came = list(in_turn(named))[:room]
    held_back = [queue for queue, items in enumerate(named) if came.count(queue) < len(items)]
    assert all(came.count(other) <= came.count(queue) + 1 for queue in held_back for other in range(len(queues)))


def test_turns_of_turns() -> None:
    crowd = in_turn([["a1", "a2"], ["b1", "b2"], ["c1"]])
    assert list(in_turn([crowd, ["x"], ["y1", "y2"]])) == ["a1", "x", "y1", "b1", "y2", "c1", "a2", "b2"]


def test_the_first_of_each_comes_before_any_second() -> None:
    assert different_first(["a1", "a2", "b1", "a3", "c1"], "aabac") == ["a1", "b1", "c1", "a2", "a3"]
