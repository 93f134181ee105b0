"""What came of an attempt says of which kind its origin is, also once nothing is held of it any more."""

from __future__ import annotations

import time
from itertools import count

from relay.delivery.destination_queue import DestinationQueue
from relay.delivery.slots import KNOWN, PROMPT, PROMPT_SECONDS, SLOW, OriginKind, Slots
from relay.delivery.start_order import LOOK_SECONDS, Start, StartOrder
from relay.policy.attempt import Lease
from relay.policy.breaker import Standing
from relay.queue.claims import Claims
from tests.cases import cases
from tests.relay.deliveries import attempted, claimed

ORIGIN = "http://receiver.example:80"
NUMBERS = count(100)
AT_ONCE, IN_ITS_TIME = PROMPT_SECONDS / 2, PROMPT_SECONDS * 2


def answer_one(order: StartOrder, seconds: float) -> DestinationQueue:
    """One delivery is answered after so long, and what is empty then is forgotten; returns the queue that it was in."""
    order.append(claimed("one", destination=ORIGIN), Claims())
    start = order.next()
    assert start
    queue, endpoint, delivery = start
    order.hear(queue, endpoint, attempted(delivery), silent=False, seconds=seconds)
    order.leave(queue, endpoint, delivery)
    order.take_changed()
    return queue


@cases(
    "seconds, kind",
    [
        ((), KNOWN),
        ((AT_ONCE,), PROMPT),
        ((IN_ITS_TIME,), SLOW),
        ((AT_ONCE, IN_ITS_TIME), SLOW),
        ((IN_ITS_TIME, AT_ONCE), PROMPT),
    ],
)
def test_an_origin_is_as_fast_as_its_latest_answer(seconds: tuple[float, ...], kind: OriginKind) -> None:
    order = StartOrder(Slots(8), lambda: 16)
    for took in seconds:
        answer_one(order, took)
    order.append(claimed("next", destination=ORIGIN), Claims())
    assert order.queues[ORIGIN].kind is kind
    assert (ORIGIN in order.prompt, ORIGIN in order.slow) == (kind is PROMPT, kind is SLOW)


@cases("share, remembered", [(1, {ORIGIN}), (2, set())])
def test_of_what_is_empty_only_what_took_all_its_slots_lately_is_remembered(share: int, remembered: set[str]) -> None:
    order = StartOrder(Slots(8), lambda: share)
    queue = answer_one(order, AT_ONCE)
    assert order.queues.keys() == remembered
    for _ in range(2):
        queue.turn_period()
    order.take_changed()
    assert not order.queues


def test_what_is_in_line_is_counted_for_slow_origins_alone_and_of_each_no_more_than_can_start() -> None:
    order = StartOrder(Slots(1), lambda: 16)
    answer_one(order, IN_ITS_TIME)
    for number in range(20):
        order.append(claimed(f"slow {number}", destination=ORIGIN), Claims())
        order.append(claimed(f"known {number}", destination="http://known.example:80"), Claims())
    assert order.is_slow_in_line(16, 16)
    assert not order.is_slow_in_line(17, 16)


def settled(order: StartOrder) -> None:
    """Claims that bring nothing, after which nothing has changed."""
    for _ in range(2):
        order.take_changed()
        order.claimed(Claims())


def add(order: StartOrder, origin: str, *paths: str, standing: Standing = Standing.ANSWERS) -> None:
    for path in paths:
        lease = Lease(next(NUMBERS), "holder.1")
        of = {(origin, ""): standing}
        order.append(claimed(destination=origin, path=path, lease=lease), Claims(standing=of))


def start(order: StartOrder) -> Start:
    started = order.next()
    assert started
    return started


def test_what_had_no_slot_of_its_destination_starts_when_there_are_more() -> None:
    share = 1
    order = StartOrder(Slots(8, doubtful=1.0), lambda: share)
    add(order, ORIGIN, "/", "/")
    start(order)
    settled(order)
    share = 2
    assert order.next() is None
    order.claimed(Claims())
    assert start(order)[0].origin == ORIGIN


def test_a_second_first_attempt_starts_when_those_that_may_not_answer_are_no_crowd_any_more() -> None:
    order = StartOrder(Slots(8), lambda: 4)
    add(order, ORIGIN, "/a", "/b", standing=Standing.UNTRIED)
    add(order, "http://other.example:80", "/", standing=Standing.UNTRIED)
    start(order)
    other = start(order)
    assert order.use.is_crowded
    assert order.next() is None
    settled(order)
    order.leave(*other)
    order.take_changed()
    order.claimed(Claims())
    assert start(order)[0].origin == ORIGIN


def test_one_that_is_known_has_more_than_a_slot_again_when_no_more_hangs_than_may() -> None:
    order = StartOrder(Slots(8, doubtful=0.25), lambda: 8)
    hanging = [f"http://hangs{number}.example:80" for number in range(3)]
    for origin in hanging:
        add(order, origin, "/")
    runs = [start(order) for _ in hanging]
    order.find_those_that_hang([(delivery, queue, -1e6) for queue, _, delivery in runs])
    assert order.use.excess == 1
    add(order, ORIGIN, "/a", "/b")
    assert start(order)[0].origin == ORIGIN
    assert order.next() is None
    for run in runs:
        order.leave(*run)
    settled(order)
    time.sleep(LOOK_SECONDS)  # so often it looks, at the most
    order.find_those_that_hang([])
    order.claimed(Claims())
    assert start(order)[0].origin == ORIGIN


def test_what_is_ahead_after_a_claim_says_when_the_next_is_worth_while() -> None:
    order = StartOrder(Slots(8, doubtful=1.0), lambda: 8)
    add(order, ORIGIN, *["/"] * 8)
    order.claimed(Claims())
    queue = order.queues[ORIGIN]
    assert queue.low == 6
    for _ in range(4):
        start(order)
    order.take_changed()
    order.claimed(Claims())
    assert queue.low == 3


def test_what_is_slow_is_in_line_too_where_no_slot_is_left_for_it() -> None:
    order = StartOrder(Slots(1), lambda: 16)
    answer_one(order, IN_ITS_TIME)
    add(order, ORIGIN, *["/"] * 20)
    start(order)
    assert order.is_slow_in_line(15, 16)
    assert not order.is_slow_in_line(16, 16)
