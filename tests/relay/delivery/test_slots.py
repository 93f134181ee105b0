"""Whose slots are whose, without a clock or a loop."""

from __future__ import annotations

from itertools import count

from relay.delivery.slots import KNOWN, LATE, PROMPT, SILENT, SLOW, UNTRIED, OriginKind, Slots, SlotUse
from tests.cases import cases


def taken(use: SlotUse, kind: OriginKind) -> list[int]:
    """As many as may start of a kind, of 64."""
    started: list[int] = []
    for seq in count():
        if len(started) == 64 or not use.may_start(kind):
            return started
        use.take(seq, kind, silent=kind is SILENT)
        started.append(seq)
    raise AssertionError


@cases("kind, most", [(PROMPT, 64), (SLOW, 56), (KNOWN, 48), (LATE, 48), (UNTRIED, 48), (SILENT, 16)])
def test_of_64_slots_each_kind_leaves_some(kind: OriginKind, most: int) -> None:
    assert len(taken(SlotUse(Slots(64)), kind)) == most


@cases("kind", [SLOW, KNOWN, UNTRIED])
def test_what_is_slow_and_what_did_not_answer_leave_an_eighth_together(kind: OriginKind) -> None:
    use = SlotUse(Slots(64))
    taken(use, SLOW)
    assert not use.may_start(kind)
    assert use.may_start(PROMPT)
    use.leave(0)
    assert use.may_start(kind)


def test_what_is_slow_and_then_hangs_is_in_nobodys_way_beyond_a_quarter() -> None:
    use = SlotUse(Slots(64))
    slow = taken(use, SLOW)
    for seq in slow[:24]:
        use.waits_long(seq, known=True)
    assert (use.unproven, use.excess) == (24, 8)
    assert use.may_start(SLOW)
    for seq in slow:
        use.leave(seq)
    assert len(taken(use, SLOW)) == 56


def test_with_a_single_slot_whoever_is_slow_has_it_too() -> None:
    assert SlotUse(Slots(1)).may_start(SLOW)
