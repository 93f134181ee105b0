from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from relay.admin.auth import SESSION_SECONDS, TICKET_SECONDS, Authenticator, proper_name, token_of
from relay.outbox.errors import ConfigError
from tests.cases import cases
from tests.services.disks import failing_disk


def test_a_token_is_made_once_and_only_its_owner_reads_it(folder: Path) -> None:
    file = folder / "var" / "token"
    token = token_of("", file)
    assert len(token) >= 40
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token_of("", file) == token
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.acceptance
@pytest.mark.skipif(os.geteuid() != 0, reason="to mount a disk takes root")
def test_a_token_that_was_told_outlives_a_disk_that_fails() -> None:
    with failing_disk() as disk:
        token = token_of("", disk.folder / "token")
        disk.fail()
        disk.come_back()
        assert token_of("", disk.folder / "token") == token


def test_a_configured_token_needs_no_file(folder: Path) -> None:
    assert token_of("configured-by-hand", folder / "token") == "configured-by-hand"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_token_that_others_may_read_is_refused(folder: Path, mode: int) -> None:
    file = folder / "token"
    token_of("", file)
    file.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        token_of("", file)


def test_a_short_token_is_refused_wherever_it_stands(folder: Path) -> None:
    file = folder / "token"
    file.write_text("short\n")
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=r"relay\.admin\.token: a token has at least 16") as configured:
        token_of("short", file)
    assert "short" not in str(configured.value)
    with pytest.raises(ConfigError, match="token_file"):
        token_of("", file)


def test_a_folder_that_cannot_be_written_is_named(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(ConfigError, match=r"relay\.admin\.token_file: .*name a file that can be written"):
        token_of("", folder / "file" / "token")


def test_only_the_token_is_admitted() -> None:
    authenticator = Authenticator("the-token-itself-and-nothing-else")
    assert authenticator.admits("the-token-itself-and-nothing-else")
    for other in ("", "the-token-itself-and-nothing-els", "the-token-itself-and-nothing-elsE", "\udc80"):
        assert not authenticator.admits(other)


def test_a_session_holds_until_its_time_is_over_and_for_its_token_alone() -> None:
    authenticator = Authenticator("the-token-itself-and-nothing-else")
    session = authenticator.session("Ada Löwe", 1000.0)
    assert authenticator.visitor(session, 1000.0 + SESSION_SECONDS - 1) == "Ada Löwe"
    assert authenticator.visitor(session, 1000.0 + SESSION_SECONDS + 1) is None
    assert Authenticator("another-token-and-not-this-one").visitor(session, 1000.0) is None


@cases("change", ["later", "other name", "no signature", "nothing", "not even text"])
def test_a_forged_session_opens_nothing(change: str) -> None:
    authenticator = Authenticator("the-token-itself-and-nothing-else")
    until, name, signature = authenticator.session("Ada", 1000.0).split(".")
    forged = {
        "later": f"{int(until) + 10**6}.{name}.{signature}",
        "other name": f"{until}.{name}x.{signature}",
        "no signature": f"{until}.{name}",
        "nothing": "",
        "not even text": "\udc80.\udc80",
    }[change]
    assert authenticator.visitor(forged, 1000.0) is None


@cases(("said", "known_as"), [("Ada", "Ada"), ("", "api"), ("a\x1b[2J", "api"), ("x" * 65, "api")])
def test_a_name_is_printable_or_not_taken(said: str, known_as: str) -> None:
    assert proper_name(said, "api") == known_as


def test_a_ticket_opens_one_session_in_a_quarter_of_an_hour() -> None:
    authenticator, other = Authenticator("the-token-itself-and-nothing-else"), Authenticator("another-token-altogether")
    ticket = authenticator.ticket("ada", now=100.0)
    assert authenticator.visitor(ticket, 101.0) is None, "a ticket is no session"
    assert authenticator.redeem(authenticator.session("ada", 100.0), 101.0) is None, "and a session no ticket"
    assert other.redeem(ticket, 101.0) is None
    assert authenticator.redeem(ticket + "0", 101.0) is None
    assert authenticator.redeem(ticket, 101.0) == "ada"
    assert authenticator.redeem(ticket, 102.0) is None
    late = authenticator.ticket("ada", now=100.0)
    assert authenticator.redeem(late, 100.0 + TICKET_SECONDS) is None
