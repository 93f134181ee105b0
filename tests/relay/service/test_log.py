from __future__ import annotations

import json
import logging

import pytest
import structlog

from relay.service.log import configure, redact
from tests.cases import cases
from tests.relay.logged import Lines, survives

pytestmark = pytest.mark.usefixtures("structlog_as_it_was")

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


def test_lines_below_the_level_are_not_written(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    configure("warning", "json", "relay")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    out = capfdbinary.readouterr().out
    assert b"quiet" not in out
    assert b"loud" in out


WRITE_A_LINE = """
import structlog
from relay.service.log import configure
configure("info", "{style}", "relay")
for _ in range(2000):
    structlog.get_logger().info("something.happened", filler="x" * 100)
import sys, os
print("survived", file=sys.stderr, flush=True)
os._exit(0)
"""


@pytest.mark.acceptance
@cases("style", ["json", "console"])
@cases("out", ["closed pipe", "full disk"])
def test_a_line_that_cannot_be_written_is_lost_and_nothing_else(style: str, out: str) -> None:
    assert survives(WRITE_A_LINE.format(style=style), out) == b"survived\n"


def test_what_a_library_logs_is_a_line_without_its_values(lines: Lines) -> None:
    library = logging.getLogger("some.library")
    try:
        int(f"authorization: {CANARY}")
    except ValueError:
        library.exception("Error handling request from %s\nwith %s", "127.0.0.1", CANARY)
    library.error(f"no template: {CANARY}")
    library.info("nobody needs this")
    first, second = lines()
    assert CANARY not in json.dumps([first, second])
    assert (first["event"], first["level"], first["logger"]) == ("library.logged", "error", "some.library")
    assert (first["detail"], first["kind"]) == ("Error handling request from %s", "ValueError")
    assert first["at"].startswith("service/test_log.py:")
    assert (second["detail"], second["kind"], second["at"]) == ("", "", "")


def test_what_a_library_says_again_and_again_is_told_when_its_count_has_doubled(lines: Lines) -> None:
    for number in range(100):
        logging.getLogger("some.library").warning("once more: %s", number)
    assert [line["count"] for line in lines()] == [1, 2, 4, 8, 16, 32, 64]
