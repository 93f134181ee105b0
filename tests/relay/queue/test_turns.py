"""Who is looked at first where there are too many to look at all."""

from __future__ import annotations

from relay.queue.turns import Turns

CROWD = [("", f"http://host{number}.example:80") for number in range(100)]
BUSY = ("", "http://busy.example:80")


def test_what_had_nothing_more_is_looked_at_in_turn() -> None:
    turns = Turns()
    turns.note_served(dict.fromkeys(CROWD, False))
    looks = [turns.lately() for _ in range(4)]
    assert all(0 < len(look) < len(CROWD) for look in looks)
    assert {pair for look in looks for pair in look} == set(CROWD)


def test_what_may_have_more_is_looked_at_with_each_claim() -> None:
    turns = Turns()
    turns.note_served(dict.fromkeys(CROWD, False) | {BUSY: True})
    assert all(BUSY in turns.lately() for _ in range(4))
    turns.note_looked([BUSY], found=())
    assert not all(BUSY in turns.lately() for _ in range(4))
    turns.note_looked([BUSY], found=[BUSY])
    assert all(BUSY in turns.lately() for _ in range(4))


def test_what_was_not_served_lately_is_not_remembered_for_having_been_looked_at() -> None:
    turns = Turns()
    turns.note_looked([BUSY], found=[BUSY])
    assert turns.lately() == []
