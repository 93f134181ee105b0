from __future__ import annotations

import dataclasses
import time

import pytest

from relay.admin.diagnosis import Evidence, diagnose, trouble, troubled
from relay.admin.overview import Destination, destinations
from relay.outbox.store import Database
from relay.policy.attempt import Outcome
from tests.relay.admin.past import attempt, change, ended
from tests.relay.deliveries import ill, many, new, put

ORIGIN = "https://receiver.example:443"
PLACE = Destination(ORIGIN, "open", "open", 5, 2000.0, 9, 3, 0, 12.0, None, None)
FAILED = Evidence("d1", 1000.0, "http_5xx", 500, "the receiver answered 500", None, 2048)


def seen(**fields: object) -> list[Evidence]:
    return [dataclasses.replace(FAILED, **fields)]  # type: ignore[arg-type]


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.SUCCESS])
def test_every_outcome_has_a_sentence(outcome: Outcome) -> None:
    sentence = diagnose(PLACE, seen(outcome=outcome, status=418 if outcome.startswith("http") else None))
    assert sentence.endswith(".")
    assert "None" not in sentence


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"outcome": "http_4xx", "status": 401}, "does not accept the caller's credentials"),
        ({"outcome": "http_4xx", "status": 404}, "the path of the callback is not there"),
        ({"outcome": "http_5xx", "status": 500}, "the fault is the receiver's"),
        ({"outcome": "http_5xx", "status": 502}, "the application behind it is not"),
        ({"outcome": "dns", "status": None}, "does not resolve"),
        ({"outcome": "internal", "status": None}, "The fault is ours"),
        (
            {"outcome": "http_413", "status": 413, "server": "nginx/1.22", "body_bytes": 1 << 20},
            "refuses bodies from 1.0 MiB on as too large; nginx: raise client_max_body_size",
        ),
    ],
)
def test_the_sentence_says_whose_it_is(fields: dict[str, object], words: str) -> None:
    assert words in diagnose(PLACE, seen(**fields))


def test_when_large_bodies_fail_and_small_ones_arrive_it_is_probably_a_size_limit() -> None:
    fails = [*seen(status=502, body_bytes=300_000), *seen(outcome="reset", status=None, body_bytes=200_000)]
    place = dataclasses.replace(PLACE, largest_accepted=90_000)
    assert diagnose(place, fails).startswith("Bodies from 195 KiB on fail and those up to 88 KiB arrive")
    assert "size limit" not in diagnose(place, [*fails, *seen(status=502, body_bytes=1000)])


def test_what_operators_said_comes_first() -> None:
    assert "paused" in diagnose(dataclasses.replace(PLACE, state="paused"), seen())
    assert "disabled" in diagnose(dataclasses.replace(PLACE, state="disabled"), seen())
    assert "410 Gone" in diagnose(PLACE, seen(outcome="http_410", status=410))


def test_the_most_frequent_failure_of_late_decides() -> None:
    mixed = [*seen(outcome="dns", status=None), *seen(), *seen()]
    assert "500" in diagnose(PLACE, mixed)


def test_the_worst_destinations_come_first_with_a_delivery_to_look_at(database: Database) -> None:
    now = time.time()
    put(database, *many(3), new("other", "https://well.example/"), new("slow", "https://slow.example/"))
    ill(database, failures=6, until=now + 60)
    ill(database, "https://slow.example:443", failures=3)
    change(database, "UPDATE outspoken_deliveries SET attempts = 1 WHERE id IN ('d1', 'd2')")
    with database.writing() as connection:
        attempt(connection, "d1", 1, now - 20, "connect", detail="refused")
        attempt(connection, "d2", 1, now - 10, "connect", detail="refused again")
    first, second = troubled(database, now)
    assert (first.destination.origin, first.last_error, first.example) == (ORIGIN, "refused again", "d2")
    assert first.sentence.startswith("Nothing accepts connections there")
    assert first.failing_since == pytest.approx(now - 20)
    assert second.sentence == "It fails, and no attempt of it is kept: send one again to see why."


def test_a_destination_that_fails_for_large_bodies_only_is_known_by_its_retries(database: Database) -> None:
    now = time.time()
    put(database, *many(3), new("once", "https://once.example/"), due_at=now + 20)
    change(database, "UPDATE outspoken_deliveries SET attempts = 1")
    with database.writing() as connection:
        for id_ in ("d1", "d2", "d3", "once"):
            attempt(connection, id_, 1, now - 5, "http_413", 413)
    (found,) = troubled(database, now)
    assert (found.destination.origin, found.destination.failures) == (ORIGIN, 0)
    assert "as too large" in found.sentence


def test_dead_letters_are_evidence_too_and_a_well_destination_has_no_trouble(database: Database) -> None:
    now = time.time()
    put(database, new(), new("fine", "https://well.example/"))
    ended(database, "d1", at=now - 5, outcome="tls", status=None)
    change(database, "INSERT INTO outspoken_destinations (origin) SELECT origin FROM outspoken_deliveries")
    places = {place.origin: place for place in destinations(database, now)}
    found = trouble(database, places[ORIGIN], now)
    assert found is not None
    assert "TLS handshake" in found.sentence
    assert trouble(database, places["https://well.example:443"], now) is None
