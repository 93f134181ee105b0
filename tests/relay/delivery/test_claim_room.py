"""How much a claim asks for of what may not be answered."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from relay.delivery.claim_room import ClaimRoom
from relay.delivery.settler import Settler
from relay.delivery.slots import Slots
from relay.delivery.start_order import StartOrder
from relay.policy.attempt import Attempted, Failure, Lease
from relay.policy.breaker import Standing
from relay.queue.claims import ClaimRequest, Claims
from tests.relay.deliveries import answer, attempted, claimed

ORIGIN = "http://receiver.example:80"
SLOTS = Slots(32)


class Store:
    """Nobody writes anything."""

    async def settle(self, attempts: object) -> frozenset[Lease]:
        raise AssertionError("nobody turned the settler")


def append(order: StartOrder, number: int, path: str, standing: Standing) -> None:
    delivery = claimed(destination=ORIGIN, path=path, lease=Lease(number, "holder.1"))
    order.append(delivery, Claims(standing={(ORIGIN, ""): standing}))


def asked(order: StartOrder, *unsettled: Attempted) -> ClaimRequest:
    settler = Settler(Store(), lambda _: None, asyncio.Event())
    for attempt in unsettled:
        settler.add(attempt)
    room = ClaimRoom(order, settler, SLOTS)
    return room.request(room.left(), 16, tuple)


def test_what_endpoints_that_did_not_answer_hold_is_taken_off_the_room_for_what_may_not_be_answered() -> None:
    order = StartOrder(SLOTS, lambda: 16)
    append(order, 1, "/hangs", Standing.ANSWERS)
    started = order.next()
    assert started
    queue, endpoint, delivery = started
    hung = replace(attempted(delivery, answer(failure=Failure.READ_TIMEOUT)), alone=False)
    order.hear(queue, endpoint, hung, silent=True, seconds=30.0)
    order.leave(*started)
    before = asked(order).silent
    for number in range(2, 5):
        append(order, number, "/hangs", Standing.ANSWERS)
    assert before == SLOTS.doubtful_of(32)
    assert asked(order).silent == before - 3


def test_a_first_attempt_that_has_yet_to_start_is_taken_off_the_room_for_those() -> None:
    order = StartOrder(SLOTS, lambda: 16)
    before = asked(order).untried
    append(order, 1, "/", Standing.UNTRIED)
    assert before == SLOTS.unproven_of(32)
    assert asked(order).untried == before - 1


def test_what_failed_is_taken_off_the_room_of_its_endpoint_until_it_is_written_down() -> None:
    order = StartOrder(SLOTS, lambda: 16)
    failed = attempted(claimed(destination=ORIGIN, path="/"), answer(500))
    assert asked(order, failed).endpoints == {(ORIGIN, "/"): 15}
    assert asked(order, attempted(claimed(destination=ORIGIN, path="/"))).endpoints == {}
