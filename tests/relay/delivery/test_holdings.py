"""What is held is counted as it changes, and comes to the same as if all of it were counted anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.delivery.holdings import Holdings
from relay.delivery.slots import LATE, PROMPT_SECONDS, UNTRIED, OriginKind, Slots
from relay.delivery.start_order import Start, StartOrder
from relay.policy.attempt import Failure, Lease
from relay.policy.breaker import Standing
from relay.queue.claims import Claims
from tests.relay.deliveries import answer, attempted, claimed

SLOTS = Slots(12, 3)
ORIGIN = "http://receiver.example:80"
STEPS = ("append", "start", "answer", "slow", "fall silent", "path is silent", "wait long", "give up", "turn", "share")


class Kept:
    """An order of starts, with what is held counted as it changes."""

    def __init__(self, standing: Standing = Standing.ANSWERS) -> None:
        self.share = 3
        self.order = StartOrder(SLOTS, lambda: self.share)
        self.holdings = Holdings(SLOTS)
        self.full: frozenset[OriginKind] = frozenset()
        self.under_way: list[Start] = []
        self._standing = standing
        self._numbers = 0

    def append(self, origin: str = ORIGIN, path: str = "/", standing: Standing | None = None) -> None:
        self._numbers += 1
        of = {(origin, ""): standing or self._standing}
        lease = Lease(self._numbers, "holder.1")
        self.order.append(claimed(destination=origin, path=path, lease=lease), Claims(standing=of))

    def start(self) -> None:
        if start := self.order.next():
            self.under_way.append(start)

    def end(self, *, silent: bool = False, alone: bool = True, seconds: float = 0.0) -> None:
        """What was started first."""
        if not self.under_way:
            return
        queue, endpoint, delivery = self.under_way.pop(0)
        came = answer(failure=Failure.READ_TIMEOUT) if silent else answer(200)
        attempt = replace(attempted(delivery, came), alone=alone)
        self.order.hear(queue, endpoint, attempt, silent=silent, seconds=seconds)
        self.order.leave(queue, endpoint, delivery)

    def play(self, step: str, which: int) -> None:
        queues = list(self.order.queues.values())
        match step:
            case "append":
                self.append(f"http://{which % 3}", f"/{which % 2}", [*Standing][which // 3 % len(Standing)])
            case "start":
                self.start()
            case "answer" | "slow":
                self.end(seconds=PROMPT_SECONDS if step == "slow" else 0.0)
            case "fall silent" | "path is silent":
                self.end(silent=True, alone=step == "fall silent")
            case "wait long" if queues:
                queues[which % len(queues)].keeps_waiting()
            case "give up" if queues:
                self.order.give_up(queues[: which % 4], lambda _: True)
            case "turn":
                self.holdings.turn_period()
            case "share":
                self.share = 1 + which % 3
            case _:
                pass
        self.full = frozenset(kind for bit, kind in enumerate((LATE, UNTRIED)) if which >> bit & 1)

    def count(self) -> Holdings:
        self.holdings.count(self.order.take_changed(), self.order.queues, self.share)
        self.holdings.fill(self.full)
        return self.holdings

    def count_anew(self) -> Holdings:
        anew = Holdings(SLOTS)
        anew.count(list(self.order.queues.values()), self.order.queues, self.share)
        anew.fill(self.full)
        return anew


def said(holdings: Holdings) -> tuple[object, ...]:
    numbers = (holdings.held, holdings.of_others, holdings.untried, holdings.silent)
    return (*numbers, holdings.origins, holdings.endpoints, holdings.late, set(holdings.some_ahead(1000)))


@given(st.lists(st.tuples(st.sampled_from((*STEPS, *STEPS[:4])), st.integers(0, 11)), max_size=60))
def test_whatever_happens_it_comes_to_the_same(steps: list[tuple[str, int]]) -> None:
    kept = Kept()
    for step, which in steps:
        kept.play(step, which)
        assert said(kept.count()) == said(kept.count_anew())


def test_what_was_taken_lately_counts_for_two_periods() -> None:
    kept = Kept()
    rooms = []
    for _ in range(2):
        kept.append()
    for _ in range(2):
        kept.start()
        kept.end()
    for _ in range(3):
        kept.append()
        rooms.append(kept.count().origins[ORIGIN])
        kept.holdings.turn_period()
    assert rooms == [3 + 2 * 2 - 1, 3 + 2 * 2 - 2, 0]
    kept.count()
    kept.holdings.turn_period()
    assert not kept.order.take_changed()


def test_of_what_has_ended_nothing_is_ahead() -> None:
    kept = Kept()
    kept.append()
    assert kept.count().some_ahead(2) == [(ORIGIN, "/")]
    kept.start()
    kept.end()
    assert kept.count().some_ahead(2) == []


def test_late_are_those_that_have_something_to_give_back() -> None:
    kept = Kept()
    for _ in range(2):
        kept.append()
    kept.start()
    kept.order.queues[ORIGIN].keeps_waiting()
    assert kept.count().late == {kept.order.queues[ORIGIN]}
    kept.order.give_up(list(kept.holdings.late), lambda _: True)
    assert kept.count().late == set()


def test_of_many_endpoints_with_something_ahead_some_are_told_and_the_next_time_others() -> None:
    kept = Kept()
    keys = [(ORIGIN, f"/{number}") for number in range(5)]
    for _, path in keys:
        kept.append(path=path)
    holdings = kept.count()
    assert [holdings.some_ahead(2) for _ in range(3)] == [keys[:2], keys[2:4], [keys[4], keys[0]]]


def test_what_endpoints_hold_that_did_not_answer_is_held_of_what_may_not_be_answered() -> None:
    kept = Kept()
    for path in ("/hangs", "/hangs", "/answers"):
        kept.append(path=path)
    kept.start()
    kept.end(silent=True, alone=False)
    kept.append(path="/hangs")
    assert kept.count().silent == 2
    kept.start()
    kept.end()
    assert kept.count().silent == 2


def test_nothing_of_it_counts_where_its_origin_is_of_a_kind_that_has_all_it_can_take() -> None:
    kept = Kept()
    for _ in range(2):
        kept.append(path="/hangs")
    kept.start()
    kept.end(silent=True, alone=False)
    kept.order.queues[ORIGIN].keeps_waiting()
    assert (kept.count().silent, kept.holdings.origins[ORIGIN] > 0) == (1, True)
    kept.full = frozenset({LATE})
    assert (kept.count().silent, kept.holdings.origins) == (0, {ORIGIN: 0})
    kept.full = frozenset()
    assert (kept.count().silent, kept.holdings.origins[ORIGIN] > 0) == (1, True)


def test_all_that_one_holds_that_did_not_answer_is_held_of_what_may_not_be_answered() -> None:
    kept = Kept(Standing.SILENT)
    for _ in range(2):
        kept.append()
    kept.start()
    assert kept.count().silent == 2


def test_a_first_attempt_counts_until_it_starts() -> None:
    kept = Kept(Standing.UNTRIED)
    kept.append()
    assert kept.count().untried == 1
    kept.start()
    assert kept.count().untried == 0


def test_of_one_that_still_keeps_its_attempts_waiting_nothing_is_counted_again() -> None:
    kept = Kept()
    kept.append()
    kept.start()
    (queue,) = kept.order.queues.values()
    queue.keeps_waiting()
    assert kept.order.take_changed() == {queue}
    queue.keeps_waiting()
    assert kept.order.take_changed() == set()
