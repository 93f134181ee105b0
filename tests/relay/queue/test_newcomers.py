"""Who is new and answers gets the rest of what waits for it soon, beside more of its kind than can be looked at at
once."""

from __future__ import annotations

import pytest

from relay.outbox.store import Database
from relay.policy.breaker import Standing
from relay.queue.choosing import FEW
from relay.queue.deliveries import DeliveryQueue
from tests.relay.deliveries import many, new, put
from tests.relay.queue.claims import Open, claim, end, ids, sort_out, want

CROWD = [f"http://host{number}.example:80" for number in range(FEW + 100)]
GOOD = "http://good.example:80"
NEW = 8


@pytest.fixture
def relay(database: Database, relays: Open) -> DeliveryQueue:
    """One that knows none of a crowd."""
    put(database, *(one for origin in CROWD for one in many(2, f"{origin}/", f"{origin} ")))
    return relays()


async def begun(relay: DeliveryQueue, count: int = NEW) -> set[str]:
    """So many that are new have answered their first."""
    first = await claim(relay, untried=count, few=1)
    assert len(first) == count
    for delivery in first:
        await end(relay, delivery)
    return {delivery.destination for delivery in first}


async def second_of(relay: DeliveryQueue, origins: set[str]) -> set[str]:
    """What a claim brings after these have answered, where nobody else may come."""
    return set(ids(await claim(relay, untried=0, prompt=origins, met=[("", origin) for origin in origins])))


async def test_what_is_left_for_one_that_answered_goes_with_the_next_claim(relay: DeliveryQueue) -> None:
    origins = await begun(relay)
    assert await second_of(relay, origins) == {f"{origin} 2" for origin in origins}


async def test_so_it_does_while_what_may_not_go_is_in_the_way(relay: DeliveryQueue) -> None:
    origins = await begun(relay)
    assert await claim(relay, untried=0, free=dict.fromkeys(CROWD, 0)) == ()
    assert await second_of(relay, origins) == {f"{origin} 2" for origin in origins}


async def test_where_those_before_them_answered_others_come_at_once_though_what_may_not_go_is_in_the_way(
    relay: DeliveryQueue,
) -> None:
    for _ in range(4):
        came = await relay.claim(want(untried=32, few=1))
        assert Standing.UNTRIED in came.standing.values()
        for delivery in came.deliveries:
            await end(relay, delivery)


async def test_where_few_may_come_others_are_not_looked_for_with_each_claim(relay: DeliveryQueue) -> None:
    assert not all([await claim(relay, untried=1, few=1) for _ in range(12)])


async def test_nor_where_many_may_come_and_nobody_is_new(database: Database, relays: Open) -> None:
    relay, crowd = relays(), CROWD[:40]
    put(database, *(new(f"known {origin}", f"{origin}/") for origin in (GOOD, *crowd)))
    for delivery in await claim(relay):
        await end(relay, delivery)
    put(database, *many(12, f"{GOOD}/"), *(new(f"line {origin}", f"{origin}/") for origin in crowd))
    await sort_out(relay)
    full = dict.fromkeys(crowd, 0)
    assert not all([await claim(relay, 1, free=full, untried=32) for _ in range(12)])
