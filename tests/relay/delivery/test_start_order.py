"""What came of an attempt says of which kind its origin is, also once nothing is held of it any more."""

from __future__ import annotations

from relay.delivery.destination_queue import DestinationQueue
from relay.delivery.slots import KNOWN, PROMPT, PROMPT_SECONDS, SLOW, OriginKind, Slots
from relay.delivery.start_order import StartOrder
from relay.queue.claims import Claims
from tests.cases import cases
from tests.relay.deliveries import attempted, claimed

ORIGIN = "http://receiver.example:80"
AT_ONCE, IN_ITS_TIME = PROMPT_SECONDS / 2, PROMPT_SECONDS * 2


def answer_one(order: StartOrder, seconds: float) -> DestinationQueue:
    """One delivery is answered after so long, and what is empty then is forgotten; returns the queue that it was in."""
    order.append(claimed("one", destination=ORIGIN), Claims())
    start = order.next()
    assert start
    queue, endpoint, delivery = start
    order.hear(queue, endpoint, attempted(delivery), silent=False, seconds=seconds)
    order.leave(queue, endpoint, delivery)
    order.forget_empty()
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
    order.forget_empty()
    assert not order.queues


def test_what_is_in_line_is_counted_for_slow_origins_alone_and_of_each_no_more_than_can_start() -> None:
    order = StartOrder(Slots(1), lambda: 16)
    answer_one(order, IN_ITS_TIME)
    for number in range(20):
        order.append(claimed(f"slow {number}", destination=ORIGIN), Claims())
        order.append(claimed(f"known {number}", destination="http://known.example:80"), Claims())
    assert order.slow_in_line(16) == 16
