from __future__ import annotations

import json
from contextlib import redirect_stdout
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog
from msgspec.structs import replace

from relay.outbox.model import Method
from relay.policy.attempt import Attempted, BodyLimits, Dead, Failure, Reason, Retry
from relay.service.log import configure
from relay.telemetry.log import AttemptLog
from tests.cases import cases
from tests.relay.deliveries import answer, attempted, claimed
from tests.relay.logged import Lines, survives

pytestmark = pytest.mark.usefixtures("structlog_as_it_was")


ALWAYS = {
    "event",
    "level",
    "timestamp",
    "service",
    "delivery.id",
    "attempt.number",
    "destination",
    "http.request.method",
    "outcome",
    "duration_s",
    "queue_lag_s",
    "request.body.bytes",
    "connection.reused",
    "verdict",
}


def tell(lines: Lines, *attempts: Attempted, level: str = "info") -> None:
    """Log a batch, as a relay does."""
    with redirect_stdout(lines.stream):
        AttemptLog(level, "json", "relay")(attempts)


def logged(attempt: Attempted, lines: Lines) -> dict[str, Any]:
    tell(lines, attempt)
    (line,) = lines()
    return line


def test_a_delivered_attempt_is_one_line(lines: Lines) -> None:
    line = logged(attempted(claimed(), answer(204, peer="203.0.113.9", reused=True)), lines)
    assert set(line) == ALWAYS | {"http.response.status_code", "network.peer.address"}
    assert (line["event"], line["level"], line["service"]) == ("delivery.attempt.finished", "info", "relay")
    assert (line["delivery.id"], line["attempt.number"]) == ("d1", 1)
    assert (line["destination"], line["http.request.method"]) == ("https://receiver.example:443", "POST")
    assert (line["outcome"], line["verdict"], line["http.response.status_code"]) == ("success", "delivered", 204)
    assert (line["duration_s"], line["queue_lag_s"], line["request.body.bytes"]) == (0.05, 0.5, 16)
    assert (line["network.peer.address"], line["connection.reused"]) == ("203.0.113.9", True)


def test_an_attempt_that_will_be_retried_says_when_and_why(lines: Lines) -> None:
    line = logged(attempted(claimed(attempts=2, lapses=1), answer(503), Retry(2000.0)), lines)
    assert set(line) == ALWAYS | {"http.response.status_code", "diagnosis", "retry.at"}
    assert (line["level"], line["outcome"], line["verdict"], line["retry.at"]) == (
        "warning",
        "http_5xx",
        "retry",
        2000.0,
    )
    assert (line["attempt.number"], line["diagnosis"]) == (4, "the receiver answered 503")


@pytest.mark.parametrize("failure", Failure)
def test_a_failure_has_an_outcome_and_no_status(lines: Lines, failure: Failure) -> None:
    line = logged(attempted(claimed(), answer(failure=failure)), lines)
    assert set(line) == ALWAYS | {"diagnosis", "retry.at"}
    assert (line["outcome"], line["level"]) == (failure.value, "warning")


def test_a_dead_letter_says_its_reason(lines: Lines) -> None:
    delivery = claimed(traceparent="00-ab-cd-01", method=Method.PUT)
    line = logged(attempted(delivery, answer(500), Dead(Reason.EXHAUSTED)), lines)
    assert set(line) == ALWAYS | {"http.response.status_code", "diagnosis", "reason", "traceparent"}
    assert (line["verdict"], line["reason"], line["traceparent"]) == ("dead", "exhausted", "00-ab-cd-01")


def test_a_batch_is_one_line_each_in_the_order_in_which_it_was_told(lines: Lines) -> None:
    batch = [attempted(claimed(f"d{number}"), answer(500 if number % 2 else 200)) for number in range(200)]
    tell(lines, *batch)
    assert [line["delivery.id"] for line in lines()] == [f"d{number}" for number in range(200)]
    assert [line["level"] for line in lines()] == ["info", "warning"] * 100


def test_an_empty_batch_is_no_line(lines: Lines) -> None:
    tell(lines)
    assert lines() == []


def test_a_line_is_stamped_as_structlog_stamps_one(lines: Lines) -> None:
    structlog.get_logger().info("other")
    tell(lines, attempted(claimed()))
    other, line = lines()
    assert set(other) == {"event", "level", "service", "timestamp"} <= set(line)
    stamps = [datetime.fromisoformat(one["timestamp"]) for one in (other, line)]
    assert [stamp.utcoffset() for stamp in stamps] == [timedelta(0)] * 2
    assert all(one["timestamp"].endswith("Z") for one in (other, line))
    assert stamps[0] <= stamps[1]


@pytest.mark.parametrize(
    ("level", "written"),
    [("debug", ["well", "failed"]), ("info", ["well", "failed"]), ("warning", ["failed"]), ("error", [])],
)
def test_only_what_is_bad_enough_is_written(lines: Lines, level: str, written: list[str]) -> None:
    tell(lines, attempted(claimed("well")), attempted(claimed("failed"), answer(500)), level=level)
    assert [line["delivery.id"] for line in lines()] == written


def too_large(server: str) -> Attempted:
    attempt = attempted(claimed(body_bytes=2_000_000), answer(413, headers=(("Server", server),)))
    return replace(attempt, limits=BodyLimits(100, 900))


def test_a_413_is_an_event_of_its_own_with_sizes_and_the_remedy(lines: Lines) -> None:
    tell(lines, too_large("nginx/1.22.1"))
    finished, explained = lines()
    assert (finished["event"], finished["outcome"]) == ("delivery.attempt.finished", "http_413")
    assert {key: explained[key] for key in explained if key not in ("timestamp", "service", "level")} == {
        "event": "delivery.attempt.too_large",
        "delivery.id": "d1",
        "attempt.number": 1,
        "destination": "https://receiver.example:443",
        "request.body.bytes": 2_000_000,
        "largest_accepted_bytes": 100,
        "smallest_refused_bytes": 900,
        "server": "nginx/1.22.1",
        "remedy": "nginx: raise client_max_body_size",
    }


@pytest.mark.parametrize("server", ["\udcff", "a\nb\r{}", '"', "\u2028", "x" * 8000])
def test_a_hostile_header_neither_breaks_a_line_nor_loses_it(lines: Lines, server: str) -> None:
    tell(lines, too_large(server))
    _, explained = lines()
    assert explained["server"] == server


CANARY = "canary"


def test_nothing_of_the_url_or_the_headers_of_a_delivery_is_written(lines: Lines) -> None:
    delivery = claimed(url=f"https://u:{CANARY}@h.example/?{CANARY}", headers={"x-key": CANARY})
    came = answer(500, headers=(("Set-Cookie", CANARY),), excerpt=CANARY.encode())
    assert CANARY not in json.dumps(logged(attempted(delivery, came), lines))


def test_a_diagnosis_that_repeats_a_url_shows_nothing_of_its_secrets(lines: Lines) -> None:
    came = answer(failure=Failure.PROTOCOL, detail=f"bad answer from https://u:{CANARY}@h.example/?{CANARY}")
    line = logged(attempted(claimed(), came), lines)
    assert line["diagnosis"] == "bad answer from https://h.example/"


def test_for_a_person_there_are_plain_lines(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    configure("info", "console", "relay")
    AttemptLog("info", "console", "relay")([attempted(claimed(number)) for number in ("first", "second")])
    out = capfdbinary.readouterr().out.decode()
    assert out.count("delivery.attempt.finished") == len(out.splitlines()) == 2
    assert "first" in out
    assert not out.startswith("{")


@pytest.mark.acceptance
@cases("out", ["closed pipe", "full disk"])
def test_a_batch_that_cannot_be_written_is_lost_and_nothing_else(out: str) -> None:
    assert survives(WRITE_A_BATCH, out) == b"survived\n"


WRITE_A_BATCH = """
from relay.service.log import configure
from relay.telemetry.log import AttemptLog
from tests.relay.deliveries import attempted, claimed
configure("info", "json", "relay")
log = AttemptLog("info", "json", "relay")
for _ in range(20):
    log([attempted(claimed())] * 100)
import sys, os
print("survived", file=sys.stderr, flush=True)
os._exit(0)
"""
