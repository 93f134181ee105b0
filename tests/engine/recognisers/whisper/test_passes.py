"""Which pass of the model is next, and what passes cost."""

from __future__ import annotations

import pytest

from engine.recognisers.whisper.passes import Costs, PassRecord, Waiting, next_pass
from tests.cases import cases

COSTS = Costs(final=0.1, interim=0.2)


def final(session: int, since: float) -> Waiting:
    return Waiting(session, 0, final=True, since=since)


def interim(session: int, since: float) -> Waiting:
    return Waiting(session, 0, final=False, since=since)


@cases(
    ("waiting", "session"),
    [
        ([final(1, 5.0), final(2, 4.0), final(3, 6.0)], 2),
        ([interim(1, 5.0), interim(2, 4.0), interim(3, 6.0)], 2),
        ([interim(1, 1.0), final(2, 9.0), interim(3, 0.0)], 2),
        ([final(1, 100.0), interim(2, 1.0)], 1),
    ],
)
def test_the_next_pass_is_the_final_one_that_waited_longest_then_whose_interim_one_is_longest_ago(
    waiting: list[Waiting], session: int
) -> None:
    found = next_pass(waiting)
    assert found is not None
    assert found.session == session


def test_without_anybody_who_waits_there_is_no_pass() -> None:
    assert next_pass([]) is None


def test_everybody_who_speaks_without_a_pause_has_a_turn() -> None:
    since = dict.fromkeys(range(4), 0.0)
    turns = []
    for now in range(1, 13):
        found = next_pass(interim(session, at) for session, at in since.items())
        assert found is not None
        since[found.session] = float(now)
        turns.append(found.session)
    assert {turns.count(session) for session in since} == {3}


@cases(
    ("channels", "with_interim", "cost"),
    [(1, False, 0.1), (1, True, 0.3), (2, True, 0.6)],
)
def test_a_session_costs_its_final_passes_and_an_interim_one_a_second_for_each_channel(
    channels: int, with_interim: bool, cost: float
) -> None:
    assert COSTS.of(channels, interim=with_interim) == pytest.approx(cost)


def test_what_passes_really_took_becomes_what_they_are_thought_to_cost() -> None:
    costs = COSTS
    for _ in range(300):
        costs = costs.learn(PassRecord(final=True, audio=4.0, took=2.0, due_at=0.0))
        costs = costs.learn(PassRecord(final=False, audio=4.0, took=0.6, due_at=0.0))
    assert costs.final == pytest.approx(0.5, rel=0.05)
    assert costs.interim == pytest.approx(0.6, rel=0.05)


def test_who_asks_who_speaks_pays_for_it_and_nobody_else_does() -> None:
    costs = Costs(final=0.1, interim=0.2, speakers=0.05)
    for _ in range(300):
        costs = costs.learn(PassRecord(final=True, audio=4.0, took=1.0, due_at=0.0, speakers=True))
    assert costs.of(2, interim=False) == pytest.approx(0.4, rel=0.05)
    assert costs.of(2, interim=False, speakers=True) == pytest.approx(0.5, rel=0.05)


@cases("audio", [0.1, 4.0, 12.0])
def test_one_slow_pass_changes_little(audio: float) -> None:
    learnt = COSTS.learn(PassRecord(final=True, audio=audio, took=audio, due_at=0.0))
    assert learnt.final < 2 * COSTS.final
