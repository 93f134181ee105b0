"""What is unloaded for what is needed, and what counts meanwhile."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import RecogniserUnavailable
from engine.recognisers.workers.memory import Holding, MemoryBudget, UnloadReason, peak_memory, to_unload


async def _gone() -> None:
    """Nothing to wait for."""


def unload(why: UnloadReason) -> Coroutine[Any, Any, None]:
    return _gone()


def holding(recogniser: str, memory: int = 0, *, busy: bool = False, at: float = 0) -> Holding:
    return Holding(recogniser, memory, unload, busy, at)


def names(holdings: tuple[Holding, ...] | None) -> list[str] | None:
    return None if holdings is None else [one.recogniser for one in holdings]


def test_without_a_limit_nothing_is_unloaded() -> None:
    assert to_unload(10**12, [holding("small", 10**12)], None) == ()


def test_what_was_used_least_recently_is_unloaded_first() -> None:
    assert names(to_unload(50, [holding("a", 40, at=2), holding("b", 40, at=1)], 100)) == ["b"]


def test_as_many_are_unloaded_as_it_takes() -> None:
    assert names(to_unload(80, [holding("a", 40, at=2), holding("b", 40, at=1)], 100)) == ["b", "a"]


def test_what_need_not_be_unloaded_stays() -> None:
    assert names(to_unload(90, [holding("small", 10, at=1), holding("large", 90, at=2)], 100)) == ["large"]


def test_what_is_busy_is_waited_for_and_nothing_is_unloaded_in_vain() -> None:
    assert to_unload(50, [holding("large", 90, busy=True), holding("small", 10)], 100) is None


_HOLDINGS = st.lists(st.tuples(st.integers(0, 60), st.booleans(), st.floats(0, 9)), max_size=6)


@given(_HOLDINGS, st.integers(0, 100))
def test_whatever_is_loaded_fits(entries: list[tuple[int, bool, float]], memory: int) -> None:
    there = [holding(str(n), size, busy=busy, at=at) for n, (size, busy, at) in enumerate(entries)]
    victims = to_unload(memory, there, 100)
    if victims is None:
        assert sum(one.memory for one in there if one.busy) + memory > 100
        return
    kept = sum(one.memory for one in there if one not in victims)
    assert kept + memory <= 100
    assert not [one for one in victims if one.busy]
    assert all(kept + one.memory + memory > 100 for one in victims), "each was needed"


async def test_more_than_the_whole_limit_never_fits() -> None:
    budget = MemoryBudget(100)
    with pytest.raises(RecogniserUnavailable, match=r"'huge' needs 101 bytes of memory, and all .* may take 100"):
        budget.hold("huge", 101, unload)
    assert budget.hold("large", 100, unload)
    assert budget.loaded == ("large",)


async def test_what_was_seen_counts_from_then_on_and_for_the_next_process_too() -> None:
    budget = MemoryBudget(100)
    first = budget.hold("one", 10, unload)
    assert first
    budget.measured(first, 70)
    assert budget.used == 70
    assert budget.hold("one", 10, unload) is None, "the other would take as much"
    budget.release(first)
    assert budget.hold("one", 10, unload)
    assert budget.used == 70


async def test_what_turns_out_larger_than_the_limit_works_alone() -> None:
    budget = MemoryBudget(100)
    first = budget.hold("one", 10, unload)
    assert first
    budget.measured(first, 300)
    first.busy = False
    assert budget.used == 100
    assert budget.hold("two", 1, unload)
    assert budget.loaded == ("two",)
    await budget.settled()


def test_the_kernel_tells_a_peak_of_those_that_live() -> None:
    assert (peak_memory(os.getpid()) or 0) > 1024**2
    assert peak_memory(2**22 + 1) is None
