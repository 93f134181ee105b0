from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from relay import outbox
from relay.model import Attempted, BodyLimits, Dead, Delivery, Failure, Kind, Lease, Method, Reason, Retry
from relay.outbox.sqlite import Limits, SqliteOutbox
from tests.relay.deliveries import answer, attempted, many, new, put, rows, states

START = 1000.0
Open = Callable[..., SqliteOutbox]


class Clock:
    """A time that only moves when a test says so."""

    now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def relays(database: Path, clock: Clock) -> AsyncIterator[Open]:
    """Opens the outbox as one more relay would."""
    opened: list[SqliteOutbox] = []

    def open_one(per_destination: int = 16, lease: float = 60.0) -> SqliteOutbox:
        opened.append(SqliteOutbox(database, Limits(per_destination, lease), clock))
        return opened[-1]

    yield open_one
    for one in opened:
        await one.close()


def ids(deliveries: tuple[Delivery, ...]) -> list[str]:
    return [delivery.id for delivery in deliveries]


async def claim(relay: SqliteOutbox, room: int = 100) -> tuple[Delivery, ...]:
    return (await relay.claim(room)).deliveries


# --- claiming


async def test_a_claim_brings_everything_that_an_attempt_needs(database: Path, relays: Open) -> None:
    sent = new(
        "d1",
        "http://u:p@h.example:8080/x?y=1",
        body=b"\x00body",
        method=Method.PUT,
        kind=Kind.ERROR,
        content_type="text/plain",
        headers={"dg-token": "k"},
        traceparent="00-a-b-01",
    )
    put(database, sent, due_at=900.0)
    relay = relays()
    (delivery,) = await claim(relay)
    assert delivery == Delivery(
        delivery.lease,
        "d1",
        "http://h.example:8080",
        sent.url,
        Method.PUT,
        Kind.ERROR,
        "text/plain",
        {"dg-token": "k"},
        "00-a-b-01",
        body_bytes=5,
        created_at=delivery.created_at,
        due_at=900.0,
        attempts=0,
        lapses=0,
    )
    assert relay.body(delivery) == b"\x00body"
    assert rows(database, "SELECT state, lease_token, lease_until FROM deliveries") == [
        ("leased", delivery.lease.token, START + 60)
    ]


async def test_nobody_else_gets_what_is_claimed(database: Path, relays: Open) -> None:
    put(database, *many(3), due_at=START)
    assert ids(await claim(relays())) == ["d1", "d2", "d3"]
    assert await claim(relays()) == ()


async def test_a_delivery_is_not_claimed_before_it_is_due(database: Path, relays: Open, clock: Clock) -> None:
    put(database, new(), due_at=START + 1)
    relay = relays()
    assert await claim(relay) == ()
    assert relay.next_due() == START + 1
    clock.now = START + 1
    assert ids(await claim(relay)) == ["d1"]
    assert relay.next_due() is None


async def test_the_longest_due_go_first(database: Path, relays: Open) -> None:
    for id_, due_at in (("c", 30.0), ("a", 10.0), ("d", 30.0), ("b", 20.0)):
        put(database, new(id_), due_at=due_at)
    relay = relays()
    assert ids(await claim(relay, 2)) == ["a", "b"]
    assert ids(await claim(relay, 9)) == ["c", "d"]


async def test_a_claim_never_exceeds_the_room(database: Path, relays: Open) -> None:
    put(database, *many(5, "http://a.example/", "a"), *many(5, "http://b.example/", "b"), due_at=START)
    assert len(await claim(relays(), 3)) == 3


async def test_room_is_shared_fairly_between_a_backlog_and_a_newcomer(database: Path, relays: Open) -> None:
    put(database, *many(50, "http://hog.example/", "hog"), due_at=10.0)
    put(database, new("late", "http://late.example/"), due_at=START)
    assert "late" in ids(await claim(relays(), 2))


async def test_a_destination_has_no_more_in_flight_than_its_cap(database: Path, relays: Open) -> None:
    put(database, *many(10, "http://hog.example/", "hog"), *many(1, "http://b.example/", "b"), due_at=START)
    relay = relays(per_destination=4)
    assert sorted(ids(await claim(relay))) == ["b1", "hog1", "hog2", "hog3", "hog4"]
    assert await claim(relay) == ()


async def test_the_cap_counts_the_leases_of_every_relay(database: Path, relays: Open) -> None:
    put(database, *many(10), due_at=START)
    first, second = relays(per_destination=3), relays(per_destination=4)
    mine = await claim(first)
    assert len(mine) == 3
    assert len(await claim(second)) == 1
    await first.settle([attempted(mine[0])])
    assert len(await claim(second)) == 1


async def test_full_destinations_do_not_hide_the_ones_behind_them(database: Path, relays: Open) -> None:
    full = (many(2, f"http://full{number}.example/", f"f{number}-") for number in range(6))
    put(
        database,
        *(delivery for two in full for delivery in two),
        *many(1, "http://free.example/", "free"),
        due_at=START,
    )
    relay = relays(per_destination=1)
    assert len(await claim(relay, 6)) == 6
    assert ids(await claim(relays(per_destination=1), 1)) == ["free1"]


async def test_turns_go_round_in_a_ring(database: Path, relays: Open) -> None:
    for host in "abc":
        put(database, *many(2, f"http://{host}.example/", host), due_at=START)
    relay = relays()
    turns = [ids(await claim(relay, 1))[0] for _ in range(6)]
    assert turns == ["a1", "b1", "c1", "a2", "b2", "c2"]


async def test_a_backlog_of_one_destination_does_not_delay_a_hundred_others(database: Path, relays: Open) -> None:
    put(database, *many(300, "http://hog.example/", "hog"), due_at=1.0)
    put(database, *(new(f"n{number}", f"http://n{number}.example/") for number in range(100)), due_at=START)
    relay = relays(per_destination=16)
    served = [*await claim(relay, 60), *await claim(relay, 60)]
    assert sum(delivery.id.startswith("n") for delivery in served) == 100


async def test_an_idle_relay_takes_no_write_lock(database: Path, relays: Open) -> None:
    put(database, new(), due_at=START + 5)
    relay = relays()
    with closing(outbox.connect(database)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await claim(relay) == ()
        other.execute("ROLLBACK")


# --- leases


async def test_an_expired_lease_is_taken_over_under_a_fresh_number(database: Path, relays: Open, clock: Clock) -> None:
    put(database, new(), due_at=START)
    dead, heir = relays(lease=60), relays()
    (first,) = await claim(dead)
    clock.now = START + 59.9
    assert await claim(heir) == ()
    clock.now = START + 60
    claims = await heir.claim(9)
    (second,) = claims.deliveries
    assert claims.lapsed == 1
    assert (first.number, second.number) == (1, 2)
    assert (second.id, second.attempts, second.lapses) == ("d1", 0, 1)
    assert second.lease.token != first.lease.token


async def test_a_renewed_lease_is_not_taken_over(database: Path, relays: Open, clock: Clock) -> None:
    put(database, *many(2), due_at=START)
    holder, other = relays(), relays()
    kept, lost = await claim(holder)
    clock.now = START + 50
    await holder.renew([kept.lease])
    clock.now = START + 100
    assert ids(await claim(other)) == [lost.id]


async def test_a_relay_cannot_renew_what_another_has_taken_over(database: Path, relays: Open, clock: Clock) -> None:
    put(database, new(), due_at=START)
    late, heir = relays(), relays()
    (first,) = await claim(late)
    clock.now = START + 60
    await claim(heir)
    clock.now = START + 90
    await late.renew([first.lease])
    assert rows(database, "SELECT lease_until FROM deliveries") == [(START + 120,)]


async def test_what_was_cut_short_is_free_at_once_and_its_next_number_is_fresh(database: Path, relays: Open) -> None:
    put(database, new(), due_at=START)
    leaving, heir = relays(), relays()
    (first,) = await claim(leaving)
    await leaving.release([first.lease])
    (second,) = await claim(heir)
    assert (second.attempts, second.number) == (0, 2)
    assert rows(database, "SELECT count(*) FROM attempts") == [(0,)]


async def test_a_stale_release_changes_nothing(database: Path, relays: Open, clock: Clock) -> None:
    put(database, new(), due_at=START)
    late, heir = relays(), relays()
    (first,) = await claim(late)
    clock.now = START + 60
    (second,) = await claim(heir)
    await late.release([first.lease])
    assert rows(database, "SELECT state, lease_token FROM deliveries") == [("leased", second.lease.token)]


# --- settling


async def one_claimed(database: Path, relay: SqliteOutbox) -> Delivery:
    put(database, new(), due_at=START)
    (delivery,) = await claim(relay)
    return delivery


async def test_a_success_is_final(database: Path, relays: Open) -> None:
    relay = relays()
    delivery = await one_claimed(database, relay)
    assert await relay.settle([attempted(delivery)]) == ()
    assert rows(database, "SELECT state, attempts, finished_at, reason, lease_token, lease_until FROM deliveries") == [
        ("delivered", 1, 1001.0, None, None, None)
    ]
    assert await claim(relay) == ()


async def test_a_retry_waits_until_it_is_due_and_counts_up(database: Path, relays: Open, clock: Clock) -> None:
    relay = relays()
    delivery = await one_claimed(database, relay)
    await relay.settle([attempted(delivery, answer(503), Retry(START + 30))])
    assert await claim(relay) == ()
    clock.now = START + 30
    (again,) = await claim(relay)
    assert (again.attempts, again.number, again.due_at) == (1, 2, START + 30)
    assert relay.body(again) == new().body


@pytest.mark.parametrize("reason", Reason)
async def test_a_dead_letter_is_kept_with_its_reason_and_its_body(database: Path, relays: Open, reason: Reason) -> None:
    relay = relays()
    delivery = await one_claimed(database, relay)
    await relay.settle([attempted(delivery, answer(500), Dead(reason))])
    assert rows(database, "SELECT state, attempts, finished_at, reason FROM deliveries") == [
        ("dead", 1, 1001.0, reason.value)
    ]
    assert rows(database, "SELECT body FROM bodies") == [(new().body,)]


async def test_every_attempt_leaves_a_row(database: Path, relays: Open) -> None:
    relay = relays()
    delivery = await one_claimed(database, relay)
    came = answer(500, peer="203.0.113.9", excerpt=b"oh \xff no")
    await relay.settle([attempted(delivery, came, Retry(START))])
    (again,) = await claim(relay)
    await relay.settle([attempted(again, answer(failure=Failure.DNS), Retry(START))])
    columns = "seq, number, started_at, lag, duration, outcome, status, peer, detail, excerpt"
    assert rows(database, f"SELECT {columns} FROM attempts ORDER BY number") == [
        (1, 1, 1000.5, 0.5, 0.05, "http_5xx", 500, "203.0.113.9", "the receiver answered 500", b"oh \xff no"),
        (1, 2, 1000.5, 0.5, 0.05, "dns", None, None, "the host name did not resolve", b""),
    ]


async def test_a_stale_settlement_changes_nothing_and_is_said(database: Path, relays: Open, clock: Clock) -> None:
    late, heir = relays(), relays()
    first = await one_claimed(database, late)
    clock.now = START + 60
    await claim(heir)
    before = rows(database, "SELECT * FROM deliveries")
    assert await late.settle([attempted(first)]) == (first.lease,)
    assert rows(database, "SELECT * FROM deliveries") == before
    assert rows(database, "SELECT * FROM attempts") == []


async def test_a_second_settlement_of_one_lease_is_stale(database: Path, relays: Open) -> None:
    relay = relays()
    delivery = await one_claimed(database, relay)
    assert await relay.settle([attempted(delivery)]) == ()
    assert await relay.settle([attempted(delivery, answer(500), Dead(Reason.EXHAUSTED))]) == (delivery.lease,)
    assert states(database) == {"d1": "delivered"}


async def test_a_batch_settles_the_fresh_beside_the_stale(database: Path, relays: Open) -> None:
    put(database, *many(3), due_at=START)
    relay = relays()
    first, second, third = await claim(relay)
    forged = replace(second, lease=Lease(second.lease.seq, "somebody.1"))
    assert await relay.settle([attempted(first), attempted(forged), attempted(third)]) == (forged.lease,)
    assert states(database) == {"d1": "delivered", "d2": "leased", "d3": "delivered"}


async def test_a_destination_teaches_its_body_limit(database: Path, relays: Open) -> None:
    relay = relays()
    origin = "https://receiver.example:443"
    assert relay.body_limits(origin) == BodyLimits()
    sizes = [(100, 200), (5000, 413), (300, 200), (400, 413), (900, 413), (200, 200), (9000, 500)]
    for number, (size, status) in enumerate(sizes):
        put(database, new(f"d{number}", body=b"x" * size), due_at=START)
        (delivery,) = await claim(relay)
        verdict = None if status == 200 else Dead(Reason.EXHAUSTED)
        await relay.settle([attempted(delivery, answer(status), verdict)])
    assert relay.body_limits(origin) == BodyLimits(largest_accepted=300, smallest_refused=400)


async def test_the_body_is_the_same_on_every_attempt(database: Path, relays: Open) -> None:
    body = bytes(range(256)) * 2000
    put(database, new(body=body), due_at=START)
    relay = relays()
    for _ in range(3):
        (delivery,) = await claim(relay)
        assert relay.body(delivery) == body
        await relay.settle([attempted(delivery, answer(500), Retry(START))])


# --- counting


async def test_a_snapshot_counts_what_waits(database: Path, relays: Open, clock: Clock) -> None:
    put(database, *many(2, prefix="ready"), due_at=START - 7)
    put(database, *many(3, prefix="later"), due_at=START + 7)
    put(database, new("running"), new("lost"), new("done"), due_at=1.0)
    relay = relays()
    _, lost, done = await claim(relay, 3)
    await relay.settle([attempted(lost, answer(500), Dead(Reason.GONE)), attempted(done)])
    rows(database, "UPDATE deliveries SET created_at = ?", START - 50)
    rows(database, "UPDATE deliveries SET created_at = ? WHERE id = 'done'", 0.0)
    snapshot = await relay.snapshot()
    assert (snapshot.ready, snapshot.scheduled, snapshot.in_flight, snapshot.dead) == (2, 3, 1, 1)
    assert (snapshot.oldest_due_age, snapshot.oldest_undelivered_age) == (7.0, 50.0)
    assert snapshot.taken_at == START
    assert snapshot.took > 0


async def test_an_empty_outbox_has_nothing_late(relays: Open) -> None:
    snapshot = await relays().snapshot()
    assert (snapshot.ready, snapshot.scheduled, snapshot.in_flight, snapshot.dead) == (0, 0, 0, 0)
    assert (snapshot.oldest_due_age, snapshot.oldest_undelivered_age, snapshot.added) == (0.0, 0.0, {})


async def test_what_is_not_due_yet_is_not_late(database: Path, relays: Open) -> None:
    put(database, new(), due_at=START + 100)
    assert (await relays().snapshot()).oldest_due_age == 0.0


async def test_intake_is_counted_by_kind_since_the_last_snapshot(database: Path, relays: Open) -> None:
    put(database, new("before"))
    relay = relays()
    assert (await relay.snapshot()).added == {}
    put(database, new("a"), new("b", kind=Kind.ERROR), new("c"))
    assert (await relay.snapshot()).added == {Kind.FINAL: 2, Kind.ERROR: 1}
    assert (await relay.snapshot()).added == {}


def put_one_by_one(database: Path, count: int) -> None:
    for delivery in many(count):
        put(database, delivery)


async def test_intake_during_a_count_is_counted_once(database: Path, relays: Open) -> None:
    relay = relays()
    await relay.snapshot()
    producer = threading.Thread(target=put_one_by_one, args=(database, 200))
    producer.start()
    seen = 0
    while producer.is_alive():
        seen += sum((await relay.snapshot()).added.values())
    producer.join()
    seen += sum((await relay.snapshot()).added.values())
    assert seen == 200


# --- several relays

CLAIM_EVERYTHING = """
import asyncio, json, sys
from pathlib import Path
from relay.outbox.sqlite import Limits, SqliteOutbox

async def main():
    outbox = SqliteOutbox(Path(sys.argv[1]), Limits(per_destination=1000))
    print("ready", flush=True)
    sys.stdin.readline()
    mine = []
    while claims := (await outbox.claim(5)).deliveries:
        mine += [delivery.id for delivery in claims]
    await outbox.close()
    print(json.dumps(mine))

asyncio.run(main())
"""


async def test_four_relays_share_one_file_and_claim_nothing_twice(database: Path) -> None:
    put(database, *many(100))
    pipe = asyncio.subprocess.PIPE
    relays = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLAIM_EVERYTHING, str(database), stdin=pipe, stdout=pipe
        )
        for _ in range(4)
    ]
    for relay in relays:
        assert relay.stdout is not None
        assert await relay.stdout.readline() == b"ready\n"
    said = await asyncio.gather(*(relay.communicate(b"go\n") for relay in relays))
    claimed = [json.loads(out) for out, _ in said]
    assert sum(map(len, claimed)) == len(set().union(*claimed)) == 100
    assert min(map(len, claimed)) > 0


async def test_an_attempt_of_a_failing_write_is_all_or_nothing(database: Path, relays: Open) -> None:
    put(database, *many(2), due_at=START)
    relay = relays()
    fine, odd = await claim(relay)
    broken: Attempted = replace(attempted(odd), answer=answer(200, peer="\udcff"))
    with pytest.raises(UnicodeEncodeError):
        await relay.settle([attempted(fine), broken])
    assert states(database) == {"d1": "leased", "d2": "leased"}
    assert rows(database, "SELECT * FROM attempts") == []
