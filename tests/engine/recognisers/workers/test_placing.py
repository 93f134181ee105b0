"""Which process hears a task, and what is unloaded for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.recognisers.workers.placing import Load, Never, Resident, Use, Wait, place


def resident(number: int, recogniser: str | None, memory: int = 0, *, busy: bool = False, at: float = 0) -> Resident:
    return Resident(number, recogniser, memory, busy, at)


def test_an_idle_process_that_has_it_loaded_comes_first() -> None:
    there = [resident(0, None), resident(1, "small", 10), resident(2, "large", 90)]
    assert place("large", 90, there, budget=100) == Use(2)


def test_of_several_the_one_used_last_is_taken_so_that_the_others_may_rest() -> None:
    there = [resident(0, "small", at=1), resident(1, "small", at=3), resident(2, "small", at=2)]
    assert place("small", 0, there, budget=None) == Use(1)


def test_a_busy_process_is_no_help() -> None:
    assert place("small", 10, [resident(0, "small", 10, busy=True)], budget=None) == Load(None)


def test_an_empty_process_is_filled() -> None:
    assert place("small", 10, [resident(0, "large", 90), resident(1, None)], budget=100) == Load(1)


def test_without_a_budget_nothing_is_unloaded() -> None:
    assert place("large", 10**12, [resident(0, "small", 10**12)], budget=None) == Load(None)


def test_what_was_used_least_recently_is_unloaded_first() -> None:
    there = [resident(0, "a", 40, at=2), resident(1, "b", 40, at=1), resident(2, None)]
    assert place("c", 50, there, budget=100) == Load(2, (1,))


def test_as_many_are_unloaded_as_it_takes() -> None:
    there = [resident(0, "a", 40, at=2), resident(1, "b", 40, at=1), resident(2, None)]
    assert place("c", 80, there, budget=100) == Load(2, (1, 0))


def test_what_need_not_be_unloaded_stays() -> None:
    there = [resident(0, "small", 10, at=1), resident(1, "large", 90, at=2)]
    assert place("other", 90, there, budget=100) == Load(None, (1,))


def test_what_is_busy_is_waited_for_and_nothing_is_unloaded_in_vain() -> None:
    there = [resident(0, "large", 90, busy=True), resident(1, "small", 10)]
    assert place("other", 50, there, budget=100) == Wait()


def test_more_than_the_whole_budget_never_fits() -> None:
    assert place("huge", 101, [], budget=100) == Never()
    assert place("large", 100, [], budget=100) == Load(None)


_RESIDENTS = st.lists(
    st.tuples(st.sampled_from([None, "a", "b", "c"]), st.integers(0, 60), st.booleans(), st.floats(0, 9)), max_size=6
)


@given(_RESIDENTS, st.integers(0, 100))
def test_whatever_is_loaded_fits(entries: list[tuple[str | None, int, bool, float]], memory: int) -> None:
    there = [Resident(n, name, size if name else 0, busy, at) for n, (name, size, busy, at) in enumerate(entries)]
    match place("new", memory, there, budget=100):
        case Load(number, unload):
            gone = [there[one] for one in unload]
            assert not [one for one in gone if one.busy or one.recogniser is None]
            assert number is None or there[number].recogniser is None
            kept = sum(one.memory for one in there if one.number not in unload)
            assert kept + memory <= 100
            assert all(kept + one.memory + memory > 100 for one in gone), "each was needed"
        case Wait():
            assert sum(one.memory for one in there if one.busy) + memory > 100
        case other:
            pytest.fail(f"{other}: it fits into the budget, and nobody has it")
