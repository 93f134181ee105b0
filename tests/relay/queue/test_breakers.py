"""Destinations in trouble, as relays meet them: in what they can claim."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from relay.outbox.store import Database
from relay.policy.attempt import POSTPONED, Answer, Dead, Delivery, Failure, Reason, Retry
from relay.policy.breaker import Standing
from relay.queue.deliveries import DeliveryQueue
from tests.relay.deliveries import answer, attempted, many, new, put, rows, stand
from tests.relay.queue.claims import START, Clock, Open, claim, end, ids, sort_out, want

ORIGIN = "https://receiver.example:443"
FAILING, NEIGHBOUR = "https://receiver.example/failing", "https://receiver.example/fine"
DOWN = answer(failure=Failure.CONNECT)
BUSY = answer(429, headers=(("retry-after", "2"),))


def health(database: Database, path: str = "/hook") -> Any:
    """Failures in a row, whether the breaker is open, and when the attempts began; None for what is not in trouble."""
    sql = "SELECT failures, open, starts FROM outspoken_destinations WHERE origin = ? AND path = ?"
    found = rows(database, sql, ORIGIN, path)
    return (found[0][0], bool(found[0][1]), json.loads(found[0][2])) if found else None


async def fail(
    relay: DeliveryQueue, deliveries: tuple[Delivery, ...], came: Answer | None = None, at: float = START
) -> None:
    for delivery in deliveries:
        await end(relay, delivery, came or answer(503), at=at)


async def broken(database: Database, relay: DeliveryQueue, waiting: int = 20) -> None:
    """An endpoint with a backlog whose first five attempts all failed just now."""
    put(database, *many(waiting), due_at=START - 1)
    await fail(relay, await claim(relay, 5))


@pytest.mark.parametrize(
    ("came", "whose"),
    [
        (answer(500), "/hook"),
        (answer(failure=Failure.READ_TIMEOUT), "/hook"),
        (DOWN, ""),
        (answer(failure=Failure.TLS), ""),
    ],
)
async def test_after_five_failures_in_a_row_nothing_is_claimed_and_no_attempt_is_used_up(
    database: Database, relays: Open, clock: Clock, came: Answer, whose: str
) -> None:
    put(database, *many(20), due_at=START - 1)
    relay = relays()
    await fail(relay, await claim(relay, 5), came)
    assert health(database, whose) == (5, True, [START] * 4)
    put(database, new("fine", "http://other.example/"), due_at=START)
    clock.now = START + 29.9
    assert ids(await claim(relay)) == ["fine"]
    assert await claim(relay) == ()
    assert rows(database, "SELECT sum(attempts) FROM outspoken_deliveries") == [(5,)]


@pytest.mark.parametrize("came", [answer(400), answer(413), answer(301), answer(failure=Failure.BLOCKED)])
async def test_what_is_about_one_delivery_does_not_open_it(database: Database, relays: Open, came: Answer) -> None:
    put(database, *many(20), due_at=START - 1)
    relay = relays()
    await fail(relay, await claim(relay, 10), came)
    assert not any(is_open for (is_open,) in rows(database, "SELECT open FROM outspoken_destinations"))
    assert await claim(relay, 10) != ()


async def test_a_success_begins_the_count_anew_and_leaves_no_row(database: Database, relays: Open) -> None:
    put(database, *many(20), due_at=START - 1)
    relay = relays()
    await fail(relay, await claim(relay, 4))
    (fine,) = await claim(relay, 1)
    await end(relay, fine)
    assert health(database) is None
    await fail(relay, await claim(relay, 4))
    assert health(database) == (4, False, [START] * 4)


async def test_failures_are_counted_in_the_order_of_the_answers(database: Database, relays: Open) -> None:
    """Good, bad, good, good, bad: what ends early is not counted before what ended earlier."""
    put(database, *many(15), due_at=START - 1)
    relay = relays()
    ended = []
    for number, delivery in enumerate(await claim(relay, 15)):
        came = answer(200) if number % 3 else answer(503)
        ended.append(replace(attempted(delivery, came), finished_at=START + number))
    await relay.settle(sorted(ended, key=lambda one: one.outcome))
    assert health(database) is None


async def test_four_go_in_half_a_minute_whoever_asks_and_over_different_urls(
    database: Database, relays: Open, clock: Clock
) -> None:
    first, second = relays(), relays()
    await broken(database, first)
    put(database, new("another", "https://receiver.example/hook?other"), due_at=START + 5)
    clock.now = START + 30
    trickle = [*await claim(first), *await claim(second)]
    assert len(trickle) == 4
    assert "another" in ids(tuple(trickle))
    await fail(first, tuple(trickle), at=START + 30)
    assert await claim(first) == await claim(second) == ()
    clock.now = START + 60
    assert len(await claim(second)) == 4


async def test_a_lone_delivery_keeps_its_schedule(database: Database, relays: Open, clock: Clock) -> None:
    put(database, new(), due_at=START)
    relay = relays()
    for number in range(10):
        clock.now = START + 30 * number
        (lone,) = await claim(relay)
        await end(relay, lone, answer(503), Retry(clock.now + 30), at=clock.now)
        clock.now += 29.9
        assert await claim(relay) == ()
    assert health(database)[1]


async def test_the_neighbour_of_an_endpoint_that_fails_never_notices(database: Database, relays: Open) -> None:
    put(database, *many(30, FAILING, "bad"), *many(30, NEIGHBOUR, "good"), due_at=START)
    relay = relays()
    for _ in range(8):
        await fail(relay, tuple(one for one in await claim(relay, of_endpoint=8) if one.path == "/failing"))
    assert rows(database, "SELECT count(*) FROM outspoken_deliveries WHERE id LIKE 'good%' AND state = 'leased'") == [
        (30,)
    ]


async def test_it_closes_into_a_slow_start(database: Database, relays: Open, clock: Clock) -> None:
    relay = relays()
    await broken(database, relay, waiting=60)
    clock.now = START + 30
    for probe in await claim(relay):
        await end(relay, probe, at=clock.now)
    in_flight = []
    while got := await claim(relay, 100, most=100):
        in_flight.append(len(got))
        for one in got:
            await end(relay, one, at=clock.now)
    assert in_flight[:3] == [4, 8, 16]
    assert set(rows(database, "SELECT state FROM outspoken_deliveries")) == {("delivered",)}
    assert health(database) is None


async def test_what_was_under_way_when_it_opened_adds_nothing(database: Database, relays: Open, clock: Clock) -> None:
    put(database, *many(20), due_at=START - 1)
    relay = relays()
    under_way = await claim(relay, 16)
    await fail(relay, under_way[:5])
    for late in under_way[5:]:
        await end(relay, late, answer(failure=Failure.READ_TIMEOUT), at=START + 29, took=29.0)
    clock.now = START + 30
    assert len(await claim(relay)) == 4


async def test_a_whole_batch_of_failures_is_counted_one_by_one(database: Database, relays: Open) -> None:
    relay = relays()
    put(database, *many(20), due_at=START - 1)
    ended = [
        replace(attempted(one, answer(500)), started_at=START, finished_at=START) for one in await claim(relay, 16)
    ]
    await relay.settle(ended)
    assert health(database)[:2] == (5, True)


async def test_whoever_holds_something_hears_that_it_opened(database: Database, relays: Open) -> None:
    put(database, *many(8), due_at=START - 1)
    relay = relays()
    held = await claim(relay, 8)
    await fail(relay, held[:5])
    claims = await relay.claim(want(9, ahead=[(ORIGIN, "/hook")], endpoints={(ORIGIN, "/hook"): 13}))
    assert claims.blocked == {(ORIGIN, "/hook")}
    assert claims.stopped == set()


async def test_its_state_survives_the_relay(database: Database, relays: Open, clock: Clock) -> None:
    leaving = relays()
    await broken(database, leaving)
    heir = relays()
    assert await claim(heir) == ()
    clock.now = START + 30
    assert len(await claim(heir)) == 4


async def test_while_it_is_open_the_end_of_patience_gives_deliveries_up(
    database: Database, relays: Open, clock: Clock
) -> None:
    relay = relays()
    await broken(database, relay)
    clock.now = START + 20
    await sort_out(relay)
    assert await relay.expire(clock.now - 20) == 15
    assert rows(database, "SELECT DISTINCT reason FROM outspoken_deliveries WHERE state = 'dead'") == [("expired",)]


async def test_a_stale_failure_counts_for_nothing(database: Database, relays: Open, clock: Clock) -> None:
    put(database, new(), due_at=START)
    late, heir = relays(), relays()
    (first,) = await claim(late)
    clock.now = START + 60
    (second,) = await claim(heir)
    await end(late, first, answer(500), at=clock.now)
    assert health(database) is None
    await end(heir, second, answer(500), Dead(Reason.EXHAUSTED), at=clock.now)
    assert health(database) == (1, False, [clock.now])


async def test_a_busy_receiver_is_left_alone_and_uses_up_no_attempt(
    database: Database, relays: Open, clock: Clock
) -> None:
    put(database, *many(3), new("fine", NEIGHBOUR), due_at=START)
    relay = relays()
    for delivery in await claim(relay):
        await end(
            relay,
            delivery,
            answer(200) if delivery.id == "fine" else BUSY,
            None if delivery.id == "fine" else POSTPONED,
        )
    clock.now = START + 1.9
    assert await claim(relay) == ()
    clock.now = START + 2
    (one,) = await claim(relay)
    assert (one.attempts, one.number, one.due_at) == (0, 2, START)
    await end(relay, one, at=clock.now)
    clock.now = START + 3
    assert len(await claim(relay)) == 2


async def test_forty_go_to_a_receiver_that_takes_one_a_second(database: Database, relays: Open, clock: Clock) -> None:
    put(database, *many(40), due_at=START)
    relay = relays()
    tokens, filled_at, refused = 1.0, START, 0
    while clock.now < START + 60:
        for one in await claim(relay, few=4):
            tokens, filled_at = min(1.0, tokens + clock.now - filled_at), clock.now
            if tokens >= 1:
                tokens -= 1
                await end(relay, one, at=clock.now)
            else:
                refused += 1
                await end(relay, one, answer(429, headers=(("retry-after", "1"),)), POSTPONED, at=clock.now)
        clock.now = round(clock.now + 0.05, 3)
    assert set(rows(database, "SELECT state, attempts FROM outspoken_deliveries")) == {("delivered", 1)}
    assert refused < 60


async def test_a_crowd_of_new_origins_takes_its_share_and_hides_nobody(database: Database, relays: Open) -> None:
    put(database, new("first", "http://known.example/"), due_at=START)
    relay = relays()
    (first,) = await claim(relay)
    await end(relay, first)
    put(database, *(new(f"new{number}", f"http://h{number}.example/") for number in range(200)), due_at=START - 1)
    put(database, *many(3, "http://known.example/", "known"), due_at=START)
    came = await relay.claim(want(100, untried=8))
    assert {"known1", "known2", "known3"} <= set(ids(came.deliveries))
    assert len(came.deliveries) == 3 + 8
    assert [*came.standing.values()] == [Standing.UNTRIED] * 8
    await sort_out(relay)
    waiting = rows(database, "SELECT lane, count(*) FROM outspoken_deliveries WHERE state = 'pending' GROUP BY lane")
    assert waiting == [(1, 192)]  # the last of them too: what comes from here on is before them every other time
    put(database, new("fresh", "http://fresh.example/"), due_at=START)
    came = await relay.claim(want(100, untried=8))
    assert "fresh" in ids(came.deliveries)
    assert [*came.standing.values()] == [Standing.UNTRIED] * 5
    for one in came.deliveries:
        await end(relay, one)
    assert set(rows(database, "SELECT held FROM outspoken_destinations WHERE tried = 1")) == {(0,)}


async def test_owners_have_their_turns(database: Database, relays: Open) -> None:
    crowd = (new(f"a{number}", f"http://h{number}.example/", owner="a") for number in range(300))
    put(database, *crowd, due_at=START - 100)
    put(database, new("b1", "http://b.example/", owner="b"), due_at=START)
    assert "b1" in ids(await claim(relays(), 2))


async def test_the_higher_priority_goes_first_to_its_endpoint(database: Database, relays: Open) -> None:
    put(database, new("late"), new("soon", priority=5), new("later", priority=-5), due_at=START)
    relay = relays()
    assert [ids(await claim(relay, 1))[0] for _ in range(3)] == ["soon", "late", "later"]


async def test_an_endpoint_is_paused_alone(database: Database, relays: Open) -> None:
    put(database, new("held", FAILING), new("fine", NEIGHBOUR), due_at=START)
    stand(database, "paused", ORIGIN, "/failing")
    relay = relays()
    assert ids(await claim(relay)) == ["fine"]
    await sort_out(relay)
    stand(database, "paused", ORIGIN)
    stand(database, "active", ORIGIN, "/failing")
    assert await claim(relay) == ()
    stand(database, "active", ORIGIN)
    assert [*ids(await claim(relay)), *ids(await claim(relay))] == ["held"]
