"""Pages of the console cost the same however much was delivered: what they look at is bounded, and by which index."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay import outbox
from relay.admin import inspection
from relay.admin.inspection import Filter
from relay.outbox.model import DeliveryState
from relay.outbox.queries import statement
from relay.outbox.store import Database
from relay.policy.attempt import Outcome
from tests.relay.admin.past import change, ended
from tests.relay.deliveries import many, new, put

ADMIN = "relay.admin"
OTHER = "https://other.example:443"
VALUES: dict[str, object] = {
    "now": 20_000.0, "midnight": 0.0, "seen_since": 0.0, "older": 2**63 - 1, "floor": 0, "effort": 500, "limit": 50,
    "state": None, "destination": None, "id_prefix": None, "since": None, "until": None, "outcome": None, "tag": None,
    "owner": None,
    "origin": "https://h:443", "path": "", "id": "h1", "seq": 1, "ids": '["h1"]',
    "origins": '["https://h:443"]', "often": 3, "late_before": 19_940.0,
}  # fmt: skip


def test_a_search_stops_when_enough_was_looked_at_and_says_how_far_it_came(database: Database) -> None:
    began = time.time()
    put(database, new("needle", "https://other.example/"), *many(9))
    wanted = Filter(destination=OTHER)
    first = inspection.search(database, wanted, effort=4)
    assert (first.found, first.older) == ((), 7)
    assert began <= (first.looked_back_to or 0.0) <= time.time()
    second = inspection.search(database, wanted, older=first.older, effort=4)
    third = inspection.search(database, wanted, older=second.older, effort=4)
    assert (second.older, [one.id for one in third.found], third.older) == (3, ["needle"], None)
    assert [one.id for one in inspection.deliveries(database, wanted)] == ["needle"]


def test_a_tag_is_found_however_many_others_came_since(database: Database) -> None:
    put(database, new("old", tags={"order-17", "tenant:a"}), *many(9), new("young", tags={"tenant:a"}))
    found = inspection.search(database, Filter(tag="order-17"), effort=4)
    assert ([one.id for one in found.found], found.older) == (["old"], None)
    assert [one.id for one in inspection.search(database, Filter(tag="tenant:a"), effort=4).found] == ["young", "old"]
    ended(database, "old")
    dead = Filter(state=DeliveryState.DEAD, tag="tenant:a")
    assert [one.id for one in inspection.search(database, dead, effort=4).found] == ["old"]


@pytest.mark.parametrize("state", list(DeliveryState))
def test_every_state_is_found_by_the_index_that_knows_it(database: Database, state: DeliveryState) -> None:
    put(database, *many(6))
    for id_ in ("d1", "d4"):
        if state is DeliveryState.LEASED:
            lease = (
                "UPDATE outspoken_deliveries SET state = 'leased', lease_token = 'h.1', lease_until = 9e9 WHERE id = ?"
            )
            change(database, lease, id_)
        elif state is not DeliveryState.PENDING:
            ended(database, id_, state)
    found = inspection.search(database, Filter(state=state), limit=10)
    expected = ["d6", "d5", "d4", "d3", "d2", "d1"] if state is DeliveryState.PENDING else ["d4", "d1"]
    assert ([one.id for one in found.found], found.older) == (expected, None)


def test_a_time_is_found_by_halving(database: Database) -> None:
    put(database, *many(500))
    change(database, "UPDATE outspoken_deliveries SET created_at = seq * 10000")
    change(database, "DELETE FROM outspoken_bodies WHERE seq BETWEEN 100 AND 200")
    change(database, "DELETE FROM outspoken_deliveries WHERE seq BETWEEN 100 AND 200")
    with database.reading() as connection:
        assert inspection.seq_at(connection, 0.0) <= 1
        assert 100 <= inspection.seq_at(connection, 1_500_000.0) <= 201
        assert inspection.seq_at(connection, 4_000_000.0) == 400
        assert inspection.seq_at(connection, 9e9) == inspection.NEWEST
    found = inspection.search(database, Filter(since=3_000_000.0, until=3_030_000.0), limit=10)
    assert [one.id for one in found.found] == ["d302", "d301", "d300"]


@pytest.fixture
def grown(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(outbox.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("INSERT INTO outspoken_destinations (origin) VALUES ('https://h:443')")
        yield connection


def deliver(connection: sqlite3.Connection, count: int) -> None:
    """So many more deliveries arrived, with an attempt each."""
    connection.execute(
        """WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
        INSERT INTO outspoken_deliveries (id, origin, path, url, body_bytes, created_at, due_at, state, attempts,
        finished_at)
        SELECT 'h' || (i + (SELECT count(*)
        FROM outspoken_deliveries)), 'https://h:443', '/', 'https://h/', 2, 1.0, 1.0, 'delivered', 1, 2.0
        FROM n""",
        (count,),
    )
    connection.execute(
        """INSERT OR IGNORE INTO outspoken_attempts (seq, number, started_at, lag, duration, outcome, status)
        SELECT seq, 1, 1.0, 0, 0.1, 'success', 200 FROM outspoken_deliveries"""
    )


def steps(connection: sqlite3.Connection, sql: str, values: dict[str, object]) -> int:
    """Of SQLite's machine, in tens."""
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    connection.set_progress_handler(count, 10)
    connection.execute(sql, {name: values[name] for name in set(re.findall(r":(\w+)", sql))}).fetchall()
    connection.set_progress_handler(None, 0)
    return taken


@pytest.mark.parametrize(
    ("name", "narrowed"),
    [
        ("status", {}),
        ("destinations", {}),
        ("origins_in_question", {}),
        ("count_origins", {}),
        ("waiting_lines", {}),
        ("evidence", {}),
        ("evidence", {"path": "/"}),
        ("retried", {}),
        ("held_back", {}),
        ("given_up", {}),
        ("show", {}),
        ("history", {}),
        ("named", {}),
        ("keys", {}),
        ("reach", {}),
        *(("reach", {"state": state}) for state in DeliveryState),
        *(("list", {"state": state, "floor": "reach"}) for state in (None, *DeliveryState)),
        ("list", {"outcome": Outcome.DNS, "floor": "reach"}),
        ("list", {"destination": OTHER, "floor": "reach"}),
        ("list", {"id_prefix": "x", "floor": "reach"}),
        ("list", {"tag": "t", "floor": "reach"}),
        ("reach", {"tag": "t"}),
        ("matching", {"state": DeliveryState.DEAD, "tag": "t"}),
        ("matching", {"state": DeliveryState.DEAD}),
        ("matching", {"state": DeliveryState.PENDING}),
    ],
)
def test_what_a_page_asks_costs_no_more_when_ten_times_as_much_was_delivered(
    grown: sqlite3.Connection, name: str, narrowed: dict[str, object]
) -> None:
    deliver(grown, 1000)
    before = steps(grown, statement(name, ADMIN), settled(grown, narrowed))
    deliver(grown, 9000)
    after = steps(grown, statement(name, ADMIN), settled(grown, narrowed))
    assert after <= 1.1 * before + 5


def settled(connection: sqlite3.Connection, narrowed: dict[str, object]) -> dict[str, object]:
    """The values of a question; a floor is where a page of these may look to."""
    values = VALUES | narrowed
    if values["floor"] != "reach":
        return values
    row = connection.execute(statement("reach", ADMIN), values | {"floor": 0}).fetchone()
    return values | {"floor": row[0] if row else 0}
