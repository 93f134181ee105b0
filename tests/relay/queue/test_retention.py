"""What is forgotten, when, and how little of the time of others that takes."""

from __future__ import annotations

import asyncio
import time

from relay import outbox
from relay.outbox.model import NewDelivery, OnDead, Stream
from relay.outbox.store import Connection, Database
from relay.queue.retention import DAY, DeliveryRetention, Pruned, prune, prune_slice, stream_slice, survey
from tests.relay.admin.past import ended
from tests.relay.databases import on_sqlite
from tests.relay.deliveries import URL, many, new, put, rows, writing

KEPT = DeliveryRetention(delivered=7 * DAY, bodies=3 * DAY, dead=30 * DAY, attempts=5 * DAY, audit=9 * DAY)


def added_long_ago(database: Database, days: float = 400.0) -> None:
    rows(database, "UPDATE outspoken_deliveries SET created_at = ?", time.time() - days * DAY)


def left(database: Database) -> tuple[set[str], set[str], set[str]]:
    """Ids of the deliveries that are left, of those with a body, and of those with attempts."""
    queries = (
        "SELECT id FROM outspoken_deliveries",
        "SELECT id FROM outspoken_deliveries JOIN outspoken_bodies USING (seq)",
        "SELECT DISTINCT id FROM outspoken_deliveries JOIN outspoken_attempts USING (seq)",
    )
    deliveries, bodies, attempts = ({row[0] for row in rows(database, query)} for query in queries)
    return deliveries, bodies, attempts


async def test_each_kind_is_kept_for_its_own_time(database: Database) -> None:
    now = time.time()
    put(database, *(new(name) for name in ("fresh", "read", "old", "letter", "stale", "given-up")))
    added_long_ago(database)
    for name, state, days in (
        ("fresh", "delivered", 1),
        ("read", "delivered", 4),
        ("old", "delivered", 8),
        ("letter", "dead", 20),
        ("stale", "dead", 31),
        ("given-up", "cancelled", 8),
    ):
        ended(database, name, state, at=now - days * DAY, attempts=2)
    pruned = await prune(database, KEPT, now)
    assert left(database) == ({"fresh", "read", "letter"}, {"fresh", "letter"}, {"fresh", "read"})
    assert pruned == Pruned(deliveries=3, bodies=4, body_bytes=4 * 16, attempts=4 * 2)


async def test_what_is_pending_or_leased_is_never_touched_however_old(database: Database) -> None:
    put(database, *many(4), due_at=1.0)
    added_long_ago(database, days=9000)
    rows(
        database,
        "UPDATE outspoken_deliveries SET state = 'leased', lease_token = 'x.1', lease_until = 5 WHERE id = 'd2'",
    )
    nothing = DeliveryRetention(0, 0, 0, 0, 0)
    assert await prune(database, nothing, time.time()) == Pruned()
    assert left(database)[:2] == ({"d1", "d2", "d3", "d4"},) * 2


async def test_a_dry_run_counts_the_same_and_forgets_nothing(database: Database) -> None:
    now = time.time()
    put(database, *many(30))
    added_long_ago(database)
    for number in range(1, 21):
        ended(database, f"d{number}", "delivered", at=now - number * DAY)
    rows(
        database,
        "INSERT INTO outspoken_audit (at, actor, source, act, detail) VALUES (?, 'a', 'cli', 'x', '{}')",
        now - 10 * DAY,
    )
    counted = await asyncio.to_thread(survey, database, KEPT, now, size=7)
    assert len(left(database)[0]) == 30
    assert await prune(database, KEPT, now, size=7) == counted
    assert counted.deliveries == 14
    assert counted.audit == 1


async def test_the_walk_goes_slice_by_slice_and_stops_where_all_is_young(database: Database) -> None:
    now = time.time()
    put(database, *many(50))
    added_long_ago(database)
    put(database, *many(50, prefix="young"))
    writer = database.writer()
    after: int | None = 0
    slices = []
    while after is not None:
        step = await prune_slice(writer, KEPT, now, after, size=20)
        after = step.after
        slices.append(after)
    await writer.close()
    assert slices == [20, 40, None]


async def test_a_slice_ends_when_its_time_is_up(database: Database) -> None:
    put(database, *many(100))
    added_long_ago(database)
    rows(database, "UPDATE outspoken_deliveries SET state = 'dead', reason = 'exhausted', finished_at = 1")
    writer = database.writer()
    step = await prune_slice(writer, KEPT, time.time(), budget=0.0)
    await writer.close()
    assert (step.pruned.deliveries, step.after) == (20, 20)
    assert len(left(database)[0]) == 80


@on_sqlite
async def test_the_file_shrinks_and_a_producer_hardly_waits(database: Database) -> None:
    now = time.time()
    large = bytes(100_000)
    put(database, *(new(f"d{number}", body=large) for number in range(300)))
    added_long_ago(database)
    rows(database, "UPDATE outspoken_deliveries SET state = 'dead', reason = 'exhausted', finished_at = 1")
    before = rows(database, "PRAGMA page_count")[0][0]
    waits: list[float] = []
    pruning = asyncio.create_task(prune(database, KEPT, now))
    while not pruning.done():
        began = time.perf_counter()
        await asyncio.to_thread(put, database, new(f"busy{len(waits)}"))
        waits.append(time.perf_counter() - began)
    assert (await pruning).body_bytes == 300 * 100_000
    assert rows(database, "PRAGMA page_count")[0][0] < before / 10
    assert max(waits) < sum(waits) / 2  # none waits for most of the pass
    assert len(left(database)[0]) == len(waits) > 1


def of_stream(key: str, *ids: str, on_dead: OnDead = OnDead.SKIP) -> list[NewDelivery]:
    return [new(id_, stream=Stream(key, on_dead)) for id_ in ids]


def streams(database: Database) -> set[str]:
    return {key for (key,) in rows(database, "SELECT key FROM outspoken_streams")}


async def test_a_stream_is_forgotten_with_the_last_of_its_deliveries(database: Database) -> None:
    now = time.time()
    put(database, *of_stream("over", "o1", "o2"), *of_stream("half", "h1", "h2"), *of_stream("waiting", "w1"))
    put(database, *of_stream("killed", "k1", "k2", on_dead=OnDead.KILL), new("alone"))
    killed = (
        "UPDATE outspoken_streams SET state = 'killed', reason = 'delivery_dead', finished_at = ? WHERE key = 'killed'"
    )
    rows(database, killed, now - 31 * DAY)
    added_long_ago(database)
    for id_, state, days in (("o1", "delivered", 8), ("o2", "dead", 31), ("h1", "delivered", 8), ("h2", "dead", 8)):
        ended(database, id_, state, at=now - days * DAY)
    for id_ in ("k1", "k2"):
        ended(database, id_, at=now - 31 * DAY)
    counted = await asyncio.to_thread(survey, database, KEPT, now)
    assert await prune(database, KEPT, now) == counted
    assert (counted.streams, streams(database)) == (2, {"half", "waiting"})
    assert (await prune(database, KEPT, now)).streams == 0


async def test_a_stream_that_somebody_looks_after_or_may_ask_for_stays(database: Database) -> None:
    now = time.time()

    def begin(connection: Connection) -> None:
        for key, url in (("socket", "wss://receiver.example/"), ("live", URL), ("just over", URL), ("long over", URL)):
            outbox.begin_stream(connection, Stream(key, live_until=now + 60), url)
        for key in ("just over", "long over"):
            outbox.end_stream(connection, key)
        connection.execute("UPDATE outspoken_streams SET finished_at = 1 WHERE key = 'long over'")

    writing(database, begin)
    assert (await asyncio.to_thread(survey, database, KEPT, now)).streams == 1
    assert (await prune(database, KEPT, now)).streams == 1
    assert streams(database) == {"socket", "live", "just over"}


async def test_a_key_that_is_used_again_later_names_another_stream_and_counts_from_one(database: Database) -> None:
    put(database, *of_stream("session", "s1", "s2"))
    (before,) = rows(database, "SELECT id FROM outspoken_streams")[0]
    added_long_ago(database)
    for id_ in ("s1", "s2"):
        ended(database, id_, "delivered")
    await prune(database, KEPT, time.time())
    put(database, *of_stream("session", "s3", "s4"))
    assert rows(database, "SELECT stream_id > ?, position FROM outspoken_deliveries ORDER BY seq", before) == [
        (1, 1),
        (1, 2),
    ]


async def test_streams_are_walked_through_in_slices(database: Database) -> None:
    put(database, *(new(f"d{number}", stream=Stream(f"s{number}")) for number in range(1, 51)))
    rows(database, "UPDATE outspoken_deliveries SET stream_id = NULL, position = NULL WHERE seq > 10")
    writer = database.writer()
    first = await stream_slice(writer, KEPT, 1.0, size=20)
    second = await stream_slice(writer, KEPT, 1.0, 20, size=40)
    await writer.close()
    assert (first.pruned.streams, first.after) == (10, 20)
    assert (second.pruned.streams, second.after) == (30, None)


async def test_a_retired_key_is_a_secret_no_longer_kept(database: Database) -> None:
    now = time.time()
    for key, retires_at in (("whsec_a", now - 1), ("whsec_b", now + 60), ("whsec_c", None)):
        rows(
            database,
            "INSERT INTO outspoken_signing_keys (key, created_at, retires_at) VALUES (?, 1, ?)",
            key,
            retires_at,
        )
    assert (await asyncio.to_thread(survey, database, KEPT, now)).keys == 1
    assert (await prune(database, KEPT, now)).keys == 1
    assert rows(database, "SELECT key FROM outspoken_signing_keys ORDER BY id") == [("whsec_b",), ("whsec_c",)]


async def test_an_endpoint_that_failed_long_ago_is_forgotten_unless_there_is_more_to_know(database: Database) -> None:
    now = time.time()
    for path, starts, refused in (("/old", now - 2 * DAY, None), ("/young", now - 60, None), ("/small", 1.0, 4096)):
        rows(
            database,
            "INSERT INTO outspoken_destinations (origin, path, failures, starts, smallest_refused) "
            "VALUES ('http://h.example:80', ?, 3, ?, ?)",
            path,
            f"[{starts}]",
            refused,
        )
    await prune(database, KEPT, now)
    assert set(rows(database, "SELECT path FROM outspoken_destinations")) == {("/young",), ("/small",)}
