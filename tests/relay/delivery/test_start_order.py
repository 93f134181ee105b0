"""What came of an attempt says of which kind its origin is, also once nothing is held of it any more."""

from __future__ import annotations

from relay.delivery.slots import KNOWN, PROMPT, PROMPT_SECONDS, SLOW, OriginKind, Slots
from relay.delivery.start_order import StartOrder
from relay.queue.claims import Claims
from tests.cases import cases
from tests.relay.deliveries import attempted, claimed

ORIGIN = "http://receiver.example:80"
AT_ONCE, IN_ITS_TIME = PROMPT_SECONDS / 2, PROMPT_SECONDS * 2


def served(order: StartOrder, *seconds: float) -> OriginKind:
    """One after another is answered after so long; returns of which kind the origin is for the next one."""
    for number, took in enumerate(seconds):
        order.append(claimed(str(number), destination=ORIGIN), Claims())
        start = order.next()
        assert start
        queue, endpoint, delivery = start
        order.hear(queue, endpoint, attempted(delivery), silent=False, seconds=took)
        order.leave(queue, endpoint, delivery)
        order.forget_empty()
    order.append(claimed("next", destination=ORIGIN), Claims())
    return order.queues[ORIGIN].kind


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
    assert served(order, *seconds) is kind
    assert (ORIGIN in order.prompt, ORIGIN in order.slow) == (kind is PROMPT, kind is SLOW)


@cases("share, remembered", [(1, {ORIGIN}), (2, set())])
def test_of_what_is_empty_only_what_took_all_its_slots_lately_is_remembered(share: int, remembered: set[str]) -> None:
    order = StartOrder(Slots(8), lambda: share)
    order.append(claimed("one", destination=ORIGIN), Claims())
    start = order.next()
    assert start
    queue, endpoint, delivery = start
    order.hear(queue, endpoint, attempted(delivery), silent=False, seconds=AT_ONCE)
    order.leave(queue, endpoint, delivery)
    order.forget_empty()
    assert order.queues.keys() == remembered
    for _ in range(2):
        queue.turn_period()
    order.forget_empty()
    assert not order.queues
