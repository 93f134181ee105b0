from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from tests import forks

pytestmark = pytest.mark.acceptance

Done = subprocess.CompletedProcess[str]
Relay = Callable[..., Done]

URLS = [
    "https://receiver.example.com/hook?x=1",
    "http://user:pa%20ss@10.0.0.1/",
    "ftp://receiver.example.com/",
    "https://receiver.example.com:25/",
    "wss://receiver.example.com/live",
    "http://a b/",
    "line\nbreak \u00e9 \x00",
    "",
]
RULES = [
    "ok",
    "forbidden_address",
    "forbidden_scheme",
    "forbidden_port",
    "forbidden_scheme",
    "forbidden_character",
    "forbidden_character",
    "forbidden_scheme",
]


@pytest.fixture
def relay(tmp_path: Path) -> Relay:
    """Runs the `relay` command as a stranger would, in an empty folder."""

    def run(*arguments: str, stdin: str = "", **environ: str) -> Done:
        clean = {name: text for name, text in os.environ.items() if not name.startswith("OUTSPOKEN_")}
        return forks.run(["relay", *arguments], clean | environ, tmp_path, stdin.encode())

    return run


def test_the_version_is_the_distributions(relay: Relay) -> None:
    done = relay("--version")
    assert (done.returncode, done.stdout) == (0, f"relay {version('outspoken')}\n")


def test_urls_come_back_judged_as_json_lines_in_their_order(relay: Relay) -> None:
    done = relay("verify-url", "--json", "--offline", "-", stdin="".join(json.dumps(url) + "\n" for url in URLS))
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert [line["url"] for line in lines] == URLS
    assert [line["rule"] for line in lines] == RULES
    assert [line["verdict"] for line in lines] == ["allow"] + ["deny"] * 7
    assert all(list(line) == ["url", "verdict", "rule", "message"] and line["message"] for line in lines)


def test_a_line_that_is_no_json_string_is_denied_where_it_stands(relay: Relay) -> None:
    done = relay("verify-url", "--json", "--offline", "-", stdin='"https://a.example.com/"\nhttps://b\n17\n\n"x\n')
    rules = [json.loads(line)["rule"] for line in done.stdout.splitlines()]
    assert rules == ["ok", *["not_a_json_string"] * 4]


def test_live_admits_web_sockets(relay: Relay) -> None:
    done = relay("verify-url", "--json", "--offline", "--live", "wss://a.example.com/", "https://b.example.com/")
    assert [json.loads(line)["verdict"] for line in done.stdout.splitlines()] == ["allow", "allow"]
    assert done.returncode == 0


def test_for_a_person_there_is_a_line_with_the_rule_and_a_denial_is_an_exit_code(relay: Relay) -> None:
    done = relay("verify-url", "--offline", "https://a.example.com/", "http://127.0.0.1/")
    allowed, denied = (line for line in done.stdout.splitlines() if not line.startswith(" "))
    assert allowed.split()[:3] == ["allow", "ok", '"https://a.example.com/"']
    assert denied.split()[:2] == ["deny", "forbidden_address"]
    parts = [line.split()[:2] for line in done.stdout.splitlines() if line.startswith(" ")]
    passed = [["text", "allow"], ["scheme", "allow"], ["host", "allow"], ["userinfo", "allow"]]
    assert parts == [*passed, ["port", "allow"], ["name", "allow"], *passed, ["address", "deny"], ["port", "allow"]]
    assert done.returncode == 5


def test_online_an_address_is_judged_by_the_operators_own_rules(relay: Relay) -> None:
    url = "http://127.0.0.1:9000/"
    opened = {"OUTSPOKEN_OUTBOX__GUARD__ALLOW_NETWORKS": "127.0.0.0/8", "OUTSPOKEN_OUTBOX__GUARD__PORTS": "9000"}
    assert json.loads(relay("verify-url", "--json", url).stdout)["verdict"] == "deny"
    assert json.loads(relay("verify-url", "--json", url, **opened).stdout)["verdict"] == "allow"


def test_a_misspelt_setting_ends_the_relay_with_78_and_one_line(relay: Relay) -> None:
    done = relay("run", OUTSPOKEN_RELAY__CONCURENCY="5")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == "relay: environment: relay.concurency: no such setting (misspelt?)\n"


def test_a_file_that_is_missing_or_broken_ends_the_relay_with_78(relay: Relay, tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("[relay\n")
    missing = relay("run", "--config", "missing.toml")
    broken = relay("run", OUTSPOKEN_CONFIG="broken.toml")
    assert (missing.returncode, missing.stderr) == (
        78,
        "relay: missing.toml: No such file or directory; name another with --config or OUTSPOKEN_CONFIG\n",
    )
    assert broken.returncode == 78
    assert broken.stderr.startswith("relay: broken.toml: not valid TOML")


def test_a_configuration_that_comes_through_a_pipe_is_read_once(relay: Relay) -> None:
    piped = ("--config", "/dev/stdin", "--json")
    done = relay("config", "show", *piped, stdin="[relay]\nport = 1\n")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["value"], row["origin"]) for row in rows if row["setting"] == "relay.port"] == [(1, "/dev/stdin")]


def test_a_port_in_use_is_said_in_one_line(relay: Relay) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = relay("run", OUTSPOKEN_RELAY__PORT=str(port))
    assert done.returncode == 1
    assert done.stderr.startswith(f"relay: relay.host, relay.port: cannot listen on 127.0.0.1:{port}: ")
    assert "in use" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_database_that_is_none_is_said_in_one_line(relay: Relay, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear Sir or Madam, " * 100)
    done = relay("run", OUTSPOKEN_OUTBOX__URL="sqlite:///letter.txt", OUTSPOKEN_RELAY__PORT="0")
    assert (done.returncode, done.stderr) == (1, "relay: outbox.url: letter.txt: file is not a database\n")


def test_listen_says_that_its_port_is_in_use(relay: Relay) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = relay("listen", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr.startswith(f"relay: --port {port}: ")
    assert "in use" in done.stderr
