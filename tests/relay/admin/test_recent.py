from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from relay.admin.recent import HOUR, MINUTE, NO_HISTORY, AttemptBuffer, RecentAttempts, recalled
from relay.outbox.store import Database
from relay.policy.attempt import Answer, Attempted, Outcome, Timing
from tests.relay.admin.past import ended
from tests.relay.deliveries import answer, attempted, claimed, many, new, put

NOW = 1_000_000 * MINUTE
HERE = "https://receiver.example:443"


def heard(at: float, came: Answer | None = None, origin: str = HERE) -> Attempted:
    return replace(attempted(claimed(destination=origin), came), finished_at=at)


def test_minutes_tell_what_arrived_and_what_did_not_and_the_quiet_ones_stand_between() -> None:
    recent = RecentAttempts(NOW)
    recent([heard(NOW - 2 * MINUTE)])
    recent([heard(NOW + 1), heard(NOW + 2, answer(503))])
    recent([])
    before, quiet, now = recent.minutes(NOW + 30, count=3)
    assert (before.at, before.delivered, before.failed) == (NOW - 2 * MINUTE, 1, 0)
    assert (quiet.delivered, quiet.failed) == (0, 0)
    assert now.outcomes == {Outcome.SUCCESS: 1, Outcome.HTTP_5XX: 1}


def test_what_is_older_than_a_day_is_forgotten() -> None:
    recent = RecentAttempts(NOW)
    for minute in range(24 * 60 + 5):
        recent([heard(NOW + minute * MINUTE)])
    last = NOW + (24 * 60 + 4) * MINUTE
    assert sum(minute.delivered for minute in recent.minutes(last, count=3000)) == 24 * 60
    assert recent.destination(HERE, last).delivered <= 24 * 60


def test_a_destination_has_its_hours_its_last_times_and_its_slowest() -> None:
    recent = RecentAttempts(NOW)
    recent([heard(NOW - HOUR)])
    recent([heard(NOW, Answer(Timing(took / 100), 200)) for took in range(1, 101)])
    recent([heard(NOW + 2, origin="https://other.example:443"), heard(NOW + 1, answer(500))])
    history = recent.destination(HERE, NOW + 5)
    assert len(history.hours) == 24
    assert [(hour.delivered, hour.failed) for hour in history.hours[-2:]] == [(1, 0), (100, 1)]
    assert (history.delivered_at, history.failed_at, history.p95) == (NOW, NOW + 1, 0.95)


def test_only_so_many_destinations_are_remembered_and_those_heard_of_last() -> None:
    recent = RecentAttempts(NOW)
    recent([heard(NOW, origin=f"https://r{number}.example:443") for number in range(2001)])
    assert recent.destination("https://r0.example:443", NOW) is NO_HISTORY
    assert recent.destination("https://r2000.example:443", NOW).delivered == 1


def test_what_another_process_heard_counts_as_if_it_had_been_heard_here_and_once() -> None:
    buffer, recent, own = AttemptBuffer(), RecentAttempts(NOW), RecentAttempts(NOW)
    batch = [heard(NOW), heard(NOW + 1, answer(503)), heard(NOW + 2, origin="https://other.example:443")]
    for hear in (buffer, own):
        hear(batch)
    recent.add(buffer.take())
    recent.add(buffer.take())
    assert recent.minutes(NOW + 5) == own.minutes(NOW + 5)
    assert recent.destination(HERE, NOW + 5) == own.destination(HERE, NOW + 5)


def test_what_the_outbox_kept_is_recalled_after_a_restart(database: Database) -> None:
    now = time.time()
    put(database, *many(3), new("elsewhere", "https://other.example/"))
    ended(database, "d1", "delivered", at=now - 3 * MINUTE, outcome="success", status=200)
    ended(database, "d2", at=now - MINUTE)
    ended(database, "d3", at=now - 2 * 24 * HOUR)
    recent = recalled(database)
    told = recent.minutes(now, count=5)
    assert (sum(one.delivered for one in told), sum(one.failed for one in told)) == (1, 1)
    assert recent.destination(HERE, now).delivered == 1
    assert recent.destination("https://other.example:443", now) is NO_HISTORY
    assert recent.since == pytest.approx(now - 3 * MINUTE, abs=2)
