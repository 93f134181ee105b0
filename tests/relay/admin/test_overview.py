from __future__ import annotations

import re
import time

import pytest

from relay.admin.destinations import destinations
from relay.admin.overview import Group, overview, stats
from relay.outbox.model import Stream
from relay.outbox.store import Database
from tests.relay.admin.past import attempt, change, ended
from tests.relay.deliveries import ill, many, new, put, stand

ORIGIN = "https://receiver.example:443"


def a_relay_is_at_work(database: Database) -> None:
    change(database, "INSERT INTO outspoken_relays (holder, seen_at) VALUES ('one', ?)", time.time())


def test_an_empty_outbox_has_no_trouble(database: Database) -> None:
    seen = overview(database, time.time())
    assert (seen.ready, seen.dead, seen.oldest_due_age, seen.destinations) == (0, 0, 0.0, {})
    assert (seen.condition.severity, seen.condition.headline) == ("well", "Nothing is late, and nothing is wrong.")


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


STOPPED = (
    "INSERT INTO outspoken_audit (at, actor, source, act, detail) "
    "VALUES (NOW - 90, 'relay', 'relay', 'relay.stop', '{}')"
)


@pytest.mark.parametrize(
    ("sql", "severity", "sentence"),
    [
        (
            "INSERT INTO outspoken_destinations (origin, state) VALUES ('ORIGIN', 'paused')",
            "attention",
            "1 endpoint needs attention: ORIGIN. An operator paused it",
        ),
        (
            "INSERT INTO outspoken_destinations (origin, state) VALUES ('ORIGIN', 'disabled')",
            "attention",
            "1 endpoint needs attention: ORIGIN. It is disabled",
        ),
        (
            "INSERT INTO outspoken_destinations (origin, path, open) VALUES ('ORIGIN', '/hook', 1)",
            "attention",
            "1 endpoint needs attention: ORIGIN/hook. It fails",
        ),
        (
            "UPDATE outspoken_deliveries SET due_at = due_at - 100",
            "attention",
            "1 delivery that could go is late, the oldest by 100 s; no receiver is to blame",
        ),
        ("UPDATE outspoken_deliveries SET due_at = due_at - 500", "broken", "late, the oldest by 8 min"),
        ("DELETE FROM outspoken_relays", "broken", "No relay has worked on this database yet, and 1 delivery is due"),
        ("UPDATE outspoken_relays SET seen_at = NOW - 300", "broken", "The relay has not been heard of since "),
        (f"DELETE FROM outspoken_relays; {STOPPED}", "broken", "The relay was stopped at "),
    ],
)
def test_what_is_wrong_is_judged_once_and_said_in_a_sentence(
    database: Database, sql: str, severity: str, sentence: str
) -> None:
    put(database, new())
    a_relay_is_at_work(database)
    assert overview(database, time.time()).condition.severity == "well"
    for statement in sql.replace("ORIGIN", ORIGIN).replace("NOW", str(time.time())).split("; "):
        change(database, statement)
    condition = overview(database, time.time()).condition
    assert (condition.severity, sentence.replace("ORIGIN", ORIGIN) in condition.headline) == (severity, True)


def test_a_relay_that_was_stopped_with_nothing_due_is_not_broken(database: Database) -> None:
    change(database, STOPPED.replace("NOW", str(time.time())))
    condition = overview(database, time.time()).condition
    assert condition.severity == "attention"
    assert re.fullmatch(r"The relay was stopped at [-0-9]+ [:0-9]+Z: start `relay run`\.", condition.headline)


def test_every_endpoint_that_needs_attention_is_counted_and_what_operators_said_comes_last(database: Database) -> None:
    """Twelve dead letters of one path that answered 410, three retries of another, and a crowd behind a pause."""
    now = time.time()
    a_relay_is_at_work(database)
    put(database, *many(12, "https://gone.example/hook", "g"))
    put(database, *many(3, "https://late.example/a", "l"), new("fine", "https://late.example/b"), due_at=now + 20)
    put(database, *many(40, "https://held.example/", "h"))
    for number in range(1, 13):
        ended(database, f"g{number}", at=now - 60, outcome="http_410", status=410)
    change(database, "INSERT INTO outspoken_gone_urls VALUES ('00', 'https://gone.example:443', '/hook', 1)")
    change(
        database,
        "UPDATE outspoken_deliveries SET attempts = 1 WHERE origin = 'https://late.example:443' AND path = '/a'",
    )
    stand(database, "paused", "https://held.example:443")
    condition = overview(database, now).condition
    assert [(one.place, one.cause, one.waiting, one.dead) for one in condition.attention] == [
        ("https://gone.example:443/hook", "gone", 0, 12),
        ("https://late.example:443/a", "failing", 3, 0),
        ("https://held.example:443", "paused", 40, 0),
    ]
    assert condition.headline.startswith(
        "3 endpoints need attention; worst: https://gone.example:443/hook. It answered 410"
    )


def test_destinations_come_with_what_waits_for_them(database: Database) -> None:
    now = time.time()
    put(database, new("a", "https://idle.example/"), due_at=now + 60)
    put(database, *many(3), due_at=now - 10)
    ill(database)
    busy, idle = destinations(database, now)
    assert (busy.origin, busy.state, busy.ready, busy.waiting) == (ORIGIN, "trickling", 3, 3)
    assert busy.oldest_due_age == pytest.approx(10, abs=1)
    assert (idle.state, idle.ready, idle.waiting, idle.oldest_due_age) == ("delivering", 0, 1, 0.0)


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
    assert (place.state, place.itself) == ("trickling", "delivering")
    assert [(one.path, one.state, one.gone) for one in place.endpoints] == [
        ("/hook", "trickling", 1),
        ("/moved", "delivering", 2),
    ]
    change(database, "INSERT INTO outspoken_destinations (origin, failures, open, held) VALUES (?, 5, 1, 1)", ORIGIN)
    assert destinations(database, time.time())[0].itself == "unreachable"
