"""What a count of stats says: whose lateness it is, who is left alone, and what happened since the count before."""

from __future__ import annotations

import asyncio
from itertools import islice
from pathlib import Path

import pytest

from relay import outbox
from relay.admin import operations
from relay.admin.audit import Actor
from relay.admin.backup import backup
from relay.admin.operations import BulkSelection
from relay.outbox.model import OnDead, Stream
from relay.outbox.store import Database
from relay.policy.attempt import Dead, Reason
from relay.policy.breaker import THRESHOLD
from relay.queue.stats import QueueSnapshot, QueueStats
from tests.relay.databases import on_sqlite
from tests.relay.deliveries import answer, apart, attempted, many, new, put, rows
from tests.relay.queue.claims import START, Clock, Open, claim, end, sort_out
from tests.services.postgres import empty

WELL, ILL = "http://well.example:80", "http://ill.example:80"
OPERATOR = Actor("somebody", "cli")


def count(database: Database, slots: int = 16) -> QueueSnapshot:
    return apart(lambda: again(QueueStats(database), database, slots))


def again(stats: QueueStats, database: Database, slots: int = 16) -> QueueSnapshot:
    with database.reading() as connection:
        return stats.snapshot(connection, START, slots)


def two_destinations(database: Database) -> None:
    put(database, *many(2, WELL, "well"), due_at=START - 3)
    put(database, *many(3, ILL, "ill"), due_at=START - 900)


def test_what_is_due_where_nobody_may_call_is_held_and_nobodys_lateness_but_theirs(database: Database) -> None:
    two_destinations(database)
    operations.pause(database, ILL, OPERATOR)
    seen = count(database)
    assert (seen.queues.ready, seen.queues.held, seen.queues.scheduled) == (2, 3, 0)
    assert (seen.queues.ready_age, seen.queues.held_age) == (3.0, 900.0)
    assert seen.held_up == {ILL}
    assert seen.destination_states == {"paused": 1}


async def test_a_destination_whose_slots_are_all_taken_holds_up_what_else_is_due_there(
    database: Database, relays: Open
) -> None:
    put(database, *many(6, ILL), due_at=START - 9)
    await claim(relays(), most=4)
    assert (count(database, slots=5).queues.ready, count(database, slots=5).queues.held) == (2, 0)
    full = count(database, slots=4)
    assert (full.queues.ready, full.queues.held, full.in_flight, full.held_up) == (0, 2, 4, frozenset({ILL}))


async def test_the_claims_of_a_relay_that_died_hold_nothing_up(database: Database, relays: Open) -> None:
    put(database, *many(6, ILL), due_at=START - 9)
    await claim(relays(), most=4)
    rows(database, "UPDATE outspoken_deliveries SET lease_until = ? WHERE state = 'leased'", START - 1)
    assert count(database, slots=4).held_up == frozenset()


async def test_what_waits_for_its_stream_is_scheduled(database: Database) -> None:
    put(database, new("first", stream=Stream("s")), new("second", stream=Stream("s")))
    rows(database, "UPDATE outspoken_deliveries SET due_at = ? WHERE due_at IS NOT NULL", START - 1)
    assert (count(database).queues.ready, count(database).queues.scheduled) == (1, 1)


def test_the_destinations_with_most_that_waits_are_told_apart_and_no_others(database: Database) -> None:
    for number in range(12):
        put(database, *many(number + 1, f"http://h{number}.example/", f"h{number}-"), due_at=START + 5)
    worst = count(database).queues.worst
    assert sorted(worst.values()) == list(range(3, 13))
    assert worst["http://h11.example:80"] == 12


async def test_a_breaker_is_seen_to_open_and_to_close(database: Database, relays: Open, clock: Clock) -> None:
    relay = relays()
    put(database, *many(THRESHOLD + 1), due_at=START)
    assert (await relay.snapshot(16)).destination_states == {}
    for delivery in await claim(relay, THRESHOLD):
        await end(relay, delivery, answer(500))
    await sort_out(relay)
    opened = await relay.snapshot(16)
    assert (opened.destination_states, opened.since.opened, opened.since.closed) == ({"trickling": 1}, 1, 0)
    assert opened.queues.ready == 0
    clock.now = START + 100
    probe, *_ = await claim(relay)
    await end(relay, probe, at=START + 100)
    closed = await relay.snapshot(16)
    assert (closed.destination_states, closed.since.opened, closed.since.closed) == ({"slowed": 1}, 0, 1)


def test_what_operators_did_is_counted_as_it_goes_on(database: Database) -> None:
    put(database, *many(300, prefix="c"), *many(2, prefix="r"))
    rows(
        database,
        "UPDATE outspoken_deliveries SET state='dead', reason='gone', finished_at=1 WHERE id LIKE 'r%' RETURNING id",
    )
    stats = QueueStats(database)
    again(stats, database)
    pending = BulkSelection(limit=300)
    cancelling = operations.cancel(database, pending, operations.plan_cancel(database, pending), OPERATOR)
    (first,) = islice(cancelling, 1)
    assert first.done == 200
    assert again(stats, database).since.cancelled == 200
    list(cancelling)
    dead = BulkSelection()
    list(operations.replay(database, dead, operations.plan_replay(database, dead), Actor("somebody", "console")))
    since = again(stats, database).since
    assert (since.cancelled, since.replayed) == (100, {"console": 2})
    assert again(stats, database).since.cancelled == 0


def test_what_operators_did_before_the_first_count_is_history(database: Database) -> None:
    put(database, new())
    everything = BulkSelection()
    list(operations.cancel(database, everything, operations.plan_cancel(database, everything), OPERATOR))
    stats = QueueStats(database)
    assert [again(stats, database).since.cancelled for _ in range(2)] == [0, 0]


async def test_what_was_given_up_without_an_attempt_is_told_once(database: Database, relays: Open) -> None:
    stream = Stream("s", OnDead.KILL)
    put(database, *(new(f"d{number}", stream=stream) for number in range(4)), due_at=None)
    rows(database, "UPDATE outspoken_deliveries SET due_at = ? WHERE due_at IS NOT NULL", START)
    relay = relays()
    (head,) = await claim(relay)
    await relay.settle([attempted(head, answer(410), Dead(Reason.GONE))])
    put(database, *many(2, ILL, "late"), due_at=1.0)
    await asyncio.to_thread(operations.pause, database, ILL, OPERATOR)
    await sort_out(relay)
    await relay.expire(before=2.0)
    assert relay.take_ended() == {Reason.STREAM_KILLED: 3, Reason.EXPIRED: 2}
    assert not any(relay.take_ended().values())


def test_a_count_knows_the_oldest_key_that_signs(database: Database) -> None:
    assert count(database).key_age == 0.0
    rows(
        database,
        "INSERT INTO outspoken_signing_keys (key, created_at, retires_at)"
        " VALUES ('whsec_a', ?, 1e9), ('whsec_b', ?, NULL), ('whsec_c', ?, NULL)",
        *(START - 90, START - 60, START - 30),
    )
    assert count(database).key_age == 60.0


@on_sqlite
def test_a_count_knows_the_file_and_its_last_backup(database: Database, path: Path, folder: Path) -> None:
    assert count(database).backup_at == 0.0
    backup(database, folder / "copy.db", OPERATOR)
    after = count(database)
    assert after.backup_at > 0
    assert after.files.database == path.stat().st_size
    assert after.files.free


@pytest.mark.needs("postgres")
def test_what_is_committed_late_counts_too(postgres_outbox: Database) -> None:
    with postgres_outbox.writing() as connection:
        empty(connection)
    put(postgres_outbox, new())  # so that its destination is known
    stats = QueueStats(postgres_outbox)
    again(stats, postgres_outbox)
    with postgres_outbox.writing() as late:
        outbox.add(late, new("late"))  # its number is the lower one
        put(postgres_outbox, new("early"))
        meanwhile = sum(again(stats, postgres_outbox).since.added.values())
    assert meanwhile + sum(sum(again(stats, postgres_outbox).since.added.values()) for _ in range(3)) == 2
