"""The breaker of a destination, as relays meet it: in what they can claim."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from relay.outbox.store import Database
from relay.policy.attempt import Answer, Dead, Delivery, Failure, Reason
from relay.queue.deliveries import DeliveryQueue
from tests.relay.deliveries import answer, attempted, many, new, put, rows
from tests.relay.queue.claims import START, Clock, Open, claim, end, ids

ORIGIN = "https://receiver.example:443"
DOWN = answer(failure=Failure.CONNECT)


def breaker(database: Database) -> Any:
    (row,) = rows(database, "SELECT failures, open_until, pause FROM outspoken_destinations WHERE origin = ?", ORIGIN)
    return row


async def fail(relay: DeliveryQueue, deliveries: tuple[Delivery, ...], came: Answer = DOWN, at: float = START) -> None:
    for delivery in deliveries:
        await end(relay, delivery, came, at=at)


async def broken(database: Database, relay: DeliveryQueue, waiting: int = 20) -> None:
    """A destination with a backlog whose first five attempts all failed just now."""
    put(database, *many(waiting), due_at=START - 1)
    await fail(relay, await claim(relay, 5))


@pytest.mark.parametrize("came", [DOWN, answer(500), answer(429), answer(failure=Failure.TLS)])
async def test_after_five_failures_in_a_row_nothing_is_claimed_and_no_attempt_is_used_up(
    database: Database, relays: Open, clock: Clock, came: Answer
) -> None:
    put(database, *many(20), new("fine", "http://other.example/"), due_at=START - 1)
    relay = relays()
    await fail(relay, await claim(relay, 4, {"http://other.example:80": 0}), came)
    assert breaker(database) == (4, None, 0.0)
    await fail(relay, await claim(relay, 1, {"http://other.example:80": 0}), came)
    assert breaker(database) == (5, START + 30, 30.0)
    clock.now = START + 29.9
    assert ids(await claim(relay)) == ["fine"]
    assert rows(database, "SELECT sum(attempts) FROM outspoken_deliveries") == [(5,)]


@pytest.mark.parametrize("came", [answer(400), answer(413), answer(301), answer(failure=Failure.BLOCKED)])
async def test_what_is_about_one_delivery_does_not_open_it(database: Database, relays: Open, came: Answer) -> None:
    put(database, *many(20), due_at=START - 1)
    relay = relays()
    await fail(relay, await claim(relay, 10), came)
    assert breaker(database) == (0, None, 0.0)
    assert await claim(relay, 10) != ()


async def test_a_success_begins_the_count_anew(database: Database, relays: Open) -> None:
    put(database, *many(20), due_at=START - 1)
    relay = relays()
    await fail(relay, await claim(relay, 4))
    (fine,) = await claim(relay, 1)
    await end(relay, fine)
    assert breaker(database) == (0, None, 0.0)
    await fail(relay, await claim(relay, 4))
    assert breaker(database) == (4, None, 0.0)


async def test_then_one_delivery_probes_whoever_asks(database: Database, relays: Open, clock: Clock) -> None:
    first, second = relays(), relays()
    await broken(database, first)
    clock.now = START + 30
    (probe,) = await claim(first)
    assert await claim(second) == ()
    assert await claim(first, free={ORIGIN: 15}) == ()
    await end(first, probe)
    assert breaker(database) == (0, None, 0.0)
    assert len(await claim(second)) == 16


async def test_a_probe_that_fails_doubles_the_pause_up_to_ten_minutes(
    database: Database, relays: Open, clock: Clock
) -> None:
    relay = relays()
    await broken(database, relay)
    pauses = []
    for _ in range(6):
        clock.now = breaker(database)[1]
        (probe,) = await claim(relay)
        await end(relay, probe, DOWN, at=clock.now)
        pauses.append(breaker(database)[1] - clock.now)
        assert await claim(relay) == ()
    assert pauses == [60.0, 120.0, 240.0, 480.0, 600.0, 600.0]
    assert rows(database, "SELECT sum(attempts) FROM outspoken_deliveries") == [(5 + 6,)]


async def test_a_probe_whose_relay_died_is_replaced_when_its_lease_is_over(
    database: Database, relays: Open, clock: Clock
) -> None:
    dead, heir = relays(), relays()
    await broken(database, dead)
    clock.now = START + 30
    await claim(dead)
    clock.now = START + 89
    assert await claim(heir) == ()
    clock.now = START + 90
    assert len(await claim(heir)) == 1


async def test_what_was_under_way_when_it_opened_does_not_lengthen_the_pause(
    database: Database, relays: Open, clock: Clock
) -> None:
    put(database, *many(20), due_at=START - 1)
    relay = relays()
    under_way = await claim(relay, 16)
    await fail(relay, under_way[:5])
    for late in under_way[5:]:
        await end(relay, late, answer(failure=Failure.READ_TIMEOUT), at=START + 29, took=30.0)
    assert breaker(database) == (5, START + 30, 30.0)


async def test_a_whole_batch_of_failures_is_counted_one_by_one(database: Database, relays: Open) -> None:
    relay = relays()
    put(database, *many(20), due_at=START - 1)
    ended = [replace(attempted(one, DOWN), finished_at=START) for one in await claim(relay, 16)]
    await relay.settle(ended)
    assert breaker(database) == (5, START + 30, 30.0)


async def test_the_late_success_of_one_that_was_under_way_closes_it(database: Database, relays: Open) -> None:
    put(database, *many(20), due_at=START - 1)
    relay = relays()
    under_way = await claim(relay, 6)
    await fail(relay, under_way[:5])
    await end(relay, under_way[5], took=10.0)
    assert breaker(database) == (0, None, 0.0)


async def test_whoever_holds_something_hears_that_it_opened(database: Database, relays: Open, clock: Clock) -> None:
    put(database, *many(8), due_at=START - 1)
    relay = relays()
    held = await claim(relay, 8)
    await fail(relay, held[:5])
    assert (await relay.claim(9, {ORIGIN: 13}, 16)).blocked == {ORIGIN}
    clock.now = START + 30
    assert (await relay.claim(9, {ORIGIN: 13}, 16)).blocked == frozenset()


async def test_its_state_survives_the_relay(database: Database, relays: Open, clock: Clock) -> None:
    leaving = relays()
    await broken(database, leaving)
    heir = relays()
    assert await claim(heir) == ()
    clock.now = START + 30
    assert len(await claim(heir)) == 1


async def test_while_it_is_open_the_end_of_patience_gives_deliveries_up(
    database: Database, relays: Open, clock: Clock
) -> None:
    relay = relays()
    await broken(database, relay)
    clock.now = START + 20
    assert await relay.expire(clock.now - 20) == 15
    assert rows(database, "SELECT DISTINCT reason FROM outspoken_deliveries WHERE state = 'dead'") == [("expired",)]


async def test_a_stale_failure_counts_for_nothing(database: Database, relays: Open, clock: Clock) -> None:
    put(database, new(), due_at=START)
    late, heir = relays(), relays()
    (first,) = await claim(late)
    clock.now = START + 60
    (second,) = await claim(heir)
    await end(late, first, DOWN, at=clock.now)
    assert breaker(database) == (0, None, 0.0)
    await end(heir, second, DOWN, Dead(Reason.EXHAUSTED), at=clock.now)
    assert breaker(database) == (1, None, 0.0)


async def test_a_probe_under_way_elsewhere_does_not_hide_who_is_behind_it(
    database: Database, relays: Open, clock: Clock
) -> None:
    busy, idle = relays(), relays()
    await broken(database, busy)
    clock.now = START + 30
    assert len(await claim(busy, 1)) == 1
    put(database, new("behind", "http://behind.example/"), due_at=START + 30)
    assert [*ids(await claim(idle, 1)), *ids(await claim(idle, 1))] == ["behind"]
