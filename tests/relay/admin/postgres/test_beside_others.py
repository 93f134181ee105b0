"""Operators act while relays, retention and each other are at work on the same rows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from relay.admin import keys, operations
from relay.admin.access import Refused
from relay.admin.inspection import Tail
from relay.admin.operations import BulkSelection
from relay.outbox import OUTBOX, add
from relay.outbox.model import Stream
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database
from relay.queue.retention import DeliveryRetention, prune
from relay.queue.settling import step_stream
from tests.relay.admin.past import OPERATOR, attempt, change, ended, tried
from tests.relay.deliveries import many, new, put, rows, states
from tests.services.postgres import Server

pytestmark = [pytest.mark.needs("postgres"), pytest.mark.parametrize("database", ["postgres"], indirect=True)]

ORIGIN = "https://receiver.example:443"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@contextmanager
def meanwhile(work: Callable[[], Any]) -> Iterator[Future[Any]]:
    """`work` is done by somebody else, who may have to wait for what a test has open."""
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(work)


def until_somebody_waits(connection: Connection) -> None:
    """For a lock that this connection's transaction holds."""
    for _ in range(2000):
        connection.execute("SELECT pg_stat_clear_snapshot()")
        if connection.execute(WAITING).fetchone()[0]:
            return
        connection.execute("SELECT pg_sleep(0.005)")
    raise AssertionError("nobody waits")


def cancelled(database: Database, *ids: str) -> int:
    selection = BulkSelection(ids)
    plan = operations.plan_cancel(database, selection)
    return list(operations.cancel(database, selection, plan, OPERATOR))[-1].done


def replayed(database: Database, *ids: str) -> int:
    selection = BulkSelection(ids)
    plan = operations.plan_replay(database, selection)
    return list(operations.replay(database, selection, plan, OPERATOR))[-1].done


def test_what_a_relay_is_just_claiming_is_left_to_it_and_not_waited_for(database: Database) -> None:
    put(database, *many(3))
    with database.writing() as claim:
        claim.execute(
            "UPDATE outspoken_deliveries SET state = 'leased', lease_token = 'r.1', lease_until = 9e9 WHERE id = 'd2'"
        )
        assert cancelled(database, "d1", "d2", "d3") == 2
    assert states(database) == {"d1": "cancelled", "d2": "leased", "d3": "cancelled"}


def test_what_is_replayed_keeps_its_body_although_retention_is_about_to_forget_it(database: Database) -> None:
    put(database, *many(2))
    ended(database, "d1", "delivered", at=1.0)
    ended(database, "d2", "delivered", at=1.0)
    with database.writing() as replay:
        values = {"seq": 1, "due_at": 5.0}
        assert replay.execute(statement("replay", "relay.admin"), values).rowcount == 1
        with meanwhile(lambda: asyncio.run(prune(database, DeliveryRetention(), 9e9))) as pruning:
            until_somebody_waits(replay)
            replay.execute("COMMIT")
            replay.execute("BEGIN")
            assert pruning.result(10).deliveries == 1
    assert states(database) == {"d1": "pending"}
    assert rows(database, "SELECT seq FROM outspoken_bodies") == [(1,)]


def test_what_retention_is_forgetting_is_not_replayed(database: Database) -> None:
    put(database, new())
    ended(database, "d1", "delivered", at=1.0)
    with database.writing() as retention:
        retention.execute(statement("forget_body", "relay.queue"), {"seq": 1})
        assert replayed(database, "d1") == 0
    assert states(database) == {"d1": "delivered"}


def test_a_stream_whose_delivery_is_ending_is_waited_for_and_one_of_it_is_due(database: Database) -> None:
    put(database, *(new(id_, stream=Stream("session")) for id_ in ("s1", "s2", "s3")))
    with database.writing() as settlement:
        settlement.execute(
            "UPDATE outspoken_deliveries SET state = 'dead', reason = 'refused', finished_at = 1 WHERE id = 's1'"
        )
        step_stream(settlement, 1, 5.0, dead=False)  # s2 is due
        with meanwhile(lambda: cancelled(database, "s2")) as cancelling:
            until_somebody_waits(settlement)
            settlement.execute("COMMIT")
            settlement.execute("BEGIN")
            assert cancelling.result(10) == 1
    assert states(database) == {"s1": "dead", "s2": "cancelled", "s3": "pending"}
    assert rows(database, "SELECT id FROM outspoken_deliveries WHERE state = 'pending' AND due_at IS NOT NULL") == [
        ("s3",)
    ]


def test_acts_on_the_same_streams_from_both_ends_do_not_stand_in_each_other_s_way(database: Database) -> None:
    put(database, *(new(f"{key}{number}", stream=Stream(key)) for number in range(20) for key in "abcde"))
    mine = [f"{key}{number}" for number in range(10) for key in "abcde"]
    yours = [f"{key}{number}" for number in range(10, 20) for key in "edcba"]
    with meanwhile(lambda: cancelled(database, *yours)) as cancelling:
        assert cancelled(database, *mine) == 50
        assert cancelling.result(10) == 50
    assert set(states(database).values()) == {"cancelled"}


def test_a_destination_that_a_relay_disables_is_not_resumed(database: Database) -> None:
    put(database, new())
    operations.pause(database, ORIGIN, OPERATOR)
    with database.writing() as relay:
        relay.execute("UPDATE outspoken_destinations SET state = 'disabled' WHERE path = ''")
        with meanwhile(lambda: operations.resume(database, ORIGIN, OPERATOR)) as resuming:
            until_somebody_waits(relay)
            relay.execute("COMMIT")
            relay.execute("BEGIN")
            with pytest.raises(Refused, match="is disabled"):
                resuming.result(10)


def test_two_who_retire_keys_leave_one(database: Database) -> None:
    for _ in range(2):
        keys.add(database, keys.generate(), None, OPERATOR, 1.0)
    with database.writing() as other:
        other.execute(statement("lock_keys", "relay.admin"))
        other.execute("UPDATE outspoken_signing_keys SET retires_at = 2 WHERE id = 1")
        with meanwhile(lambda: keys.retire(database, 2, OPERATOR, 2.0)) as retiring:
            until_somebody_waits(other)
            other.execute("COMMIT")
            other.execute("BEGIN")
            with pytest.raises(Refused, match="last one"):
                retiring.result(10)


def test_a_tail_misses_no_delivery_that_was_committed_after_a_later_one(database: Database) -> None:
    put(database, new("first"))  # a new destination, one of them would wait for
    watched = Tail(database)
    watched.recent(0)
    with database.writing() as slow:
        add(slow, new("slow"))
        put(database, new("quick"))
        assert watched.news() == ()
        attempt(slow, "slow", 1, 10.0, "dns")
    tried(database, "quick", 1, 11.0, "tls")
    assert [one.id for one in watched.news()] == ["slow", "quick"]


@pytest.fixture
def grown(database: Database, postgres: Server) -> Iterator[Database]:
    """Much was delivered, and statistics know it; in a database of its own, so that no other test plans by them."""
    name = postgres.create()
    big = PostgresDatabase(postgres.url(name))
    big.migrate([OUTBOX])
    change(big, "INSERT INTO outspoken_destinations (origin) VALUES ('https://h:443')")
    change(
        big,
        "INSERT INTO outspoken_deliveries (id, origin, path, url, body_bytes, created_at, due_at, state, "
        "attempts, finished_at,"
        " reason) SELECT 'h' || i, 'https://h:443', '/', 'https://h/', 2, 1, 1, s, 1,"
        " CASE WHEN s <> 'pending' THEN 2 END,"
        " CASE WHEN s = 'dead' THEN 'exhausted' END FROM (SELECT i,"
        " CASE WHEN i <= 20 THEN 'dead' WHEN i <= 40 THEN 'pending' ELSE 'delivered' END AS s"
        " FROM generate_series(1, 20000) AS i) AS past",
    )
    change(
        big,
        "INSERT INTO outspoken_attempts (seq, number, started_at, lag, duration, outcome, status)"
        " SELECT seq, 1, 1, 0, 0.1, 'success', 200 FROM outspoken_deliveries",
    )
    postgres.sql("VACUUM ANALYZE", name=name)
    yield big
    postgres.drop(name)


VALUES: dict[str, object] = {
    "now": 20_000.0, "midnight": 0.0, "seen_since": 0.0, "older": 2**63 - 1, "floor": 0, "effort": 500, "limit": 50,
    "state": None, "destination": None, "id_prefix": None, "since": None, "until": None, "outcome": None, "tag": None,
    "owner": None, "origin": "https://h:443", "path": "", "id": "h1", "seq": 1, "ids": '["h1"]',
    "origins": '["https://h:443"]', "often": 3, "late_before": 19_940.0,
}  # fmt: skip
QUESTIONS: tuple[tuple[str, Mapping[str, object]], ...] = (
    *(
        (name, {})
        for name in (
            *("status", "origins_in_question", "count_origins", "destinations", "waiting_lines", "under_way"),
            *("evidence", "retried", "show", "history", "named", "keys"),
        )
    ),
    *(("reach", {"state": state}) for state in (None, "pending", "leased", "dead", "delivered")),
    *(("list", {"state": state}) for state in ("pending", "leased", "dead")),
    *(("list", {"state": state, "floor": 19_500}) for state in (None, "delivered")),
    *(("matching", {"state": state}) for state in ("dead", "pending")),
    *((name, {"state": "dead", "tag": "t"}) for name in ("reach", "list", "matching")),
)


def test_what_a_page_asks_reads_nothing_of_what_was_delivered_long_ago(grown: Database) -> None:
    looked_at = {}
    with grown.reading() as connection:
        for name, narrowed in QUESTIONS:
            asked = statement(name, "relay.admin").postgres
            plan = connection.execute(f"EXPLAIN (ANALYZE, TIMING OFF) {asked}", {**VALUES, **narrowed}).fetchall()
            looked_at[name, *narrowed.values()] = "\n".join(line for (line,) in plan)
    expensive = {question: plan for question, plan in looked_at.items() if _rows(plan) > 5000}
    assert not expensive, "\n\n".join(f"{question}\n{plan}" for question, plan in expensive.items())


RECORD: Mapping[str, object] = {
    "token": "h.1", "number": [2], "started_at": [1.0], "lag": [0.0], "duration": [0.1], "status": [200],
    "peer": "", "detail": [""], "timing": "{}", "request_headers": "[]", "answer_headers": "[]",
    "excerpt": [b""],
}  # fmt: skip
HOT: Mapping[str, Mapping[str, object]] = {
    "anything_to_do": {},
    "few_ready": {"most": 9},
    "claim_ready": {
        "wanted": '[["", "https://h:443", "/", 16]]', "keys": '[["https://h:443", "/"]]', "most": 384, "small": 8192,
        "token": "h.1", "until": 9e9, "now": 1.0,
    },
    "deliver_plain": {
        "keys": '[["https://h:443", "/", 2]]', "finished_at": 9.0, "seq": [21], "outcome": "success", **RECORD,
    },
    "settle_all": {
        "seq": [22], "outcome": "http_5xx", "state": ["dead"], "due_at": [None], "charged": [1], "pointer": [0],
        "finished_at": [9.0], "reason": ["exhausted"], **RECORD,
    },
    "lock_health": {"keys": '[["https://h:443", ""], ["https://h:443", "/"]]'},
}  # fmt: skip


def test_what_a_relay_asks_all_the_time_reads_nothing_of_what_was_delivered_long_ago(grown: Database) -> None:
    change(grown, "UPDATE outspoken_destinations SET largest_accepted = 2")
    looked_at = {}
    with grown.writing() as connection:
        for name, values in HOT.items():
            asked = statement(name, "relay.queue").postgres
            plan = connection.execute(f"EXPLAIN (ANALYZE, TIMING OFF) {asked}", values).fetchall()
            looked_at[name] = "\n".join(line for (line,) in plan)
        states = "SELECT state, count(*) FROM outspoken_deliveries WHERE seq BETWEEN 21 AND 40 GROUP BY state"
        assert dict(connection.execute(states).fetchall()) == {"dead": 1, "delivered": 1, "leased": 14, "pending": 4}
    expensive = {question: plan for question, plan in looked_at.items() if _rows(plan) > 1000}
    assert not expensive, "\n\n".join(f"{question}\n{plan}" for question, plan in expensive.items())


def _rows(plan: str) -> int:
    """Seen by any of its steps, or thrown away there."""
    seen = (int(rows) * int(loops) for rows, loops in re.findall(r"rows=(\d+) loops=(\d+)", plan))
    return sum(seen) + sum(int(rows) for rows in re.findall(r"Rows Removed by [\w ]+: (\d+)", plan))
