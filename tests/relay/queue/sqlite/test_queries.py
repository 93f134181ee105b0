"""What the hot statements cost: which index they use, and how many steps of SQLite's machine they take."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from relay import outbox
from relay.outbox.queries import statement
from tests.cases import cases

HUNDRED_THOUSAND = 100_000
VALUES: dict[str, object] = {
    "now": 20_000.0,
    "before": 20_000.0,
    "slice": 10,
    "origin": "http://h:80",
    "stream_id": 1,
    "pointer": 0,
    "after": 0,
    "until": 2**63 - 1,
    "room": 16,
    "cap": 16,
    "each": 16,
    "lane": 1,
    "silent": 0,
    "tried": 1,
    "most": 16,
    "owners": '[["", ""]]',
    "origins": '[["", "http://h:80", ""]]',
    "groups": '[["", "http://h:80", "/"]]',
    "keys": '[["http://h:80", "/", "", 0]]',
    "owner": "",
    "path": "/held",
    "held": 1,
    "open": 0,
    "failures": 0,
    "starts": "[]",
    "slowed_at": 0.0,
    "allowed_at": 0.0,
    "charged": 1,
    "priority": 0,
    "seqs": "[1]",
    "last": 10**6,
    "well": '{"http://h:80": 1}',
    "slots": 16,
    "worst": 10,
    "seq": 1,
    "holder": "h",
    "token": "h.1",
    "state": "delivered",
    "finished_at": 1.0,
}

# The claim and everything else that an attempt costs; the statistics may read the live queue, every few seconds.
CLAIM = (
    "anything_to_do",
    "sweep",
    "fallen_due",
    "set_lane",
    "few_ready",
    "groups",
    "owners",
    "origins",
    "endpoints",
    "heads",
    "lease",
    "claimed",
)
ASKED = ("turns", "healths", "held_endpoints", "held_heads", "arm", "had_turn")
HOLD = ("turns", "healths", "held_endpoints", "held_heads", "arm", "had_turn", "forget_destination", "held_healths")
SETTLE = (
    "settle",
    "deliver",
    "delivered",
    "record_success",
    "record_attempt",
    "noteworthy",
    "lock_health",
    "record_health",
    "record_gone",
    "body_limits",
    "renew",
    "release",
    "give_back",
)
SEAL = ("body", "signing_keys", "keys_version")
STREAM = ("advance_stream", "kill_stream", "kill_followers", "expire")
# What producers do costs the relay as much: they share one file.
PRODUCERS = (
    *("add_delivery", "add_to_stream", "add_deliveries", "add_body", "add_stream", "end_stream", "stream_statuses"),
    *("secret", "result"),
)
LIVE = (
    "streams_to_tend",
    "streams_depend_on",
    "changed_streams",
    "messages",
    "close_streams",
)
MESSAGES = ("still_held", "end_messages")
REST = ("snapshot", "queues", "full", "added", "blocked", "gone", "heartbeat", "relays")
PARTIAL = re.compile(
    r"deliveries USING (COVERING )?INDEX outspoken_deliveries_(ready|held|waiting|scheduled|leased|dead|stream)\b"
)
ONE_ROW = re.compile(
    r"SEARCH (outspoken_)?deliveries USING "
    r"(INTEGER PRIMARY KEY|(COVERING )?INDEX sqlite_autoindex_outspoken_deliveries_1 \(id=\?\))"
)


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(outbox.connect(path)) as opened:
        opened.execute("PRAGMA synchronous = OFF")
        yield opened


def values_of(sql: str, values: dict[str, object] = VALUES) -> dict[str, object] | list[object]:
    """Something for every parameter of a statement."""
    return {parameter: values.get(parameter) for parameter in re.findall(r":(\w+)", sql)} or [None] * sql.count("?")


def sql_of(name: str) -> str:
    return statement(name, "relay.outbox" if name in PRODUCERS else "relay.queue")


def plan(connection: sqlite3.Connection, name: str) -> list[str]:
    sql = sql_of(name)
    return [detail for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values_of(sql))]


@cases("name", [*CLAIM, *HOLD, *SETTLE, *SEAL, *STREAM, *LIVE, *MESSAGES, *PRODUCERS, *REST])
def test_no_statement_reads_through_the_deliveries(connection: sqlite3.Connection, name: str) -> None:
    touching = [line for line in plan(connection, name) if re.search(r"\b(outspoken_)?deliveries\b", line)]
    assert [line for line in touching if not (PARTIAL.search(line) or ONE_ROW.search(line))] == []


@cases(
    ("name", "index"),
    [
        *(("anything_to_do", index) for index in ("deliveries_scheduled", "destinations_next", "deliveries_leased")),
        ("fallen_due", "deliveries_scheduled (due_at<?)"),
        ("few_ready", "deliveries_ready"),
        ("groups", "deliveries_ready (owner=? AND origin=? AND path>?)"),
        ("owners", "deliveries_ready (owner>?)"),
        ("origins", "deliveries_ready (owner=? AND origin>?)"),
        ("endpoints", "deliveries_ready (owner=? AND origin=? AND path>?)"),
        ("heads", "deliveries_ready (owner=? AND origin=? AND path=?)"),
        ("turns", "destinations_turn (silent=? AND tried=? AND owner>?)"),
        ("turns", "destinations_turn (silent=? AND tried=? AND owner=? AND turn_at<?)"),
        ("healths", "deliveries_leased (origin=? AND path=?)"),
        ("held_endpoints", "deliveries_held (origin=? AND path>?)"),
        ("held_heads", "deliveries_held (origin=? AND path=?)"),
        ("sweep", "deliveries_leased"),
        ("expire", "deliveries_waiting (due_at<?)"),
        ("add_to_stream", "deliveries_stream (stream_id=?)"),
        ("advance_stream", "deliveries_stream (stream_id=?)"),
        ("kill_followers", "deliveries_stream (stream_id=?)"),
        ("messages", "deliveries_stream (stream_id=? AND position>?)"),
        *((name, "streams_live") for name in ("streams_to_tend", "take_streams", "abandon_streams", "close_streams")),
        ("orphaned_streams", "streams_live"),
    ],
)
def test_a_claim_seeks_in_the_partial_index_made_for_it(connection: sqlite3.Connection, name: str, index: str) -> None:
    assert any(f"INDEX outspoken_{index}" in line for line in plan(connection, name))


def _names() -> str:
    """A beginning that no other ids have: at random each by itself, they would take longer to fill in than to test."""
    return f"'{uuid4()} '"


def fill(connection: sqlite3.Connection, count: int, fields: str, values: str, lane: str = "value % 3") -> None:
    connection.execute(
        "INSERT OR IGNORE INTO outspoken_destinations (origin, path, held, turn_at) "
        "VALUES ('http://h:80', '', 0, NULL), ('http://h:80', '/held', 1, 0.0)"
    )
    connection.execute(
        "INSERT OR IGNORE INTO outspoken_streams (id, key, on_dead, position) VALUES (1, 's', 'kill', 9000)"
    )
    connection.execute(
        f"WITH RECURSIVE n (value) AS (VALUES (1) UNION ALL SELECT value + 1 FROM n WHERE value < {count})"
        f" INSERT INTO outspoken_deliveries (id, origin, path, url, body_bytes, created_at, due_at, lane, {fields})"
        f" SELECT {_names()} || value, 'http://h:80', iif(value % 3 = 1, '/held', '/'), '', 0, value / 10.0,"
        f" value / 10.0, {lane}, {values} FROM n"
    )


def steps(connection: sqlite3.Connection, name: str, values: dict[str, object] = VALUES) -> int:
    """How many instructions of SQLite's virtual machine one execution of a statement takes, which is undone."""
    sql = sql_of(name)
    connection.execute("SAVEPOINT measured")
    taken = steps_of(connection, sql, values_of(sql, values))
    connection.execute("ROLLBACK TO measured")
    connection.execute("RELEASE measured")
    return taken


def steps_of(connection: sqlite3.Connection, sql: str, values: dict[str, object] | list[object] | None = None) -> int:
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    connection.set_progress_handler(count, 1)
    cursor = connection.execute(sql, values or [])
    assert cursor.fetchall() or cursor.rowcount, "a statement that finds nothing measures nothing"
    connection.set_progress_handler(None, 1)
    return taken


def costs(connection: sqlite3.Connection) -> dict[str, int]:
    """The steps of each statement of a claim, and of what it asks of those in trouble."""
    values = VALUES | {"keys": '[["http://h:80", "/held", "", 0]]'}
    return {name: steps(connection, name, values) for name in (*CLAIM, *ASKED)}


def some_due_and_some_leased(connection: sqlite3.Connection) -> dict[str, int]:
    fill(connection, 60, "state", "'pending'")
    fill(connection, 3, "state, lease_token, lease_until", "'leased', 'h.1', 1.0")
    return costs(connection)


def dearer(connection: sqlite3.Connection, before: dict[str, int]) -> dict[str, int]:
    """By how many steps a claim's statements cost more than before; the depth of a search tree is none of it."""
    after = costs(connection)
    return {name: after[name] - before[name] for name in before if after[name] > before[name] + 10}


def test_a_claim_costs_the_same_however_much_was_delivered(connection: sqlite3.Connection) -> None:
    before = some_due_and_some_leased(connection)
    fill(connection, 5000, "state, attempts, finished_at", "'delivered', 1, 1.0")
    fill(connection, 500, "state, finished_at, reason", "'dead', 1.0, 'exhausted'")
    assert dearer(connection, before) == {}


def test_a_claim_costs_the_same_however_long_the_backlog_is(connection: sqlite3.Connection) -> None:
    before = some_due_and_some_leased(connection)
    fill(connection, HUNDRED_THOUSAND, "state", "'pending'")
    assert dearer(connection, before) == {}


def test_a_claim_costs_the_same_however_many_hosts_are_dead(connection: sqlite3.Connection) -> None:
    before = some_due_and_some_leased(connection)
    connection.execute(
        "WITH RECURSIVE n (value) AS (VALUES (1) UNION ALL SELECT value + 1 FROM n WHERE value < 50000)"
        " INSERT INTO outspoken_destinations (origin, held, silent, turn_at)"
        " SELECT 'http://dead' || value || ':80', 1, 1, 9e9 FROM n"
    )
    connection.execute(
        "INSERT INTO outspoken_deliveries (id, origin, path, url, body_bytes, created_at, due_at, lane)"
        " SELECT origin, origin, '/', '', 0, 0.0, 0.0, 1 FROM outspoken_destinations WHERE silent = 1"
    )
    assert dearer(connection, before) == {}


def test_a_claim_costs_the_same_however_much_one_owner_has(connection: sqlite3.Connection) -> None:
    before = some_due_and_some_leased(connection)
    fill(connection, HUNDRED_THOUSAND, "state, owner", "'pending', 'hog'")
    after = costs(connection)
    assert {name: cost - before[name] for name, cost in after.items() if cost > before[name] + 200} == {}


@pytest.mark.parametrize("name", ["settle", "deliver", "delivered", "body", "renew", "release", "give_back"])
def test_the_end_of_an_attempt_costs_the_same_however_many_deliveries_there_are(
    connection: sqlite3.Connection, name: str
) -> None:
    fill(connection, 40, "state, lease_token, lease_until", "'leased', 'h.1', 1.0")
    before = steps(connection, name)
    fill(connection, 5000, "state", "'pending'")
    fill(connection, 5000, "state, attempts, finished_at", "'delivered', 1, 1.0")
    assert steps(connection, name) <= before


@pytest.mark.parametrize("name", ["snapshot", "queues", "full"])
def test_counting_reads_the_live_queue_and_not_history(connection: sqlite3.Connection, name: str) -> None:
    fill(connection, 40, "state", "'pending'")
    fill(connection, 40, "state, lease_token, lease_until", "'leased', 'h.1', 1e9")
    before = steps(connection, name)
    fill(connection, 5000, "state, attempts, finished_at", "'delivered', 1, 1.0")
    assert steps(connection, name) <= before


def test_destinations_that_are_well_are_counted_and_not_looked_at(connection: sqlite3.Connection) -> None:
    fill(connection, 40, "state", "'pending'")
    before = steps(connection, "destination_states")
    more = 5000
    connection.execute(
        f"WITH RECURSIVE n (value) AS (VALUES (1) UNION ALL SELECT value + 1 FROM n WHERE value < {more})"
        " INSERT INTO outspoken_destinations (origin) SELECT 'http://well' || value || ':80' FROM n"
    )
    assert steps(connection, "destination_states") - before < 10 * more


def test_what_is_held_is_not_looked_up_among_all_that_is_held(connection: sqlite3.Connection) -> None:
    """To gather those first takes several times as long where there are many."""
    fill(connection, 5000, "state", "'pending'", lane="1")
    before = steps(connection, "depths")
    more = 5000
    connection.execute(
        f"WITH RECURSIVE n (value) AS (VALUES (1) UNION ALL SELECT value + 1 FROM n WHERE value < {more})"
        " INSERT INTO outspoken_destinations (origin, held, silent) SELECT 'http://dead' || value || ':80', 1, 1 FROM n"
    )
    assert steps(connection, "depths") - before < more


def test_settling_writes_a_few_pages_however_large_the_body(connection: sqlite3.Connection) -> None:
    fill(connection, 1, "state, lease_token, lease_until", "'leased', 'h.1', 1.0")
    connection.execute("INSERT INTO outspoken_bodies VALUES (1, zeroblob(2000000))")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sql = sql_of("settle")
    assert connection.execute(sql, values_of(sql)).rowcount == 1
    _, pages_in_log, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    assert 0 < pages_in_log < 20


# --- streams


def open_streams(connection: sqlite3.Connection, count: int, behind: int) -> None:
    """Streams of which none has anything due: `behind` deliveries of each wait for one that is retried later."""
    first = connection.execute("SELECT coalesce(max(id), 0) FROM outspoken_streams").fetchone()[0]
    connection.execute(
        f"WITH RECURSIVE n (value) AS (VALUES (1) UNION ALL SELECT value + 1 FROM n WHERE value < {count})"
        f" INSERT INTO outspoken_streams (id, key, position) "
        f"SELECT {first} + value, 'more' || ({first} + value), 9 FROM n"
    )
    connection.execute(
        f"WITH RECURSIVE p (value) AS (VALUES (0) UNION ALL SELECT value + 1 FROM p WHERE value < {behind})"
        " INSERT INTO outspoken_deliveries (id, origin, path, url, body_bytes, created_at, lane, due_at, "
        "stream_id, position)"
        f" SELECT {_names()} || (10 * outspoken_streams.id + value), 'http://h:80', '/', '', 0, 0.0, 2, "
        f"CASE value WHEN 0 THEN 1e9 END, outspoken_streams.id,"
        "        value + 1"
        f" FROM outspoken_streams CROSS JOIN p WHERE outspoken_streams.id > {first}"
    )


def test_a_claim_costs_the_same_with_ten_thousand_open_streams(connection: sqlite3.Connection) -> None:
    before = some_due_and_some_leased(connection)
    open_streams(connection, 10_000, behind=4)
    assert dearer(connection, before) == {}


def test_a_step_of_one_stream_costs_the_same_however_many_there_are(connection: sqlite3.Connection) -> None:
    fill(connection, 1, "state, stream_id, position", "'pending', 1, 1")
    connection.execute("UPDATE outspoken_deliveries SET due_at = NULL, lane = 2")
    values = VALUES | {"id": "new", "url": "", "method": "POST", "kind": "final", "content_type": "", "headers": "{}"}
    added = values | {"stream": "s", "body": b"", "schedule": None, "tracked": False}

    def taken() -> dict[str, int]:
        return {name: steps(connection, name, added) for name in ("advance_stream", "kill_followers", "add_to_stream")}

    before = taken()
    open_streams(connection, 10_000, behind=4)
    fill(connection, 5000, "state, stream_id, position, attempts, finished_at", "'delivered', 1, value, 1, 1.0")
    after = taken()
    assert {name: (before[name], after[name]) for name in before if after[name] > before[name] + 10} == {}


def test_expiry_passes_over_what_may_still_go(connection: sqlite3.Connection) -> None:
    fill(connection, 1, "state", "'pending'")
    connection.execute("UPDATE outspoken_destinations SET state = 'paused' WHERE path = '/held'")
    connection.execute("UPDATE outspoken_deliveries SET lane = 1, path = '/held'")
    before = steps(connection, "expire")
    fill(connection, 5000, "state", "'pending'", lane="0")
    assert steps(connection, "expire") <= before + 10


def test_to_forget_streams_reads_no_other_delivery(connection: sqlite3.Connection) -> None:
    assert [line for line in plan(connection, "forget_streams") if line.startswith("SCAN")] == []
    fill(connection, 1000, "state, attempts, finished_at", "'delivered', 1, 1.0")
    # SQLite itself looks for what refers to a stream: by the index too, or each would read all deliveries.
    connection.execute("INSERT INTO outspoken_streams (key) VALUES ('last')")
    assert steps_of(connection, "DELETE FROM outspoken_streams WHERE key = 'last'") < 100
