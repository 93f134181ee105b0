"""What came for those that answer does not wait until all that is in line beside it was looked at."""

from __future__ import annotations

import asyncio

import pytest

from relay.outbox.errors import StoreUnavailable
from relay.outbox.store import Connection, Database
from relay.queue.choosing import FEW
from relay.queue.deliveries import DeliveryQueue
from tests.relay.databases import on_sqlite
from tests.relay.deliveries import new, put, writing
from tests.relay.delivery.doubles import full_disk
from tests.relay.queue.claims import Open, claim, end, ids, sort_out, want

GOOD = "http://good.example:80"
CROWD = [f"http://host{number}.example:80" for number in range(40)]


@pytest.fixture
async def relay(database: Database, relays: Open) -> DeliveryQueue:
    """One that knows them all, and has seen what is in line for the crowd."""
    relay = relays()
    put(database, *(new(f"known {origin}", f"{origin}/") for origin in (GOOD, *CROWD)))
    for delivery in await claim(relay):
        await end(relay, delivery)
    put(database, *(new(f"line {origin}", f"{origin}/") for origin in CROWD))
    await sort_out(relay)
    return relay


async def test_what_came_goes_first_and_the_rest_after_a_moment(database: Database, relay: DeliveryQueue) -> None:
    put(database, new("came", f"{GOOD}/"))
    first = await relay.claim(want(prompt={GOOD}))
    assert ids(first.deliveries) == ["came"]
    assert first.more
    await asyncio.sleep(first.pause)
    assert len(await claim(relay, prompt={GOOD})) == len(CROWD)


async def test_where_nothing_else_may_go_nothing_else_is_looked_at(database: Database, relay: DeliveryQueue) -> None:
    put(database, new("came", f"{GOOD}/"))
    claims = await relay.claim(want(prompt={GOOD}, others=0))
    assert ids(claims.deliveries) == ["came"]
    assert claims.left <= {GOOD}
    assert not claims.more


async def test_what_came_for_others_goes_with_the_rest(database: Database, relay: DeliveryQueue) -> None:
    put(database, new("came", f"{GOOD}/"))
    assert len(await claim(relay, prompt=set(CROWD[:1]))) == 1 + len(CROWD)


async def test_nothing_goes_first_where_all_of_them_answer(database: Database, relay: DeliveryQueue) -> None:
    everyone = {GOOD, *CROWD}
    for _ in range(2):
        await relay.claim(want(0, prompt=everyone))
    put(database, new("came", f"{GOOD}/"))
    assert len(await claim(relay, prompt=everyone)) == 1 + len(CROWD)


async def test_where_others_wait_only_what_came_since_is_looked_at_beside_what_answers(
    database: Database, relay: DeliveryQueue
) -> None:
    put(database, new("came", f"{GOOD}/"), new("of the crowd", f"{CROWD[0]}/another"))
    for came in ({"came", "of the crowd", f"line {CROWD[0]}"}, set[str]()):
        claims = await relay.claim(want(prompt={GOOD}, others_wait=True))
        assert {*ids(claims.deliveries)} == came
        assert not claims.more
    assert len(await claim(relay, prompt={GOOD})) == len(CROWD) - 1


async def test_what_came_is_looked_at_beside_more_than_can_be_looked_at_at_once(
    database: Database, relays: Open
) -> None:
    relay, crowd = relays(), [f"http://host{number}.example:80" for number in range(FEW + 1)]
    late = "http://late.example:80"

    def know_them(connection: Connection) -> None:
        for origin in (*crowd, late):
            connection.execute("INSERT INTO outspoken_destinations (origin) VALUES (?)", (origin,))

    writing(database, know_them)
    put(database, *(new(f"line {origin}", f"{origin}/") for origin in crowd))
    full = dict.fromkeys(crowd, 0)
    for _ in range(2):
        assert await claim(relay, free=full) == ()
    put(database, new("came", f"{late}/"))
    assert ids(await claim(relay, free=full, prompt={late})) == ["came"]
    put(database, new("came again", f"{late}/"))
    assert ids(await claim(relay, free=full, prompt={late})) == ["came again"]
    assert not (await relay.claim(want(free=full, prompt={late}, others_wait=True))).more


@on_sqlite
async def test_one_that_is_new_is_looked_at_with_the_claim_after_one_that_failed(
    database: Database, relay: DeliveryQueue
) -> None:
    put(database, new("came", "http://new.example/"))
    with full_disk(), pytest.raises(StoreUnavailable):
        await claim(relay, prompt={GOOD}, others_wait=True)
    assert ids(await claim(relay, prompt={GOOD}, others_wait=True)) == ["came"]


async def test_one_path_hides_no_other_of_its_origin_beside_more_than_can_be_looked_at_at_once(
    database: Database, relays: Open
) -> None:
    relay, crowd = relays(), [f"http://host{number}.example:80" for number in range(FEW + 1)]

    def know_them(connection: Connection) -> None:
        for origin in (*crowd, GOOD):
            connection.execute("INSERT INTO outspoken_destinations (origin) VALUES (?)", (origin,))

    writing(database, know_them)
    put(database, *(new(f"line {origin}", f"{origin}/") for origin in crowd))
    put(database, *(new(f"a{number}", f"{GOOD}/a") for number in range(20)), new("b", f"{GOOD}/b"))
    came = [id_ for _ in range(6) for id_ in ids(await claim(relay, most=1))]
    assert "b" in came
