from __future__ import annotations

from dataclasses import dataclass

import pytest

from relay.delivery.slot_share import SlotShare
from relay.policy.fairness import part
from relay.queue.group import Membership
from tests.cases import cases

A_MOMENT, A_WHILE = 0.3, 2.0


@dataclass
class Monotonic:
    """Time that moves when a test says so."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Monotonic:
    return Monotonic()


@pytest.fixture
def slot_share(clock: Monotonic) -> SlotShare:
    return SlotShare(16, clock)


@cases("slots", [1, 2, 7, 16])
@cases("relays", [1, 2, 3, 5, 20])
def test_the_parts_of_all_are_exactly_the_slots(slots: int, relays: int) -> None:
    parts = [part(slots, rank, relays) for rank in range(relays)]
    assert sum(parts) == slots
    assert max(parts) - min(parts) <= 1


def test_it_has_nothing_until_it_has_checked_in(slot_share: SlotShare) -> None:
    assert slot_share.share() == 0


def test_one_that_is_alone_has_everything_at_once_and_however_long_the_database_is_away(
    slot_share: SlotShare, clock: Monotonic
) -> None:
    slot_share.update(Membership(0, 1), clock())
    assert slot_share.share() == 16
    clock.now += 1000
    assert slot_share.share() == 16


def test_one_that_joins_waits_until_the_others_must_have_noticed(slot_share: SlotShare, clock: Monotonic) -> None:
    slot_share.update(Membership(2, 3), clock())
    clock.now += A_MOMENT
    slot_share.update(Membership(2, 3), clock())
    assert slot_share.share() == 0
    clock.now += A_WHILE
    assert slot_share.share() == 5


def test_one_that_is_joined_makes_room_at_once(slot_share: SlotShare, clock: Monotonic) -> None:
    slot_share.update(Membership(0, 1), clock())
    clock.now += A_MOMENT
    slot_share.update(Membership(0, 2), clock())
    assert slot_share.share() == 8


def test_one_that_cannot_be_noticed_stops_and_joins_again(slot_share: SlotShare, clock: Monotonic) -> None:
    slot_share.update(Membership(0, 2), clock())
    clock.now += A_WHILE
    assert slot_share.share() == 8
    clock.now += 6
    assert slot_share.share() == 0
    slot_share.update(Membership(0, 1), clock())  # the others are not back yet, and will be
    assert slot_share.share() == 0
    clock.now += A_WHILE
    assert slot_share.share() == 16
