"""The operators' commands as they type them; in pipes, shells and a terminal they are real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from relay.admin.auth import Authenticator
from relay.cli import SECTIONS, main
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Database
from tests.commands import in_a_terminal, run_here
from tests.ports import free_port
from tests.relay.admin.past import change, ended, tried
from tests.relay.databases import on_sqlite
from tests.relay.deliveries import many, new, put, rows, states

PROGRAM = Path(sys.executable).with_name("relay")
ORIGIN = "https://receiver.example:443"


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Operator:
    """Somebody with a shell, and a database."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        clean = {
            name: text for name, text in os.environ.items() if not name.startswith(("OUTSPOKEN_", "NO_COLOR", "PYTHON"))
        }
        self.environ = clean | {"OUTSPOKEN_OUTBOX__URL": url, "TERM": "xterm-256color"}

    def __call__(self, *words: str, stdin: bytes = b"", **environ: str) -> Done:
        """The command in this process."""
        return Done(*run_here(main, list(words), self.folder, self.environ | environ, stdin))

    def shell(self, script: str) -> Done:
        """A line of bash, in which `relay` is the installed program."""
        done = subprocess.run(
            ["bash", "-c", script],
            capture_output=True,
            cwd=self.folder,
            env=self.environ | {"PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"},
            timeout=60,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def in_a_terminal(self, *words: str, answer: bytes = b"", **environ: str) -> tuple[int, str]:
        """Exit code and what the terminal saw."""
        return in_a_terminal(PROGRAM, words, self.folder, self.environ | {"COLUMNS": "200"} | environ, answer)


@pytest.fixture
def relay(folder: Path, database: Database) -> Operator:
    return Operator(folder, database.url)


def dead(database: Database, count: int) -> None:
    put(database, *many(count))
    change(
        database, "UPDATE outspoken_deliveries SET state = 'dead', reason = 'exhausted', finished_at = 1, attempts = 11"
    )


def test_status_says_how_things_stand_and_what_is_wrong(relay: Operator, database: Database) -> None:
    put(database, *many(2))
    text = relay("status")
    assert text.code == 0
    assert re.search(r"^due now +2, the oldest for ", text.out, re.M)
    verdict = "No relay has worked on this database yet, and 2 deliveries are due: start `relay run`."
    assert text.out.splitlines()[0] == verdict
    (told,) = relay("status", "--json").json
    assert (told["ready"], told["destinations"]) == (2, {"delivering": 1})
    assert told["condition"]["ours"] == [verdict]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["taken_at"])


def test_a_monitor_gets_one_line_and_an_exit_code(relay: Operator, database: Database) -> None:
    assert relay("status", "--check") == (0, "well: Nothing is late, and nothing is wrong.\n", "")
    put(database, new())
    ended(database, "d1", at=time.time())
    attention = relay("status", "--check")
    assert (attention.code, attention.out.count("\n")) == (1, 1)
    assert attention.out.startswith(f"attention: 1 endpoint needs attention: {ORIGIN}/hook. It answers 500")
    change(database, "INSERT INTO outspoken_relays (holder, seen_at) VALUES ('one', ?)", time.time() - 90)
    broken = relay("status", "--check", "--json")
    assert (broken.code, broken.json[0]["severity"], broken.json[0]["attention"]) == (2, "broken", 1)
    nowhere = relay("status", "--check", OUTSPOKEN_OUTBOX__URL=f"sqlite:///{relay.folder}/none.db")
    assert (nowhere.code, nowhere.out.startswith("broken: "), nowhere.err) == (2, True, "")


@pytest.mark.acceptance
def test_a_list_in_a_pipe_is_plain_text_and_its_json_has_documented_fields(relay: Operator, database: Database) -> None:
    put(database, new("d1", "https://user:hunter2@receiver.example/t0ken?sig=s3cret"), new("d2"))
    ended(database, "d1", attempts=3)
    text = relay.shell("relay list | cat")
    heading, second, first = text.out.splitlines()
    assert heading.split() == ["ID", "STATE", "DESTINATION", "ADDED", "ATTEMPTS", "LAST", "NEXT"]
    assert (second.split()[:3], first.split()[:3]) == (["d2", "pending", ORIGIN], ["d1", "dead", ORIGIN])
    assert first.split()[-3:] == ["answered", "500", "exhausted"]
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ \(\d+ m?s ago\)", first)
    assert "\x1b" not in text.out
    told = relay("list", "--json", "--state", "dead").json
    assert [one["id"] for one in told] == ["d1"]
    assert list(told[0]) == [
        *("seq", "id", "state", "destination", "kind", "created_at", "due_at", "finished_at", "reason", "body_bytes"),
        *("attempts", "last_number", "last_outcome", "last_status", "held"),
    ]
    for secret in ("hunter2", "t0ken", "s3cret"):
        assert secret not in text.out + json.dumps(told)


def test_exit_codes_say_what_happened(relay: Operator) -> None:
    for words, code, complaint in (
        (("list", "--state", "dead"), 4, "relay: no delivery matches\n"),
        (("show", "nobody"), 3, "relay: no delivery 'nobody'\n"),
        (("replay",), 5, "relay: this would be about every delivery: name some, filter them, or say --all\n"),
        (("resume", ORIGIN), 3, None),
        (("pause", "00000000"), 3, "relay: no destinations have an id that begins with 00000000\n"),
        (("pause", "nonsense"), 2, None),
        (("list", "--since", "yesterday"), 2, None),
        (("replay", "--state", "pending"), 2, None),
    ):
        done = relay(*words)
        assert (done.code, done.out) == (code, ""), words
        assert complaint is None or done.err == complaint
        assert "Traceback" not in done.err


@on_sqlite
def test_without_a_database_that_is_said_in_one_line(relay: Operator, folder: Path) -> None:
    done = relay("status", OUTSPOKEN_OUTBOX__URL=f"sqlite:///{folder}/none.db")
    assert (done.code, done.err.count("\n"), "no database there" in done.err) == (1, 1, True)


def test_one_broken_row_takes_no_command_down(relay: Operator, database: Database) -> None:
    put(database, new("d{1}/%"), new("d2"))
    ended(database, "d{1}/%", attempts=2, outcome="http_413", status=413)
    change(database, "UPDATE outspoken_attempts SET timing = '[]', request_headers = '{}', answer_headers = '[1]'")
    for words in (["show", "d{1}/%", "--attempts"], ["show", "d{1}/%", "--attempts", "--json"], ["list"], ["status"]):
        done = relay(*words)
        assert (done.code, done.err) == (0, ""), words


def test_show_explains_a_delivery_and_never_its_credentials(relay: Operator, database: Database) -> None:
    put(database, new("d1", "https://user:hunter2@receiver.example/t0ken?sig=s3cret", body=b'{"text":"a\x1b[2J\nb"}'))
    ended(database, "d1", attempts=2, detail="the receiver answered 500")
    plain = relay("show", "d1", "--curl")
    assert "t0ken" not in plain.out
    assert "webhook-signature: <relay sign>" in plain.out
    full = relay("show", "d1", "--attempts", "--body", "--reveal")
    assert full.code == 0
    assert re.search(r"^attempt 2 ", full.out, re.M)
    assert "the receiver answered 500" in full.out
    assert "https://***@receiver.example/t0ken?sig=s3cret" in full.out
    assert "\x1b" not in full.out  # neither from the body nor from the answer
    assert "a\\x1b[2J\nb" in full.out
    (told,) = relay("show", "d1", "--attempts", "--body", "--json").json
    assert (told["body"], len(told["attempts_made"])) == ('{"text":"a\x1b[2J\nb"}', 2)
    assert "hunter2" not in plain.out + full.out + json.dumps(told)


@pytest.mark.acceptance
def test_bulk_acts_want_a_word_first_and_a_dry_run_gives_it(relay: Operator, database: Database) -> None:
    dead(database, 3)
    unsure = relay("replay", "--destination", "https://receiver.example/any/path")
    assert unsure.code == 5
    dry = relay("replay", "--destination", "https://receiver.example/any/path", "--dry-run")
    assert (dry.code, states(database)["d1"]) == (0, "dead")
    assert re.search(rf"3 deliveries, 48 B:\n +3  {re.escape(ORIGIN)}$", dry.out, re.M)
    confirm = dry.out.splitlines()[-1].removeprefix("To do it:  ")
    assert confirm in unsure.err
    assert relay.shell(confirm).code == 0
    assert set(states(database).values()) == {"pending"}
    assert relay("cancel", "--dry-run").code == 5
    assert relay("cancel", "--all", "--id-prefix", "d").code == 2
    assert relay("cancel", "--all", "--yes").out.startswith("3 of 3 cancelled")


@pytest.mark.acceptance
@on_sqlite
def test_a_thousand_are_replayed_at_a_rate(relay: Operator, database: Database) -> None:
    dead(database, 1000)
    done = relay.shell("relay replay --all --rate 100 --yes --json </dev/null")
    (told,) = done.json
    assert (told["done"], told["planned"], told["destinations"], told["bytes"]) == (1000, 1000, {ORIGIN: 1000}, 16000)
    assert done.err == ""  # no progress bar in a pipe
    ((first, last),) = rows(
        database, "SELECT min(due_at), max(due_at) FROM outspoken_deliveries WHERE state = 'pending'"
    )
    assert last - first == pytest.approx(9.99)
    (line,) = relay("audit", "--json").json
    assert (line["act"], line["source"], line["detail"]["run"]) == ("delivery.replay", "cli", told["run"])


@on_sqlite
def test_in_80_columns_nothing_is_cut_and_what_does_not_fit_stands_below(relay: Operator, database: Database) -> None:
    id_ = "01a1fc0a-9bc8-71ba-82e4-a1bb78000001"
    put(database, new(id_, "https://a-host-with-a-long-name.customers.receiver.example/hook"))
    code, seen = relay.in_a_terminal("list", COLUMNS="80", NO_COLOR="1")
    lines = seen.splitlines()
    assert (code, max(map(len, lines)) <= 80) == (0, True)
    assert lines[1].split() == [id_, "pending"]
    assert lines[2].startswith("    destination https://a-host-with-a-long-name.customers.receiver.example:443")
    assert relay("show", id_[:14]).code == 0
    host = f"{'a' * 60}.{'b' * 60}.example"
    put(database, new("d2", f"https://{host}/hook", headers={"x-note": "word " * 30}))
    for command in (["status"], ["destinations"], ["show", "d2", "--reveal"]):
        code, seen = relay.in_a_terminal(*command, COLUMNS="80", NO_COLOR="1")
        lines = seen.splitlines()
        assert (code, [line for line in lines if len(line) > 80 and host not in line]) == (0, [])
        assert command != ["destinations"] or [line for line in lines if host in line] == [f"    https://{host}:443"]


def test_json_is_one_line_that_steers_no_terminal(relay: Operator, database: Database) -> None:
    put(database, new())
    ended(database, "d1", detail=(said := "\u202e\x9b1\U000e0001"))
    done = relay("tail", "--json")
    assert "\\u202e\\u009b1\\udb40\\udc01" in done.out
    assert (len(done.out.splitlines()), done.json[0]["detail"]) == (1, said)


def test_a_destination_is_paused_before_anything_goes_there(relay: Operator, database: Database) -> None:
    assert relay("pause", "https://new.example").out == "https://new.example:443 is paused\n"
    put(database, new("d1", "https://new.example/hook"))
    (told,) = relay("show", "d1", "--json").json
    assert told["waits_for"] == "its destination, which an operator paused, until somebody resumes it"


def test_a_refusal_is_said_once(relay: Operator) -> None:
    done = relay("verify-url", "--offline", "http://169.254.169.254/")
    verdict, *checks = done.out.splitlines()
    why = verdict.split('"')[-1].strip()
    assert (done.code, done.out.count(why)) == (5, 1)
    assert any(" deny " in line for line in checks)


def test_the_help_lists_every_command_once_and_in_its_section(relay: Operator) -> None:
    told = relay("--help").out
    names = [name for section in SECTIONS.values() for name in section]
    assert "Besides:" not in told
    assert [len(re.findall(rf"^  {name} ", told, re.M)) for name in names] == [1] * len(names)
    assert "..." not in told.partition("To run:")[2]


def test_named_deliveries_need_no_further_word(relay: Operator, database: Database) -> None:
    dead(database, 2)
    assert relay("replay", "d1").out.startswith("1 of 1 replayed")
    assert relay("replay", "d1").code == 5
    assert states(database) == {"d1": "pending", "d2": "dead"}


def test_destinations_are_paused_and_enabled_by_any_url_of_theirs(relay: Operator, database: Database) -> None:
    put(database, new())
    assert relay("pause", "https://user:hunter2@Receiver.example/t0ken").out == f"{ORIGIN} is paused\n"
    assert relay("pause", ORIGIN).out == f"{ORIGIN} was paused already\n"
    (told,) = relay("destinations", "--json").json
    assert told["state"] == "paused"
    assert relay("enable", told["id"][:6], "--json").json == [{"destination": ORIGIN, "changed": True}]
    assert rows(database, "SELECT state FROM outspoken_destinations") == [("active",)]


def test_a_long_path_shows_its_ends_alone_until_it_is_asked_for(relay: Operator, database: Database) -> None:
    path = "/services/T0123456/B0123456/s3cr3tt0k3nth4tn0b0dyr34ds"
    put(database, new("d1", f"https://receiver.example{path}"))
    assert relay("pause", ORIGIN, "--path", path).code == 0
    table = relay("destinations").out
    assert "/services/T0123456/B…34ds" in table
    assert "s3cr3t" not in table
    assert path in relay("destinations", "--reveal").out
    assert relay("destinations", "--json").json[0]["endpoints"][0]["path"] == path


@contextmanager
def started(relay: Operator, *words: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=relay.environ
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.acceptance
def test_a_tail_follows_until_it_is_interrupted(relay: Operator, database: Database) -> None:
    put(database, *many(2))
    ended(database, "d1")
    with started(relay, "tail", "-f", "--json") as tail:
        assert tail.stdout
        assert json.loads(tail.stdout.readline())["id"] == "d1"
        tried(database, "d2", 1, time.time(), "dns", detail="no such name")
        told = json.loads(tail.stdout.readline())
        assert (told["id"], told["outcome"], told["detail"], told["number"]) == ("d2", "dns", "no such name", 1)
        tail.send_signal(signal.SIGINT)
        assert (tail.wait(10), tail.stderr and tail.stderr.read()) == (0, "")


def test_stats_count_attempts_by_group(relay: Operator, database: Database) -> None:
    put(database, new())
    ended(database, "d1", attempts=3, at=time.time())
    (told, other) = relay("stats", "--by", "outcome", "--since", "15m", "--json").json
    assert (told["group"], told["attempts"], told["delivered"]) == ({"outcome": "connect"}, 2, 0)
    assert other["group"] == {"outcome": "http_5xx"}
    assert relay("stats", "--by", "weather").code == 2


def test_keys_sign_what_verify_accepts_and_secrets_are_shown_once(relay: Operator) -> None:
    (made,) = relay("keys", "add", "--json").json
    body = b'{"text": "hello"}'
    signed = relay("sign", "--id", "d1", stdin=body)
    (relay.folder / "headers").write_text(f"POST /hook HTTP/1.1\n{signed.out}")
    assert relay("verify", "--headers", "headers", stdin=body).out == "the signature holds\n"
    (relay.folder / "secret").write_text(made["handover"] + "\n")
    again = relay("verify", "--headers", "headers", "--key", "@secret", stdin=b'{"text":"hello"}')
    assert (again.code, again.out.split(":")[0]) == (1, "reserialised")
    (late,) = relay("verify", "--headers", "headers", "--at", "2020-01-01", "--json", stdin=body).json
    assert (late["valid"], late["flaw"]) == (False, "clock_skew")
    listed = relay("keys", "list")
    assert made["fingerprint"] in listed.out
    assert made["handover"] not in listed.out
    (new_key,) = relay("keys", "rotate", "--overlap", "1h", "--json").json
    assert new_key["retiring"] == [made["id"]]
    assert relay("keys", "retire", str(new_key["id"])).code == 5


@pytest.mark.acceptance
@on_sqlite
def test_a_listening_receiver_says_whether_a_key_signed(relay: Operator) -> None:
    (made,) = relay("keys", "add", "--json").json
    headers = relay("sign", "--id", "d1", stdin=b"{}").out.splitlines()
    with started(relay, "listen", "--port", "0", "--json", "--verify-key", made["handover"]) as receiver:
        assert receiver.stdout
        assert receiver.stderr
        url = json.loads(receiver.stderr.readline())["url"]
        for body in ("{}", "[]"):
            words = [word for header in headers for word in ("-H", header)]
            subprocess.run(["curl", "-s", "--noproxy", "*", "-d", body, *words, url], check=True, timeout=20)
        first, second = (json.loads(receiver.stdout.readline()) for _ in range(2))
    assert (first["signature"], first["status"]) == ("valid", 200)
    assert (second["signature"].split(":")[0], second["status"]) == ("invalid", 200)


@pytest.mark.acceptance
@on_sqlite
def test_a_probe_is_sent_only_when_it_is_asked_for_and_tells_what_came_of_it(relay: Operator) -> None:
    relay("keys", "add")
    with started(relay, "listen", "--port", "0", "--json", "--max-body", "1000") as receiver:
        assert receiver.stderr
        assert receiver.stdout
        url = json.loads(receiver.stderr.readline())["url"]
        ask = partial(
            relay,
            "verify-url",
            OUTSPOKEN_OUTBOX__GUARD__ALLOW_NETWORKS="127.0.0.0/8",
            OUTSPOKEN_OUTBOX__GUARD__PORTS=url.split(":")[2].split("/")[0],
        )
        assert ask(url).code == 0
        done = ask("--probe", f"{url}?SECRET")
        assert (done.code, done.out.splitlines()[-1].split()) == (0, ["delivery", "would", "be", "delivered"])
        large = ask("--probe", "--bytes", "2000", "--method", "PUT", "--json", url)
        assert (large.code, large.json[0]["probe"]["outcome"], large.json[0]["verdict"]) == (1, "http_413", "allow")
        first, second = (json.loads(receiver.stdout.readline()) for _ in range(2))
        assert [one["method"] for one in (first, second)] == ["POST", "PUT"]  # and nothing came before
    denied = relay("verify-url", "--probe", "--json", url)
    assert (denied.code, "probe" in denied.json[0]) == (5, False)
    assert "SECRET" not in done.out


@on_sqlite
@pytest.mark.parametrize(
    "words",
    [("--probe", "-"), ("--probe", "--live", "ws://x.example/"), ("--probe", "--offline", "http://x.example/")]
    + [("--bytes", "1000", "http://x.example/"), ("--method", "PUT", "http://x.example/")],
)
def test_a_probe_that_could_not_be_meant_is_wrong_usage(relay: Operator, words: tuple[str, ...]) -> None:
    assert relay("verify-url", *words).code == 2


def test_the_outbox_is_kept_well(relay: Operator, database: Database) -> None:
    put(database, *many(3))
    change(database, "UPDATE outspoken_deliveries SET created_at = 1")
    ended(database, "d1", at=1.0)
    (dry,) = relay("retention", "--dry-run", "--json").json
    assert (dry["deliveries"], len(states(database))) == (1, 3)
    assert relay("retention").out.startswith("forgot 1 deliveries")
    assert states(database) == {"d2": "pending", "d3": "pending"}
    assert relay("migrate").out == "up to date\n"
    assert relay("migrate", "--json").json == [{"applied": []}]
    assert [line["act"] for line in relay("audit", "--json").json] == ["retention"]
    assert "  retention  deliveries 1, bodies 1, body bytes 16, " in relay("audit").out


@on_sqlite
def test_who_migrates_a_file_that_others_may_read_is_told(relay: Operator, path: Path) -> None:
    assert relay("migrate").err == ""
    path.chmod(0o644)
    assert relay("migrate").err.startswith(f"relay: others may read the outbox: chmod o= {path}")


@on_sqlite
def test_a_file_is_copied(relay: Operator, database: Database) -> None:
    put(database, *many(3))
    (copy,) = relay("backup", "copy.db", "--json").json
    assert (copy["path"], states(SqliteDatabase(relay.folder / "copy.db"))) == ("copy.db", states(database))
    assert [line["act"] for line in relay("audit", "--json").json] == ["backup"]


@on_sqlite
def test_what_is_no_file_is_refused_with_the_tool_that_copies_it(relay: Operator) -> None:
    done = relay("backup", "copy", OUTSPOKEN_OUTBOX__URL="postgresql://ada:hunter2@127.0.0.1:9/outspoken")
    assert (done.code, "pg_dump" in done.err, "hunter2" in done.err) == (5, True, False)


def test_relative_times_are_by_the_clock_of_the_database(relay: Operator, database: Database) -> None:
    put(database, *many(2))
    change(database, "UPDATE outspoken_deliveries SET created_at = created_at - 7200 WHERE id = 'd1'")
    assert [one["id"] for one in relay("list", "--since", "1h", "--json").json] == ["d2"]
    assert [one["id"] for one in relay("list", "--until", "1h", "--json").json] == ["d1"]


def test_a_sound_installation_is_no_failure(relay: Operator) -> None:
    assert relay("doctor").code == 0


@on_sqlite
def test_a_server_that_is_down_is_a_finding_among_others(relay: Operator) -> None:
    down = f"postgresql://ada:hunter2@127.0.0.1:{free_port()}/outspoken"
    done = relay("doctor", "--egress", "--json", OUTSPOKEN_OUTBOX__URL=down)
    levels = {one["check"]: one["level"] for one in done.json}
    assert (done.code, done.err, levels["server"], levels["egress"]) == (1, "", "fail", "fail")
    assert levels["config"] == levels["guard"] == "ok"
    assert "hunter2" not in done.out


@on_sqlite
def test_the_doctor_fails_when_something_does(relay: Operator, path: Path) -> None:
    path.chmod(0o604)
    findings = {one["check"]: one for one in relay("doctor", "--json").json}
    assert (findings["permissions"]["level"], findings["config"]["level"]) == ("fail", "ok")
    assert relay("doctor", OUTSPOKEN_RELAY__PROT="1").code == 1


@on_sqlite
def test_settings_come_with_their_origin(relay: Operator) -> None:
    (relay.folder / "mine.toml").write_text("[relay]\nport = 9999\n[engine]\nport = 1\n")
    shown = relay("config", "show", "--json", "--config", "mine.toml").json
    origins = {one["setting"]: (one["value"], one["origin"]) for one in shown}
    assert origins["relay.port"] == (9999, "mine.toml")
    assert origins["relay.retry.retries"] == (10, "default")
    assert origins["outbox.url"] == (relay.url, "environment")
    assert "  value      9999  (mine.toml)\n" in relay("config", "--explain", "relay.port", "--config", "mine.toml").out
    assert '"relay.port", "value": 9999' in relay("config", "--config", "mine.toml", "show", "--json").out
    misspelt = relay("config", "--explain", "relay.prot")
    assert (misspelt.code, misspelt.err) == (78, "relay: relay.prot: no such setting; perhaps relay.port?\n")
    assert relay("config", "check").code == 0
    bad = relay("config", "check", OUTSPOKEN_RELAY__RETRY__DELAY="soon")
    assert (bad.code, bad.err.startswith("relay: environment: relay.retry.delay: ")) == (78, True)
    assert relay("config", "check", "--json").json == [{"file": None, "valid": True, "error": None}]
    bad = relay("config", "check", "--json", OUTSPOKEN_RELAY__RETRY__DELAY="soon")
    assert (bad.code, bad.json[0]["valid"], bad.json[0]["error"].split(": ")[1]) == (78, False, "relay.retry.delay")


@pytest.mark.acceptance
@on_sqlite
def test_a_reader_that_has_seen_enough_is_no_reason_to_complain(relay: Operator, database: Database) -> None:
    put(database, *many(1000))
    done = relay.shell(
        "relay list --limit 1000 | head -1; relay list --json --limit 1000 | head -1; true | relay status | true"
    )
    assert (len(done.out.splitlines()), done.err) == (2, "")


@pytest.mark.acceptance
@on_sqlite
def test_a_terminal_gets_colours_and_a_question_unless_it_wants_none(relay: Operator, database: Database) -> None:
    dead(database, 2)
    code, seen = relay.in_a_terminal("list")
    assert (code, "\x1b[31mdead" in seen) == (0, True)
    code, seen = relay.in_a_terminal("list", NO_COLOR="1")
    assert (code, "\x1b[" in seen, "dead" in seen) == (0, False, True)
    code, seen = relay.in_a_terminal("replay", "--all", answer=b"n\n")
    assert ("Would replay 2 deliveries" in seen, set(states(database).values())) == (True, {"dead"})
    code, seen = relay.in_a_terminal("replay", "--all", answer=b"y\n")
    assert (code, "2 of 2 replayed" in seen, set(states(database).values())) == (0, True, {"pending"})


@pytest.mark.acceptance
@on_sqlite
def test_bash_completes_the_commands(relay: Operator) -> None:
    completing = "COMP_WORDS=(relay rep); COMP_CWORD=1; _relay_completion relay; echo ${COMPREPLY[@]}"
    done = relay.shell(f"source <(relay completion bash); {completing}")
    assert (done.out.strip(), done.err) == ("replay", "")
    assert relay("completion", "tcsh").code == 2


@on_sqlite
def test_the_key_of_an_owner_is_made_by_the_token(relay: Operator) -> None:
    gate = Authenticator("a-token-of-16-letters-or-more")
    made = relay("owner-key", "shop 3", "--for", "1h", OUTSPOKEN_RELAY__ADMIN__TOKEN="a-token-of-16-letters-or-more")
    key, now = made.out.strip(), time.time()
    assert gate.owner(key, now) == "shop 3"
    assert gate.owner(key, now + 3601) is None
    assert relay("owner-key", "").code == relay("owner-key", "x" * 129).code == 2
