"""One database as relays use it, side by side: claims, leases, settlements, counts."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from relay import outbox
from relay.outbox.model import Kind, Method, Stream
from relay.outbox.results import Results
from relay.outbox.store import Database
from relay.policy.attempt import Attempted, BodyLimits, Dead, Delivery, Failure, Lease, Reason, Retry, Timing
from relay.queue.claiming import fingerprint
from relay.queue.group import Membership
from relay.queue.stats import QueueChanges, QueueDepths
from tests.relay.databases import on_sqlite
from tests.relay.deliveries import TRACE, URL, answer, attempted, many, new, put, rows, stand, states
from tests.relay.queue.claims import START, Clock, Open, claim, end, ids, one_claimed, sort_out, want

GONE = (fingerprint(f"{URL}?gone"), "https://receiver.example:443", "/hook")
HOG, OTHER = "http://hog.example:80", "http://b.example:80"


# --- claiming


async def test_a_claim_brings_everything_that_an_attempt_needs(database: Database, relays: Open) -> None:
    sent = new(
        "d1",
        "http://u:p@h.example:8080/x?y=1",
        body=b"\x00body",
        method=Method.PUT,
        kind=Kind.ERROR,
        content_type="text/plain",
        headers={"dg-token": "k"},
        traceparent=TRACE,
        schedule="exponential",
        stream=Stream("s"),
        owner="somebody",
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
        TRACE,
        body_bytes=5,
        created_at=delivery.created_at,
        due_at=900.0,
        attempts=0,
        lapses=0,
        schedule="exponential",
        stream_id=1,
        position=1,
        path="/x",
        owner="somebody",
    )
    assert await relay.with_body(delivery, bytes) == b"\x00body"
    assert rows(database, "SELECT state, lease_token, lease_until FROM outspoken_deliveries") == [
        ("leased", delivery.lease.token, START + 60)
    ]


async def test_nobody_else_gets_what_is_claimed(database: Database, relays: Open) -> None:
    put(database, *many(3), due_at=START)
    assert ids(await claim(relays())) == ["d1", "d2", "d3"]
    assert await claim(relays()) == ()


async def test_a_delivery_is_not_claimed_before_it_is_due(database: Database, relays: Open, clock: Clock) -> None:
    put(database, new(), due_at=START + 1)
    relay = relays()
    assert await claim(relay) == ()
    assert await relay.next_due() == START + 1
    clock.now = START + 1
    assert await relay.next_due() == START + 1
    (delivery,) = await claim(relay)
    assert await relay.next_due() == START + 61  # when its lease runs out
    await relay.settle([attempted(delivery)])
    assert await relay.next_due() is None


async def test_the_longest_due_go_first(database: Database, relays: Open) -> None:
    for id_, due_at in (("c", 30.0), ("a", 10.0), ("d", 30.0), ("b", 20.0)):
        put(database, new(id_), due_at=due_at)
    relay = relays()
    assert ids(await claim(relay, 2)) == ["a", "b"]
    assert ids(await claim(relay, 9)) == ["c", "d"]


async def test_a_claim_never_exceeds_the_room(database: Database, relays: Open) -> None:
    put(database, *many(5, "http://a.example/", "a"), *many(5, "http://b.example/", "b"), due_at=START)
    assert len(await claim(relays(), 3)) == 3


async def test_room_is_shared_fairly_between_a_backlog_and_a_newcomer(database: Database, relays: Open) -> None:
    put(database, *many(50, "http://hog.example/", "hog"), due_at=10.0)
    put(database, new("late", "http://late.example/"), due_at=START)
    assert "late" in ids(await claim(relays(), 2))


async def test_of_a_destination_no_more_is_claimed_than_was_asked_for(database: Database, relays: Open) -> None:
    put(database, *many(30, "http://hog.example/", "hog"), *many(1, "http://b.example/", "b"), due_at=START)
    relay = relays()
    assert sorted(ids(await claim(relay, most=4))) == ["b1", "hog1", "hog2", "hog3", "hog4"]
    assert ids(await claim(relay, free={HOG: 2}, most=4)) == ["hog5", "hog6"]
    assert len(await claim(relay, free={OTHER: 0}, most=4)) == 4
    assert len(await claim(relay, free={HOG: 100}, most=4, of_endpoint=100)) == 20


@pytest.mark.parametrize("none", [0, -3])
async def test_of_a_full_destination_nothing_is_claimed(database: Database, relays: Open, none: int) -> None:
    put(database, *many(3, "http://hog.example/", "hog"), *many(1, "http://b.example/", "b"), due_at=START)
    relay = relays()
    assert ids(await claim(relay, free={HOG: 1})) == ["hog1", "b1"]
    assert await claim(relay, free={HOG: none, OTHER: none}) == ()


async def test_full_destinations_do_not_hide_the_ones_behind_them(database: Database, relays: Open) -> None:
    full = [f"full{number}.example" for number in range(6)]
    put(database, *(new(host, f"http://{host}/") for host in full), new("free1", "http://free.example/"), due_at=START)
    assert ids(await claim(relays(), 1, {f"http://{host}:80": 0 for host in full})) == ["free1"]


async def test_every_share_is_filled_from_whoever_has_more(database: Database, relays: Open) -> None:
    put(database, *many(100, "http://a.example/", "a"), *many(3, "http://b.example/", "b"), due_at=START)
    served = Counter(id_[0] for id_ in ids(await claim(relays(), 50, most=40)))
    assert served == {"a": 40, "b": 3}


async def test_turns_go_round_in_a_ring(database: Database, relays: Open) -> None:
    for host in "abc":
        put(database, *many(2, f"http://{host}.example/", host), due_at=START)
    relay = relays()
    turns = [ids(await claim(relay, 1))[0] for _ in range(6)]
    assert turns == ["a1", "b1", "c1", "a2", "b2", "c2"]


async def test_a_backlog_of_one_destination_does_not_delay_a_hundred_others(database: Database, relays: Open) -> None:
    put(database, *many(300, "http://hog.example/", "hog"), due_at=1.0)
    put(database, *(new(f"n{number}", f"http://n{number}.example/") for number in range(100)), due_at=START)
    relay = relays()
    served = [*await claim(relay, 60), *await claim(relay, 60)]
    assert sum(delivery.id.startswith("n") for delivery in served) == 100


@on_sqlite
async def test_a_claim_that_goes_on_from_the_last_one_sees_what_has_changed_since(
    database: Database, relays: Open
) -> None:
    put(database, *(new(f"d{number}") for number in range(9)), new("gone", f"{URL}?gone"))
    relay = relays()
    for number in range(2):  # after the first its destination is known to answer
        (one,) = await claim(relay, 1)
        assert one.id == f"d{number}"
        await end(relay, one)
        await relay.next_due()
    put(database, new("urgent", priority=1), new("newcomer", f"{OTHER}/"))
    rows(database, "INSERT INTO outspoken_gone_urls (sha256, origin, path, since) VALUES (?, ?, ?, 0)", *GONE)
    met: list[Delivery] = []
    while "newcomer" not in ids(tuple(met)):  # one claim may yet go by what the last one saw
        claims = await relay.claim(want(2))
        assert len(claims.deliveries) == 2
        met += claims.deliveries
        await relay.next_due()
    assert len(met) <= 4
    stand(database, "paused")
    claims = await relay.claim(want(4, ahead=[("https://receiver.example:443", "/hook")]))
    assert not claims.deliveries
    assert claims.stopped == {("https://receiver.example:443", "/hook")}
    stand(database, "active")
    while more := await claim(relay):
        met += more
        await relay.next_due()
    assert sorted(ids(tuple(met))) == ["d2", "d3", "d4", "d5", "d6", "d7", "d8", "gone", "newcomer", "urgent"]
    assert "urgent" in ids(tuple(met[:2]))
    assert [one.id for one in met if one.gone] == ["gone"]


async def test_an_idle_relay_takes_no_write_lock(database: Database, path: Path, relays: Open) -> None:
    put(database, new(), due_at=START + 5)
    relay = relays()
    with closing(outbox.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await claim(relay) == ()
        other.execute("ROLLBACK")


# --- leases


async def test_an_expired_lease_is_taken_over_under_a_fresh_number(
    database: Database, relays: Open, clock: Clock
) -> None:
    put(database, new(), due_at=START)
    dead, heir = relays(lease=60), relays(lease=60)
    (first,) = await claim(dead)
    clock.now = START + 59.9
    assert await claim(heir) == ()
    clock.now = START + 60
    claims = await heir.claim(want(9))
    (second,) = claims.deliveries
    assert claims.lapsed == 1
    assert (first.number, second.number) == (1, 2)
    assert (second.id, second.attempts, second.lapses) == ("d1", 0, 1)
    assert second.lease.token != first.lease.token


async def test_a_renewed_lease_is_not_taken_over(database: Database, relays: Open, clock: Clock) -> None:
    put(database, *many(2), due_at=START)
    holder, other = relays(), relays()
    kept, lost = await claim(holder)
    clock.now = START + 50
    await holder.renew([kept.lease])
    clock.now = START + 100
    assert ids(await claim(other)) == [lost.id]


async def test_a_relay_cannot_renew_what_another_has_taken_over(database: Database, relays: Open, clock: Clock) -> None:
    put(database, new(), due_at=START)
    late, heir = relays(), relays()
    (first,) = await claim(late)
    clock.now = START + 60
    await claim(heir)
    clock.now = START + 90
    await late.renew([first.lease])
    assert rows(database, "SELECT lease_until FROM outspoken_deliveries") == [(START + 120,)]


async def test_what_was_cut_short_is_free_at_once_and_its_next_number_is_fresh(
    database: Database, relays: Open
) -> None:
    put(database, new(), due_at=START)
    leaving, heir = relays(), relays()
    (first,) = await claim(leaving)
    await leaving.release([first.lease], sent=True)
    (second,) = await claim(heir)
    assert (second.attempts, second.number) == (0, 2)
    assert rows(database, "SELECT count(*) FROM outspoken_attempts") == [(0,)]


async def test_what_was_never_sent_goes_back_as_it_was(database: Database, relays: Open) -> None:
    put(database, *many(2), due_at=START)
    leaving, heir = relays(), relays()
    before = rows(database, "SELECT * FROM outspoken_deliveries ORDER BY seq")
    await leaving.release([delivery.lease for delivery in await claim(leaving)], sent=False)
    assert rows(database, "SELECT * FROM outspoken_deliveries ORDER BY seq") == before
    assert [(delivery.lapses, delivery.number) for delivery in await claim(heir)] == [(0, 1), (0, 1)]


@pytest.mark.parametrize("sent", [True, False])
async def test_a_stale_release_changes_nothing(database: Database, relays: Open, clock: Clock, sent: bool) -> None:
    put(database, new(), due_at=START)
    late, heir = relays(), relays()
    (first,) = await claim(late)
    clock.now = START + 60
    (second,) = await claim(heir)
    await late.release([first.lease], sent=sent)
    assert rows(database, "SELECT state, lease_token FROM outspoken_deliveries") == [("leased", second.lease.token)]


# --- settling


async def test_a_success_is_final(database: Database, relays: Open) -> None:
    relay = relays()
    delivery = await one_claimed(database, relay)
    assert await relay.settle([attempted(delivery)]) == frozenset()
    assert rows(
        database, "SELECT state, attempts, finished_at, reason, lease_token, lease_until FROM outspoken_deliveries"
    ) == [("delivered", 1, 1001.0, None, None, None)]
    assert await claim(relay) == ()


async def test_a_retry_waits_until_it_is_due_and_counts_up(database: Database, relays: Open, clock: Clock) -> None:
    relay = relays()
    delivery = await one_claimed(database, relay)
    await relay.settle([attempted(delivery, answer(503), Retry(START + 30))])
    assert await claim(relay) == ()
    clock.now = START + 30
    (again,) = await claim(relay)
    assert (again.attempts, again.number, again.due_at) == (1, 2, START + 30)
    assert await relay.with_body(again, bytes) == new().body


@pytest.mark.parametrize("reason", Reason)
async def test_a_dead_letter_is_kept_with_its_reason_and_its_body(
    database: Database, relays: Open, reason: Reason
) -> None:
    relay = relays()
    delivery = await one_claimed(database, relay)
    await relay.settle([attempted(delivery, answer(500), Dead(reason))])
    assert rows(database, "SELECT state, attempts, finished_at, reason FROM outspoken_deliveries") == [
        ("dead", 1, 1001.0, reason.value)
    ]
    assert rows(database, "SELECT body FROM outspoken_bodies") == [(new().body,)]


async def test_every_attempt_leaves_a_row(database: Database, relays: Open) -> None:
    relay = relays()
    delivery = await one_claimed(database, relay)
    came = answer(500, peer="203.0.113.9", excerpt=b"oh \xff no")
    await relay.settle([attempted(delivery, came, Retry(START))])
    (again,) = await claim(relay)
    await relay.settle([attempted(again, answer(failure=Failure.DNS), Retry(START))])
    columns = "seq, number, started_at, lag, duration, outcome, status, peer, detail, excerpt"
    assert rows(database, f"SELECT {columns} FROM outspoken_attempts ORDER BY number") == [
        (1, 1, 1000.5, 0.5, 0.05, "http_5xx", 500, "203.0.113.9", "the receiver answered 500", b"oh \xff no"),
        (1, 2, 1000.5, 0.5, 0.05, "dns", None, None, "the host name did not resolve", b""),
    ]


async def test_an_attempt_that_took_no_step_has_an_object_without_any(database: Database, relays: Open) -> None:
    relay = relays()
    delivery = await one_claimed(database, relay)
    await relay.settle([attempted(delivery, answer(failure=Failure.DNS, timing=Timing(0.5)), Retry(START))])
    assert rows(database, "SELECT timing FROM outspoken_attempts") == [("{}",)]


async def test_what_is_kept_of_an_attempt_shows_its_steps_and_no_secret(database: Database, relays: Open) -> None:
    relay = relays()
    delivery = await one_claimed(database, relay)
    came = answer(
        200,
        timing=Timing(0.5, dns=0.001, connect=0.01, first_byte=0.4),
        headers=(("Set-Cookie", "canary"), ("Server", "nginx"), ("X-Odd", "\udcff")),
    )
    sent = (("webhook-id", "d1"), ("authorization", "[redacted]"))
    await relay.settle([replace(attempted(delivery, came), request_headers=sent)])
    ((timing, request, response),) = rows(
        database, "SELECT timing, request_headers, answer_headers FROM outspoken_attempts"
    )
    assert json.loads(timing) == {"dns": 0.001, "connect": 0.01, "first_byte": 0.4}
    assert json.loads(request) == [["webhook-id", "d1"], ["authorization", "[redacted]"]]
    assert json.loads(response) == [["Set-Cookie", "[redacted]"], ["Server", "nginx"], ["X-Odd", "\udcff"]]


async def test_a_link_instead_of_the_body_is_remembered(database: Database, relays: Open) -> None:
    relay = relays()
    delivery = await one_claimed(database, relay)
    assert not delivery.pointer
    await end(relay, delivery, answer(413), Retry(START, pointer=True))
    (again,) = await claim(relay)
    assert again.pointer


async def test_a_link_teaches_nothing_about_size(database: Database, relays: Open) -> None:
    relay = relays()
    delivery = await one_claimed(database, relay)
    for status in (200, 413):
        forged = replace(delivery, pointer=True, body_bytes=9_000_000)
        await end(relay, forged, answer(status), Retry(START))
        (delivery,) = await claim(relay)
    assert await relay.body_limits(*delivery.endpoint) == BodyLimits()


async def test_gone_is_the_url_until_an_operator_enables_it(database: Database, relays: Open) -> None:
    gone_url, neighbour = "https://receiver.example/hook?caller=1", "https://receiver.example/hook?caller=2"
    put(database, new("gone", gone_url), new("held", gone_url), new("fine", neighbour), due_at=START)
    relay = relays()
    first, held, fine = await claim(relay)
    await end(relay, first, answer(410), Dead(Reason.GONE))
    await relay.release([held.lease, fine.lease], sent=False)
    again = {delivery.id: delivery.gone for delivery in await claim(relay)}
    assert again == {"held": True, "fine": False}
    assert rows(database, "SELECT origin, path FROM outspoken_gone_urls") == [("https://receiver.example:443", "/hook")]
    assert rows(database, "SELECT path, state, held FROM outspoken_destinations") == [("", "active", 0)]


async def test_a_claim_brings_first_what_was_due_first(database: Database, relays: Open) -> None:
    put(database, new("later"), due_at=START)
    put(database, *many(2), due_at=START - 5)
    assert [delivery.id for delivery in await claim(relays())] == ["d1", "d2", "later"]


async def test_a_stale_settlement_changes_nothing_and_is_said(database: Database, relays: Open, clock: Clock) -> None:
    late, heir = relays(), relays()
    first = await one_claimed(database, late)
    clock.now = START + 60
    await claim(heir)
    before = rows(database, "SELECT * FROM outspoken_deliveries")
    assert await late.settle([attempted(first)]) == {first.lease}
    assert rows(database, "SELECT * FROM outspoken_deliveries") == before
    assert rows(database, "SELECT * FROM outspoken_attempts") == []


async def test_a_second_settlement_of_one_lease_is_stale(database: Database, relays: Open) -> None:
    relay = relays()
    delivery = await one_claimed(database, relay)
    assert await relay.settle([attempted(delivery)]) == frozenset()
    assert await relay.settle([attempted(delivery, answer(500), Dead(Reason.EXHAUSTED))]) == {delivery.lease}
    assert states(database) == {"d1": "delivered"}


async def test_a_batch_settles_the_fresh_beside_the_stale(database: Database, relays: Open) -> None:
    put(database, *many(3), due_at=START)
    relay = relays()
    first, second, third = await claim(relay)
    forged = replace(second, lease=Lease(second.lease.seq, "somebody.1"))
    assert await relay.settle([attempted(first), attempted(forged), attempted(third)]) == {forged.lease}
    assert states(database) == {"d1": "delivered", "d2": "leased", "d3": "delivered"}


async def test_an_end_that_is_written_again_is_stale(database: Database, relays: Open) -> None:
    put(database, *many(2), due_at=START)
    relay = relays()
    first, second = await claim(relay)
    assert await relay.settle([attempted(first)]) == frozenset()
    assert await relay.settle([attempted(first), attempted(second)]) == {first.lease}
    assert rows(database, "SELECT count(*) FROM outspoken_attempts GROUP BY seq") == [(1,), (1,)]


async def test_a_destination_teaches_its_body_limit(database: Database, relays: Open) -> None:
    relay = relays()
    origin = "https://receiver.example:443"
    assert await relay.body_limits(origin, "/hook") == BodyLimits()
    sizes = [(100, 200), (5000, 413), (300, 200), (400, 413), (900, 413), (200, 200), (9000, 500)]
    for number, (size, status) in enumerate(sizes):
        put(database, new(f"d{number}", body=b"x" * size), due_at=START)
        (delivery,) = await claim(relay)
        verdict = None if status == 200 else Dead(Reason.EXHAUSTED)
        await relay.settle([attempted(delivery, answer(status), verdict)])
    assert await relay.body_limits(origin, "/hook") == BodyLimits(largest_accepted=300, smallest_refused=400)
    assert await relay.body_limits(origin, "/another") == BodyLimits(largest_accepted=300)


async def test_a_large_body_is_read_and_used_where_it_holds_nobody_up(database: Database, relays: Open) -> None:
    put(database, new(body=bytes(200_000)), due_at=START)
    relay = relays()
    (delivery,) = await claim(relay)
    assert await relay.with_body(delivery, lambda _: threading.get_ident()) != threading.get_ident()


async def test_the_body_is_the_same_on_every_attempt(database: Database, relays: Open) -> None:
    body = bytes(range(256)) * 2000
    put(database, new(body=body), due_at=START)
    relay = relays()
    for _ in range(3):
        (delivery,) = await claim(relay)
        assert await relay.with_body(delivery, bytes) == body
        await relay.settle([attempted(delivery, answer(500), Retry(START))])


# --- counting


async def test_a_snapshot_counts_what_waits(database: Database, relays: Open, clock: Clock) -> None:
    put(database, *many(2, prefix="ready"), due_at=START - 7)
    put(database, *many(3, prefix="later"), due_at=START + 7)
    put(database, new("running"), new("lost"), new("done"), due_at=1.0)
    relay = relays()
    _, lost, done = await claim(relay, 3)
    await relay.settle([attempted(lost, answer(500), Dead(Reason.GONE)), attempted(done)])
    rows(database, "UPDATE outspoken_deliveries SET created_at = ?", START - 50)
    rows(database, "UPDATE outspoken_deliveries SET created_at = ? WHERE id = 'done'", 0.0)
    snapshot = await relay.snapshot(16)
    assert (snapshot.queues.ready, snapshot.queues.scheduled, snapshot.in_flight, snapshot.dead) == (2, 3, 1, 1)
    assert (snapshot.queues.ready_age, snapshot.oldest_undelivered_age) == (7.0, 50.0)
    assert snapshot.taken_at == START


async def test_an_empty_outbox_has_nothing_late(relays: Open) -> None:
    snapshot = await relays().snapshot(16)
    assert snapshot.queues == QueueDepths(ready=0, scheduled=0, held=0, ready_age=0.0, held_age=0.0, worst={})
    assert (snapshot.in_flight, snapshot.dead, snapshot.oldest_undelivered_age) == (0, 0, 0.0)
    assert (snapshot.destination_states, snapshot.held_up) == ({}, frozenset())
    assert snapshot.since == QueueChanges(added={}, replayed={}, cancelled=0, opened=0, closed=0)


async def test_what_is_not_due_yet_is_not_late(database: Database, relays: Open) -> None:
    put(database, new(), due_at=START + 100)
    assert (await relays().snapshot(16)).queues.ready_age == 0.0


async def test_intake_is_counted_by_kind_since_the_last_snapshot(database: Database, relays: Open) -> None:
    put(database, new("before"))
    relay = relays()
    assert (await relay.snapshot(16)).since.added == {}
    put(database, new("a"), new("b", kind=Kind.ERROR), new("c"))
    assert (await relay.snapshot(16)).since.added == {Kind.FINAL: 2, Kind.ERROR: 1}
    assert (await relay.snapshot(16)).since.added == {}


def put_one_by_one(database: Database, count: int) -> None:
    for delivery in many(count):
        put(database, delivery)


async def test_intake_during_a_count_is_counted_once(database: Database, relays: Open) -> None:
    relay = relays()
    await relay.snapshot(16)
    producer = threading.Thread(target=put_one_by_one, args=(database, 100))
    producer.start()
    seen = 0
    while producer.is_alive():
        seen += sum((await relay.snapshot(16)).since.added.values())
    producer.join()
    seen += sum((await relay.snapshot(16)).since.added.values())
    assert seen == 100


# --- several relays

CLAIM_EVERYTHING = """
import asyncio, json, sys
from relay.outbox import OUTBOX, database_at
from relay.queue.claims import ClaimRequest
from relay.queue.group import Membership
from relay.queue.deliveries import DeliveryQueue

async def main(database):
    outbox = DeliveryQueue(database)
    print("ready", flush=True)
    sys.stdin.readline()
    mine = []
    while claims := (await outbox.claim(ClaimRequest(5, 5, 5, few=5))).deliveries:
        mine += [delivery.id for delivery in claims]
    await outbox.close()
    print(json.dumps(mine))

database = database_at(sys.argv[1])
database.migrate([OUTBOX])
asyncio.run(main(database))
"""


@pytest.mark.acceptance
async def test_four_relays_share_one_database_and_claim_nothing_twice(database: Database, url: str) -> None:
    put(database, *many(400))
    pipe = asyncio.subprocess.PIPE
    relays = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", CLAIM_EVERYTHING, url, stdin=pipe, stdout=pipe)
        for _ in range(4)
    ]
    for relay in relays:
        assert relay.stdout is not None
        assert await relay.stdout.readline() == b"ready\n"
    said = await asyncio.gather(*(relay.communicate(b"go\n") for relay in relays))
    claimed = [json.loads(out) for out, _ in said]
    assert sum(map(len, claimed)) == len(set().union(*claimed)) == 400
    assert sum(map(bool, claimed)) > 1  # or else nobody was there to claim anything twice


async def test_attempts_settled_together_keep_what_happened_in_each(database: Database, relays: Open) -> None:
    put(database, *many(4))
    relay = relays()
    peers = [None, "10.0.0.1:443", None, "10.0.0.2:443"]
    odd: Any = {"headers": (("x", "a\nb\\"),), "excerpt": b"a\nb"}
    came = [attempted(one, answer(peer=peer, **odd)) for one, peer in zip(await claim(relay, 4), peers, strict=True)]
    await relay.settle(came[:1])
    await relay.settle(came[1:])
    kept = rows(database, "SELECT peer, answer_headers, excerpt FROM outspoken_attempts ORDER BY seq")
    assert [peer for peer, *_ in kept] == peers
    assert {(json.loads(headers)[0][1], bytes(excerpt)) for _, headers, excerpt in kept} == {("a\nb\\", b"a\nb")}


async def test_an_attempt_of_a_failing_write_is_all_or_nothing(database: Database, relays: Open) -> None:
    put(database, *many(2), due_at=START)
    relay = relays()
    fine, odd = await claim(relay)
    broken: Attempted = replace(attempted(odd), answer=answer(200, peer="\udcff"))
    with pytest.raises(Exception, match="surrogates not allowed"):
        await relay.settle([attempted(fine), broken])
    assert states(database) == {"d1": "leased", "d2": "leased"}
    assert rows(database, "SELECT * FROM outspoken_attempts") == []


# --- left alone

RECEIVER = "https://receiver.example:443"


@pytest.mark.parametrize("state", ["paused", "disabled"])
async def test_an_operator_keeps_deliveries_back(database: Database, relays: Open, state: str) -> None:
    put(database, *many(2), new("other", "http://other.example/"), due_at=START)
    stand(database, state)
    relay = relays()
    assert ids(await claim(relay)) == ["other"]
    stand(database, "active")
    assert ids(await claim(relay)) == ["d1", "d2"]


@pytest.mark.parametrize("state", ["paused", "disabled"])
@pytest.mark.parametrize("more", [True, False], ids=["with more to claim", "with nothing to claim"])
async def test_whoever_holds_something_hears_that_it_must_stay(
    database: Database, relays: Open, state: str, more: bool
) -> None:
    put(database, new("held"), new("fine", "http://other.example/"), due_at=START)
    relay = relays()
    held = {delivery.endpoint: 1 for delivery in await claim(relay)}
    stand(database, state)
    if more:
        put(database, new("more", "http://other.example/"), due_at=START)
    claims = await relay.claim(want(9, endpoints=held, ahead=held))
    assert ids(claims.deliveries) == (["more"] if more else [])
    assert claims.blocked == claims.stopped == {(RECEIVER, "/hook")}
    assert (await relay.claim(want(9))).blocked == frozenset()


# --- given up unsent


async def test_what_waited_too_long_for_a_paused_destination_is_given_up(database: Database, relays: Open) -> None:
    put(database, new("old"), due_at=START - 100)
    put(database, new("young"), due_at=START - 50)
    stand(database, "paused")
    relay = relays()
    await sort_out(relay)
    assert await relay.expire(START - 100) == 0
    assert await relay.expire(START - 60) == 1
    assert rows(database, "SELECT id, state, reason, attempts, finished_at FROM outspoken_deliveries ORDER BY seq") == [
        ("old", "dead", "expired", 0, START),
        ("young", "pending", None, 0, None),
    ]


async def test_what_is_late_because_no_relay_ran_gets_its_attempts(database: Database, relays: Open) -> None:
    put(database, new(), due_at=1.0)
    relay = relays()
    assert await relay.expire(START) == 0
    assert ids(await claim(relay)) == ["d1"]


async def test_what_is_being_sent_is_not_given_up(database: Database, relays: Open) -> None:
    put(database, new(), due_at=1.0)
    relay = relays()
    await claim(relay)
    stand(database, "paused")
    assert await relay.expire(START) == 0


async def test_a_backlog_is_given_up_in_slices(database: Database, relays: Open) -> None:
    put(database, *many(1200), due_at=1.0)
    stand(database, "disabled")
    relay = relays()
    await sort_out(relay)
    assert [await relay.expire(START) for _ in range(4)] == [500, 500, 200, 0]


# --- who is at work


async def test_relays_that_check_in_are_counted_until_they_have_been_silent_or_said_goodbye(
    database: Database, relays: Open, clock: Clock
) -> None:
    one, other = relays(), relays()
    assert await one.group.check_in() == Membership(0, 1)
    assert (await other.group.check_in()).relays == (await one.group.check_in()).relays == 2
    assert {(await one.group.check_in()).rank, (await other.group.check_in()).rank} == {0, 1}
    clock.now += 16
    third = relays()
    assert await third.group.check_in() == Membership(0, 1)
    await third.group.leave()
    (last,) = rows(database, "SELECT at, source, act FROM outspoken_audit")
    assert last == (clock.now, "relay", "relay.stop")
    fourth = relays()
    assert await fourth.group.check_in() == Membership(0, 1)
    await relays().group.leave()  # and is not the last one
    assert rows(database, "SELECT count(*) FROM outspoken_audit") == [(1,)]


async def test_a_secret_is_shared_by_whoever_opens_the_database(database: Database) -> None:
    first, second = Results(database), Results(database)
    secret = await first.secret()
    assert secret == await second.secret()
    assert len(secret) == 32
    await first.close()
    await second.close()
