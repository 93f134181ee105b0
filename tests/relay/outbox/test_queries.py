"""What the hot statements cost: which index they use, and how many steps of SQLite's machine they take."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay import outbox
from relay.outbox.queries import statement

VALUES: dict[str, object] = {
    "now": 1000.0,
    "after": 0,
    "until": 2**63 - 1,
    "room": 16,
    "cap": 16,
    "destinations": "[1]",
    "seqs": "[1]",
    "last": 10**6,
    "seq": 1,
    "holder": "h",
    "token": "h.1",
    "state": "delivered",
    "finished_at": 1.0,
}

# The claim and everything else that an attempt costs; `snapshot` may read the live queue, every few seconds.
CLAIM = ("anything_to_do", "sweep", "in_flight", "due_destinations", "candidates", "lease", "next_due")
SETTLE = ("settle", "record_attempt", "learn_accepted", "learn_refused", "renew", "release", "body", "body_limits")
ADD = ("add_destination", "add_delivery", "add_body")
PARTIAL = re.compile(r"deliveries USING (COVERING )?INDEX deliveries_(due|next|leased|dead)\b")
ONE_ROW = re.compile(
    r"SEARCH deliveries USING (INTEGER PRIMARY KEY|COVERING INDEX sqlite_autoindex_deliveries_1 \(id=\?\))"
)


@pytest.fixture
def connection(database: Path) -> Iterator[sqlite3.Connection]:
    with closing(outbox.connect(database)) as opened:
        opened.execute("PRAGMA synchronous = OFF")
        yield opened


def plan(connection: sqlite3.Connection, name: str) -> list[str]:
    sql = statement(name)
    values = {parameter: VALUES.get(parameter) for parameter in re.findall(r":(\w+)", sql)}
    return [detail for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]


@pytest.mark.parametrize("name", [*CLAIM, *SETTLE, *ADD, "snapshot", "added", "origin"])
def test_no_statement_reads_through_the_deliveries(connection: sqlite3.Connection, name: str) -> None:
    touching = [line for line in plan(connection, name) if re.search(r"\bdeliveries\b", line)]
    assert [line for line in touching if not (PARTIAL.search(line) or ONE_ROW.search(line))] == []


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("anything_to_do", "deliveries_next (due_at<?)"),
        ("due_destinations", "deliveries_due (destination_id>? AND destination_id<?)"),
        ("due_destinations", "deliveries_due (destination_id=?)"),
        ("candidates", "deliveries_due (destination_id=? AND due_at<?)"),
        ("next_due", "deliveries_next"),
        ("sweep", "deliveries_leased"),
        ("in_flight", "deliveries_leased"),
    ],
)
def test_a_claim_seeks_in_the_partial_index_made_for_it(connection: sqlite3.Connection, name: str, index: str) -> None:
    assert any(f"INDEX {index}" in line for line in plan(connection, name))


def fill(connection: sqlite3.Connection, count: int, fields: str, values: str) -> None:
    connection.execute("INSERT OR IGNORE INTO destinations (id, origin) VALUES (1, 'http://h:80')")
    connection.execute(
        f"WITH RECURSIVE n (value) AS (VALUES (1) UNION ALL SELECT value + 1 FROM n WHERE value < {count})"
        f" INSERT INTO deliveries (id, destination_id, url, body_bytes, created_at, due_at, {fields})"
        f" SELECT hex(randomblob(16)), 1, '', 0, value / 10.0, value / 10.0, {values} FROM n"
    )


def steps(connection: sqlite3.Connection, name: str) -> int:
    """How many instructions of SQLite's virtual machine one execution takes."""
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    sql = statement(name)
    values = {parameter: VALUES.get(parameter) for parameter in re.findall(r":(\w+)", sql)}
    connection.execute("SAVEPOINT measured")
    connection.set_progress_handler(count, 1)
    cursor = connection.execute(sql, values)
    assert cursor.fetchall() or cursor.rowcount, "a statement that finds nothing measures nothing"
    connection.set_progress_handler(None, 1)
    connection.execute("ROLLBACK TO measured")
    connection.execute("RELEASE measured")
    return taken


@pytest.mark.parametrize("name", CLAIM)
def test_a_claim_costs_the_same_however_much_was_delivered(connection: sqlite3.Connection, name: str) -> None:
    fill(connection, 40, "state", "'pending'")
    fill(connection, 3, "state, lease_token, lease_until", "'leased', 'h.1', 1.0")
    before = steps(connection, name)
    fill(connection, 5000, "state, attempts, finished_at", "'delivered', 1, 1.0")
    fill(connection, 500, "state, finished_at, reason", "'dead', 1.0, 'exhausted'")
    assert steps(connection, name) <= before


@pytest.mark.parametrize("name", CLAIM)
def test_a_claim_costs_the_same_however_long_the_backlog_is(connection: sqlite3.Connection, name: str) -> None:
    fill(connection, 40, "state", "'pending'")
    fill(connection, 3, "state, lease_token, lease_until", "'leased', 'h.1', 1.0")
    before = steps(connection, name)
    fill(connection, 5000, "state", "'pending'")
    assert steps(connection, name) <= before + 10


@pytest.mark.parametrize("name", ["settle", "body", "renew", "release"])
def test_the_end_of_an_attempt_costs_the_same_however_many_deliveries_there_are(
    connection: sqlite3.Connection, name: str
) -> None:
    fill(connection, 40, "state, lease_token, lease_until", "'leased', 'h.1', 1.0")
    before = steps(connection, name)
    fill(connection, 5000, "state", "'pending'")
    fill(connection, 5000, "state, attempts, finished_at", "'delivered', 1, 1.0")
    assert steps(connection, name) <= before


def test_counting_reads_the_live_queue_and_not_history(connection: sqlite3.Connection) -> None:
    fill(connection, 40, "state", "'pending'")
    before = steps(connection, "snapshot")
    fill(connection, 5000, "state, attempts, finished_at", "'delivered', 1, 1.0")
    assert steps(connection, "snapshot") <= before


def test_settling_writes_a_few_pages_however_large_the_body(connection: sqlite3.Connection) -> None:
    fill(connection, 1, "state, lease_token, lease_until", "'leased', 'h.1', 1.0")
    connection.execute("INSERT INTO bodies VALUES (1, zeroblob(2000000))")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    values = VALUES | {"due_at": None, "reason": None}
    assert connection.execute(statement("settle"), values).rowcount == 1
    _, pages_in_log, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    assert 0 < pages_in_log < 20
