"""A few that are ready go at once; but none of them goes for which somebody has to be asked."""

from __future__ import annotations

import asyncio

import pytest

from relay.outbox.store import Database
from relay.policy.breaker import Standing
from relay.queue.deliveries import DeliveryQueue
from tests.relay.deliveries import ill, new, put, stand
from tests.relay.queue.claims import Open, claim, end, ids, sort_out, want

GOOD, OTHER = "http://good.example:80", "http://other.example:80"


@pytest.fixture
async def relay(database: Database, relays: Open) -> DeliveryQueue:
    """One that knows both destinations, and for whom nothing is ready."""
    relay = relays()
    put(database, new("first", f"{GOOD}/"), new("second", f"{OTHER}/"))
    for delivery in await claim(relay):
        await end(relay, delivery)
    await sort_out(relay)
    return relay


async def test_all_of_them_go(database: Database, relay: DeliveryQueue) -> None:
    put(database, new("a", f"{GOOD}/"), new("b", f"{GOOD}/path"), new("c", f"{OTHER}/"))
    claims = await relay.claim(want())
    assert sorted(ids(claims.deliveries)) == ["a", "b", "c"]
    assert not claims.standing
    assert not claims.left
    assert not claims.more
    assert await claim(relay) == ()


async def test_no_more_than_there_is_room_for(database: Database, relay: DeliveryQueue) -> None:
    put(database, new("a", f"{GOOD}/"), new("b", f"{GOOD}/path"), new("c", f"{OTHER}/"))
    assert len(await claim(relay, 2)) == 2
    assert len(await claim(relay, 2)) == 1


async def test_no_more_of_one_origin_than_it_has_room_for(database: Database, relay: DeliveryQueue) -> None:
    put(database, new("a", f"{GOOD}/"), new("b", f"{GOOD}/path"), new("c", f"{OTHER}/"))
    claims = await relay.claim(want(free={GOOD: 1}))
    assert [one.destination for one in claims.deliveries].count(GOOD) == 1
    assert len(claims.deliveries) == 2
    assert claims.left == {GOOD}


async def test_no_more_of_one_endpoint_than_it_has_room_for(database: Database, relay: DeliveryQueue) -> None:
    put(database, new("a", f"{GOOD}/"), new("b", f"{GOOD}/path"), new("c", f"{GOOD}/path"))
    assert sorted(ids(await claim(relay, endpoints={(GOOD, "/path"): 1}))) == ["a", "b"]


async def test_no_more_of_those_that_are_not_prompt_than_there_is_room_for_them(
    database: Database, relay: DeliveryQueue
) -> None:
    put(database, new("a", f"{GOOD}/"), new("b", f"{GOOD}/"), new("c", f"{OTHER}/"), new("d", f"{OTHER}/"))
    came = ids(await claim(relay, prompt={GOOD}, others=1))
    assert sorted(came) == ["a", "b", "c"]


@pytest.mark.parametrize("endpoint", ["", "/path"])
async def test_none_that_is_paused(database: Database, relay: DeliveryQueue, endpoint: str) -> None:
    stand(database, "paused", GOOD, endpoint)
    put(database, new("a", f"{GOOD}/path"), new("b", f"{OTHER}/"))
    assert ids(await claim(relay)) == ["b"]
    stand(database, "active", GOOD, endpoint)
    assert ids(await claim(relay)) == ["a"]


async def test_none_to_a_destination_in_trouble(database: Database, relay: DeliveryQueue) -> None:
    ill(database, GOOD)
    put(database, new("a", f"{GOOD}/hook"), new("b", f"{OTHER}/"))
    assert ids(await claim(relay)) == ["b"]
    await sort_out(relay)
    assert await claim(relay) == ()


async def test_one_that_never_was_tried_comes_as_such(database: Database, relay: DeliveryQueue) -> None:
    put(database, new("a", "http://stranger.example/"), new("b", f"{OTHER}/"))
    claims = await relay.claim(want())
    assert sorted(ids(claims.deliveries)) == ["a", "b"]
    assert claims.standing == {("http://stranger.example:80", ""): Standing.UNTRIED}


async def test_more_than_a_few_go_by_turns(database: Database, relay: DeliveryQueue) -> None:
    put(database, *(new(f"a{number}", f"{GOOD}/") for number in range(9)), new("b", f"{OTHER}/"))
    assert "b" in ids(await claim(relay, 2))


async def test_of_more_than_a_few_none_is_left(database: Database, relay: DeliveryQueue) -> None:
    put(database, *(new(f"a{number}", f"{GOOD}/") for number in range(10)))
    assert len(await claim(relay)) == 10


async def test_none_goes_twice_where_several_relays_see_them(database: Database, relays: Open) -> None:
    fleet = [relays() for _ in range(4)]
    put(database, new("first", f"{GOOD}/"))
    (first,) = await claim(fleet[0])
    await end(fleet[0], first)
    for number in range(20):
        put(database, *(new(f"{number}-{place}", f"{GOOD}/") for place in range(6)))
        claimed = await asyncio.gather(*(claim(relay) for relay in fleet))
        assert sorted(id_ for of_one in claimed for id_ in ids(of_one)) == [f"{number}-{place}" for place in range(6)]
