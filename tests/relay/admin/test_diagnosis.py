from __future__ import annotations

import dataclasses
import time

import pytest

from relay.admin.condition import Attention
from relay.admin.destinations import destinations
from relay.admin.diagnosis import Evidence, Trouble, diagnose, troubles_of
from relay.admin.overview import overview
from relay.outbox.store import Database
from relay.policy.attempt import Outcome
from relay.policy.breaker import Cause, DestinationState
from tests.cases import cases
from tests.relay.admin.past import attempt, change, ended
from tests.relay.deliveries import ill, many, new, put

ORIGIN = "https://receiver.example:443"
PLACE = Attention(
    id="1f",
    origin=ORIGIN,
    path="/hook",
    state=DestinationState.TRICKLING,
    cause=Cause.FAILING,
    waiting=9,
    oldest_due_age=12.0,
    dead=0,
    gone=0,
    failures=5,
    next_at=2000.0,
    largest_accepted=None,
)
FAILED = Evidence("d1", 1000.0, "http_5xx", 500, "the receiver answered 500", None, 2048)


def seen(**fields: object) -> list[Evidence]:
    return [dataclasses.replace(FAILED, **fields)]  # type: ignore[arg-type]


@cases("outcome", [outcome for outcome in Outcome if outcome is not Outcome.SUCCESS])
def test_every_outcome_has_a_sentence(outcome: Outcome) -> None:
    sentence = diagnose(PLACE, seen(outcome=outcome, status=418 if outcome.startswith("http") else None))
    assert sentence.endswith(".")
    assert "None" not in sentence


@cases(
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
    assert "paused" in diagnose(dataclasses.replace(PLACE, cause=Cause.PAUSED), seen())
    assert "disabled" in diagnose(dataclasses.replace(PLACE, cause=Cause.DISABLED), seen())
    assert "410 Gone" in diagnose(PLACE, seen(outcome="http_410", status=410))


def test_the_most_frequent_failure_of_late_decides() -> None:
    mixed = [*seen(outcome="dns", status=None), *seen(), *seen()]
    assert "500" in diagnose(PLACE, mixed)


def troubled(database: Database, now: float) -> tuple[Trouble, ...]:
    return overview(database, now).troubles


def test_the_worst_endpoints_come_first_with_a_delivery_to_look_at(database: Database) -> None:
    now = time.time()
    put(database, *many(3), new("other", "https://well.example/"), new("slow", "https://slow.example/"))
    ill(database, failures=6, until=now + 60)
    ill(database, "https://slow.example:443", failures=3)
    change(database, "UPDATE outspoken_deliveries SET attempts = 1, lane = 1 WHERE id IN ('d1', 'd2', 'd3')")
    with database.writing() as connection:
        attempt(connection, "d1", 1, now - 20, "connect", detail="refused")
        attempt(connection, "d2", 1, now - 10, "connect", detail="refused again")
    first, second = troubled(database, now)
    assert (first.endpoint.place, first.last_error, first.example) == (f"{ORIGIN}/hook", "refused again", "d2")
    assert (first.endpoint.cause, first.endpoint.waiting) == (Cause.FAILING, 3)
    assert first.sentence.startswith("Nothing accepts connections there")
    assert first.failing_since == pytest.approx(now - 20)
    assert second.sentence == "It fails, and no attempt of it is kept: send one again to see why."


def test_one_path_of_an_origin_is_told_apart_from_the_others(database: Database) -> None:
    now = time.time()
    put(database, *many(3), *many(3, "https://receiver.example/large", "l"), due_at=now + 20)
    put(database, new("fine", "https://receiver.example/fine"))
    change(database, "UPDATE outspoken_deliveries SET attempts = 1 WHERE id <> 'fine'")
    with database.writing() as connection:
        for id_ in ("d1", "d2", "d3"):
            attempt(connection, id_, 1, now - 5, "http_5xx", 503)
            attempt(connection, id_.replace("d", "l"), 1, now - 5, "http_413", 413)
    found = {one.endpoint.path: one.sentence for one in troubled(database, now)}
    assert list(found) == ["/hook", "/large"]
    assert "overloaded" in found["/hook"]
    assert "as too large" in found["/large"]


def test_dead_letters_are_evidence_too_and_a_well_destination_has_no_trouble(database: Database) -> None:
    now = time.time()
    put(database, new(), new("fine", "https://well.example/"))
    ended(database, "d1", at=now - 5, outcome="tls", status=None)
    places = {place.origin: place for place in destinations(database, now)}
    (found,) = troubles_of(database, places[ORIGIN], now, 5)
    assert (found.endpoint.cause, found.endpoint.dead) == (Cause.GIVEN_UP, 1)
    assert "TLS handshake" in found.sentence
    assert troubles_of(database, places["https://well.example:443"], now, 5) == ()
