"""Deliveries that go strictly one after another."""

from __future__ import annotations

import pytest

from relay.outbox.errors import StreamKilled
from relay.outbox.model import NewDelivery, OnDead, Stream
from relay.outbox.store import Database
from relay.policy.attempt import Dead, Delivery, Reason, Retry
from relay.queue.deliveries import DeliveryQueue
from tests.relay.deliveries import answer, new, put, rows, stand, states
from tests.relay.queue.claims import START, Clock, Open, claim, end, ids, sort_out

GIVEN_UP = Dead(Reason.EXHAUSTED)


def messages(key: str, count: int, on_dead: OnDead = OnDead.SKIP, first: int = 1) -> list[NewDelivery]:
    """s1, s2, ... of the stream s."""
    return [new(f"{key}{number}", stream=Stream(key, on_dead)) for number in range(first, first + count)]


def waiting(database: Database, *deliveries: NewDelivery) -> None:
    """Add them; those that are due at all are due now."""
    put(database, *deliveries)
    rows(database, "UPDATE outspoken_deliveries SET due_at = ? WHERE due_at IS NOT NULL AND state = 'pending'", START)


async def only(relay: DeliveryQueue) -> Delivery:
    """The one delivery that can be claimed."""
    (delivery,) = await claim(relay)
    return delivery


async def test_one_after_another_is_claimed_and_never_two_at_once(database: Database, relays: Open) -> None:
    waiting(database, *messages("s", 4))
    first, second = relays(), relays()
    order = []
    for _ in range(4):
        delivery = await only(first)
        assert await claim(second) == ()
        order.append((delivery.id, delivery.position))
        await end(first, delivery)
    assert order == [("s1", 1), ("s2", 2), ("s3", 3), ("s4", 4)]


async def test_streams_do_not_wait_for_each_other(database: Database, relays: Open) -> None:
    waiting(database, *messages("a", 3), *messages("b", 3), new("alone"))
    relay = relays()
    held = await claim(relay)
    assert ids(held) == ["a1", "b1", "alone"]
    await end(relay, held[1])
    assert ids(await claim(relay)) == ["b2"]


async def test_a_retry_holds_up_those_behind_it(database: Database, relays: Open, clock: Clock) -> None:
    waiting(database, *messages("s", 2))
    relay = relays()
    await end(relay, await only(relay), answer(500), Retry(START + 30))
    clock.now = START + 29
    assert await claim(relay) == ()
    clock.now = START + 30
    again = await only(relay)
    assert (again.id, again.number) == ("s1", 2)
    await end(relay, again, at=clock.now)
    assert (await only(relay)).id == "s2"


async def test_a_lease_that_lapses_or_is_given_back_keeps_the_order(
    database: Database, relays: Open, clock: Clock
) -> None:
    waiting(database, *messages("s", 2))
    relay = relays()
    await relay.release([(await only(relay)).lease], sent=True)
    assert (await only(relay)).id == "s1"
    clock.now = START + 60
    again = await only(relay)
    assert (again.id, again.lapses) == ("s1", 2)


async def test_the_next_is_due_when_the_one_before_it_ended_and_not_late(database: Database, relays: Open) -> None:
    waiting(database, *messages("s", 2))
    relay = relays()
    await end(relay, await only(relay), at=START - 5)
    assert (await only(relay)).due_at == START - 5


async def test_a_stale_end_moves_nothing_on(database: Database, relays: Open, clock: Clock) -> None:
    waiting(database, *messages("s", 2))
    late, heir = relays(), relays()
    lost = await only(late)
    clock.now = START + 60
    held = await only(heir)
    assert await end(late, lost) == {lost.lease}
    assert await claim(late) == ()
    await end(heir, held, at=clock.now)
    assert (await only(late)).id == "s2"


async def test_what_comes_while_one_is_under_way_waits_for_it(database: Database, relays: Open) -> None:
    waiting(database, *messages("s", 1))
    relay = relays()
    first = await only(relay)
    waiting(database, *messages("s", 1, first=2))
    assert await claim(relay) == ()
    await end(relay, first)
    assert (await only(relay)).id == "s2"


async def test_a_dead_one_lets_the_next_through(database: Database, relays: Open) -> None:
    waiting(database, *messages("s", 2, OnDead.SKIP))
    relay = relays()
    await end(relay, await only(relay), answer(500), GIVEN_UP)
    assert (await only(relay)).id == "s2"
    put(database, *messages("s", 1, first=3))


async def test_or_it_kills_the_stream(database: Database, relays: Open) -> None:
    waiting(database, *messages("s", 3, OnDead.KILL), *messages("other", 2, OnDead.KILL))
    relay = relays()
    first, other = await claim(relay)
    await end(relay, first, answer(500), GIVEN_UP, at=START + 7)
    assert rows(
        database, "SELECT id, state, reason, finished_at FROM outspoken_deliveries WHERE id LIKE 's_' ORDER BY id"
    ) == [
        ("s1", "dead", "exhausted", START + 7),
        ("s2", "dead", "stream_killed", START + 7),
        ("s3", "dead", "stream_killed", START + 7),
    ]
    with pytest.raises(StreamKilled, match="stream s was killed"):
        put(database, *messages("s", 1, first=4))
    await end(relay, other)
    assert (await only(relay)).id == "other2"


async def test_a_failure_that_is_retried_kills_nothing(database: Database, relays: Open) -> None:
    waiting(database, *messages("s", 2, OnDead.KILL))
    relay = relays()
    await end(relay, await only(relay), answer(500), Retry(START))
    await end(relay, await only(relay))
    assert (await only(relay)).id == "s2"


@pytest.mark.parametrize(
    ("on_dead", "states_after"),
    [(OnDead.SKIP, ["dead", "pending", "pending"]), (OnDead.KILL, ["dead", "dead", "dead"])],
)
async def test_one_that_expires_is_a_dead_one(
    database: Database, relays: Open, on_dead: OnDead, states_after: list[str]
) -> None:
    waiting(database, *messages("s", 3, on_dead))
    stand(database, "paused")
    relay = relays()
    await sort_out(relay)
    assert await relay.expire(START + 1) == 1
    assert list(states(database).values()) == states_after
    stand(database, "active")
    assert ids(await claim(relay)) == (["s2"] if on_dead is OnDead.SKIP else [])


async def test_a_stream_of_a_paused_destination_expires_one_by_one(database: Database, relays: Open) -> None:
    waiting(database, *messages("s", 3))
    stand(database, "paused")
    relay = relays()
    for expired in (1, 1, 1, 0):
        await sort_out(relay)
        assert await relay.expire(START + 1) == expired


async def test_a_position_that_was_never_used_is_no_gap(database: Database, relays: Open) -> None:
    waiting(database, *messages("s", 2))
    rows(database, "UPDATE outspoken_streams SET position = 7")
    waiting(database, *messages("s", 1, first=3))
    relay = relays()
    for id_ in ("s1", "s2", "s3"):
        delivery = await only(relay)
        assert delivery.id == id_
        await end(relay, delivery)


async def test_a_batch_moves_each_stream_on_by_one(database: Database, relays: Open) -> None:
    waiting(database, *(message for number in range(50) for message in messages(f"k{number}-", 3)))
    relay = relays()
    for number in (1, 2, 3):
        held = await claim(relay, 200, most=200)
        assert len(held) == 50
        assert {delivery.position for delivery in held} == {number}
        for delivery in held:
            await end(relay, delivery)
    assert await claim(relay) == ()
