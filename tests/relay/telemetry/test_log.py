from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from typing import Any

import pytest
import structlog

from relay.model import Attempted, BodyLimits, Dead, Failure, Method, Reason, Retry
from relay.telemetry.log import AttemptLog, configure, redact
from tests.relay.deliveries import answer, attempted, claimed

Lines = Callable[[], list[dict[str, Any]]]

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


@pytest.fixture
def lines() -> Iterator[Lines]:
    """The JSON lines on standard output so far."""
    written = io.BytesIO()
    with redirect_stdout(io.TextIOWrapper(written, write_through=True)):
        configure("info", "json", "relay")
        yield lambda: [json.loads(line) for line in written.getvalue().split(b"\n")[:-1]]


@pytest.fixture(autouse=True)
def structlog_as_it_was() -> Any:
    yield
    structlog.reset_defaults()


def logged(attempt: Attempted, lines: Lines) -> dict[str, Any]:
    AttemptLog()(attempt)
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


def too_large(server: str) -> Attempted:
    attempt = attempted(claimed(body_bytes=2_000_000), answer(413, headers=(("Server", server),)))
    return Attempted(**{name: getattr(attempt, name) for name in attempt.__slots__} | {"limits": BodyLimits(100, 900)})


def test_a_413_is_an_event_of_its_own_with_sizes_and_the_remedy(lines: Lines) -> None:
    AttemptLog()(too_large("nginx/1.22.1"))
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
    AttemptLog()(too_large(server))
    _, explained = lines()
    assert explained["server"] == server


CANARY = "canary"


@pytest.mark.parametrize(
    "text",
    [
        f"https://user:{CANARY}@receiver.example/hook",
        f"https://{CANARY}@receiver.example/hook",
        f"https://a:b@{CANARY}@receiver.example/hook",
        f"https://receiver.example/hook?token={CANARY}",
        f"https://receiver.example?{CANARY}",
        f"https://receiver.example/hook#{CANARY}",
        f"wss://user:{CANARY}@[2001:db8::1]:8443/hook?x={CANARY}#{CANARY}",
        f"cannot reach 'http://u:{CANARY}@h/?a=1&b={CANARY}' or \"https://h/?{CANARY}\": refused",
        f"http://h/a http://{CANARY}@h/b",
    ],
)
def test_userinfo_query_and_fragment_of_a_url_reach_no_line(lines: Lines, text: str) -> None:
    log = structlog.get_logger()
    log.info(text, detail=text)
    (line,) = lines()
    assert CANARY not in json.dumps(line)
    assert "receiver.example" in line["detail"] or "://" in line["detail"]


@pytest.mark.parametrize(
    "key",
    ["authorization", "Authorization", "api_key", "key", "secret", "token", "password", "url", "callback", "signature"],
)
def test_a_field_that_is_secret_by_its_name_is_not_written(lines: Lines, key: str) -> None:
    structlog.get_logger().info("event", **{key: CANARY})
    (line,) = lines()
    assert line[key] == "[redacted]"


def test_the_text_of_an_exception_is_redacted_too(lines: Lines) -> None:
    error = OSError(f"https://u:{CANARY}@h/?{CANARY}")
    structlog.get_logger().error("delivery.attempt.crashed", exc_info=error)
    (line,) = lines()
    assert "OSError: https://h/" in line["exception"]
    assert CANARY not in json.dumps(line)


def test_what_is_not_secret_stays_as_it_is() -> None:
    event = {"destination": "https://h:443", "path": "/var/x", "n": 3, "detail": "no url here? a@b"}
    assert redact(None, "info", dict(event)) == event


def test_nothing_of_the_url_or_the_headers_of_a_delivery_is_written(lines: Lines) -> None:
    delivery = claimed(url=f"https://u:{CANARY}@h.example/?{CANARY}", headers={"x-key": CANARY})
    came = answer(500, headers=(("Set-Cookie", CANARY),), excerpt=CANARY.encode())
    assert CANARY not in json.dumps(logged(attempted(delivery, came), lines))


def test_lines_below_the_level_are_not_written(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    configure("warning", "json", "relay")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    out = capfdbinary.readouterr().out
    assert b"quiet" not in out
    assert b"loud" in out


def test_for_a_person_there_are_plain_lines(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    configure("info", "console", "relay")
    AttemptLog()(attempted(claimed()))
    out = capfdbinary.readouterr().out.decode()
    assert "delivery.attempt.finished" in out
    assert not out.startswith("{")


WRITE_A_LINE = """
import structlog
from relay.telemetry.log import configure
configure("info", "{style}", "relay")
for _ in range(2000):
    structlog.get_logger().info("something.happened", filler="x" * 100)
import sys, os
print("survived", file=sys.stderr, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("out", ["closed pipe", "full disk"])
def test_a_line_that_cannot_be_written_is_lost_and_nothing_else(style: str, out: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    where = os.open("/dev/full", os.O_WRONLY) if out == "full disk" else writing
    done = subprocess.run(
        [sys.executable, "-c", WRITE_A_LINE.format(style=style)], stdout=where, stderr=subprocess.PIPE, check=True
    )
    os.close(writing)
    if where != writing:
        os.close(where)
    assert done.stderr == b"survived\n"
