from __future__ import annotations

import time

import pytest

from relay.admin.overview import Group, destinations, overview, stats
from relay.outbox.model import Stream
from relay.outbox.store import Database
from tests.relay.admin.past import attempt, change, ended
from tests.relay.deliveries import ill, many, new, put

ORIGIN = "https://receiver.example:443"


def a_relay_is_at_work(database: Database) -> None:
    change(database, "INSERT INTO outspoken_relays (holder, seen_at) VALUES ('one', ?)", time.time())


def test_an_empty_outbox_has_no_trouble(database: Database) -> None:
    seen = overview(database, time.time())
    assert (seen.ready, seen.dead, seen.oldest_due_age, seen.destinations, seen.trouble) == (0, 0, 0.0, {}, None)


def test_the_queue_is_counted_by_where_deliveries_stand(database: Database) -> None:
    now = time.time()
    put(database, *many(2), due_at=now - 30)
    put(database, new("later"), due_at=now + 60)
    put(database, *(new(f"s{number}", stream=Stream("live")) for number in range(3)))
    put(database, new("done"), new("done-yesterday"), new("dead"))
    ended(database, "done", "delivered", at=now)
    ended(database, "done-yesterday", "delivered", at=now - 86400)
    ended(database, "dead", at=now)
    change(
        database,
        "UPDATE outspoken_deliveries SET state = 'leased', lease_token = 'x.1', lease_until = 9e9 WHERE id = 'd2'",
    )
    seen = overview(database, time.time())
    assert (seen.ready, seen.scheduled, seen.in_line, seen.in_flight, seen.dead) == (2, 1, 2, 1, 1)
    assert (seen.delivered_today, seen.dead_today) == (1, 1)
    assert seen.oldest_due_age == pytest.approx(30, abs=1)


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        (
            "INSERT INTO outspoken_destinations (origin, state) VALUES (ORIGIN, 'paused')",
            "which is paused: `relay resume https://receiver.example:443`",
        ),
        (
            "INSERT INTO outspoken_destinations (origin, state) VALUES (ORIGIN, 'disabled')",
            "which is disabled: `relay enable",
        ),
        ("INSERT INTO outspoken_destinations (origin, path, open) VALUES (ORIGIN, '/hook', 1)", "keeps failing"),
        ("UPDATE outspoken_deliveries SET due_at = due_at - 500", "s behind, with 1 deliveries due"),
        ("DELETE FROM outspoken_relays", "no relay has ever worked on this database: start `relay run`"),
        ("UPDATE outspoken_relays SET seen_at = seen_at - 300", "no relay for 300 s"),
    ],
)
def test_the_worst_that_is_wrong_is_one_sentence(database: Database, sql: str, sentence: str) -> None:
    put(database, new())
    a_relay_is_at_work(database)
    assert overview(database, time.time()).trouble is None
    change(database, sql.replace("ORIGIN", f"'{ORIGIN}'"))
    assert sentence in (overview(database, time.time()).trouble or "")


def test_dead_letters_of_today_are_worth_a_sentence(database: Database) -> None:
    put(database, new())
    ended(database, "d1", at=time.time())
    assert (overview(database, time.time()).trouble or "").startswith("1 deliveries were given up today")


def test_destinations_come_with_what_waits_for_them(database: Database) -> None:
    now = time.time()
    put(database, new("a", "https://idle.example/"), due_at=now + 60)
    put(database, *many(3), due_at=now - 10)
    ill(database)
    busy, idle = destinations(database, now)
    assert (busy.origin, busy.state, busy.ready, busy.waiting) == (ORIGIN, "open", 3, 3)
    assert busy.oldest_due_age == pytest.approx(10, abs=1)
    assert (idle.state, idle.ready, idle.waiting, idle.oldest_due_age) == ("active", 0, 1, 0.0)


def test_attempts_are_counted_by_what_was_asked_for(database: Database) -> None:
    put(database, new("d1"), new("d2", "https://other.example/"))
    with database.writing() as connection:
        attempt(connection, "d1", 1, 50.0, "dns")
        attempt(connection, "d1", 2, 150.0, "http_5xx", 500)
        attempt(connection, "d1", 3, 160.0, "success", 200)
        attempt(connection, "d2", 1, 170.0, "success", 200)
    by_outcome = stats(database, 100.0, [Group.OUTCOME])
    assert [(one.group, one.attempts, one.delivered) for one in by_outcome] == [
        ({"outcome": "success"}, 2, 2),
        ({"outcome": "http_5xx"}, 1, 0),
    ]
    assert (by_outcome[0].p50, by_outcome[0].p95, by_outcome[0].lag_p95) == (0.5, 0.5, 0.25)
    both = stats(database, 0.0, [Group.DESTINATION, Group.STATUS])
    assert {tuple(one.group.values()) for one in both} == {
        (ORIGIN, "none"),
        (ORIGIN, "500"),
        (ORIGIN, "200"),
        ("https://other.example:443", "200"),
    }


def test_an_origin_stands_as_it_does_itself_beside_its_endpoints_and_their_gone_urls(database: Database) -> None:
    put(database, new())
    ill(database)
    for sha256, path in (("00", "/hook"), ("01", "/moved"), ("02", "/moved")):
        change(database, "INSERT INTO outspoken_gone_urls VALUES (?, ?, ?, 1)", sha256, ORIGIN, path)
    (place,) = destinations(database, time.time())
    assert (place.state, place.itself) == ("open", "active")
    assert [(one.path, one.state, one.gone) for one in place.endpoints] == [
        ("/hook", "open", 1),
        ("/moved", "active", 2),
    ]
    change(database, "INSERT INTO outspoken_destinations (origin, failures, open, held) VALUES (?, 5, 1, 1)", ORIGIN)
    assert destinations(database, time.time())[0].itself == "open"
