"""What stands in `outbox.url` may be wrong in many ways: each is one line that names it, and tells no secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relay.cli import main
from tests.commands import run_here

_SERVER = "postgresql://ada:S3CRET@127.0.0.1:1/speech"
_UNCLEAR = "it is unclear where the host begins"

MISSPELT = {
    "postgresql://ada:S3C/RET@db.example/speech": _UNCLEAR,
    "postgresql://ada:S3C?RET@db.example/speech": _UNCLEAR,
    "postgresql://ada:S3C#RET@db.example/speech": _UNCLEAR,
    "postgresql://ada:S3C@RET@db.example/speech": _UNCLEAR,
    "postgresql://ada:S3C[RET@db.example/speech": _UNCLEAR,
    "postgresql://ada:S3C RET@db.example/speech": _UNCLEAR,
    "postgresql://ada:S3C\u00dfRET@db.example/speech": _UNCLEAR,
    "postgresql://ada:S3C\u2100RET@db.example/speech": _UNCLEAR,
    "postgresql://ada:S3C\nRET@db.example/speech": _UNCLEAR,
    "postgresql://ada:S3C/RET@db.example/speech?sslmode=require": _UNCLEAR,
    "postgresql://ada:S3CRET@db.example:99999/speech": "the port is not a number",
    "postgresql://ada:S3CRET@db.example:x/speech": "the port is not a number",
    "postgresql://ada:S3CRET@[::1/speech": "the host is neither a name nor an address",
    "postgresql://ada:S3CRET@d~b/speech": "the host is neither a name nor an address",
    "postgresql://ada:S3CRET@db.example": _UNCLEAR,
    "postgresql://ada:S3CRET@db.example/": "expected sqlite:///",
    "postgresql://db.example": "expected sqlite:///",
    f"{_SERVER}?sslmod=require": "there is no option sslmod; sslmode is meant?",
    f"{_SERVER}?sslmode=maybe": "sslmode: expected disable",
    f"{_SERVER}?require": "expected options as ?name=value",
    f"{_SERVER}?port=99999": "port: expected a number",
    "mysql://ada:S3CRET@db.example/speech": "expected sqlite:///",
    "sqlite:///outbox.db?S3CRET": "expected sqlite:///",
    "S3CRET": "expected sqlite:///",
}

UNUSABLE = [
    _SERVER,
    f"{_SERVER}?sslmode=verify-full&sslrootcert=/nowhere/S3CRET.pem",
    f"{_SERVER}?target_session_attrs=S3CRET",
    f"{_SERVER}?ssl_min_protocol_version=S3CRET",
    f"{_SERVER}?passfile=/nowhere",
]
COMMANDS = ["status", "list", "doctor", "keys list", "migrate", "config show"]


def told(words: str, url: str, folder: Path) -> tuple[int, str, list[str]]:
    """Exit code, standard output, and the lines on standard error."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("OUTSPOKEN_")}
    code, out, err = run_here(main, words.split(), folder, clean | {"OUTSPOKEN_OUTBOX__URL": url})
    assert "RET" not in out.replace("SECRET", "") + err
    assert "Traceback" not in out + err
    return code, out, err.splitlines()


@pytest.mark.parametrize(("url", "why"), MISSPELT.items())
def test_a_misspelt_url_is_one_line_that_names_the_mistake(url: str, why: str, tmp_path: Path) -> None:
    for words in ("config check", "config show", "run", "status"):
        code, out, (line,) = told(words, url, tmp_path)
        assert (code, out) == (78, "")
        assert line.startswith("relay: environment: outbox.url: ")
        assert why in line


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize("url", UNUSABLE)
def test_a_database_that_cannot_be_reached_is_no_traceback(url: str, words: str, tmp_path: Path) -> None:
    code, out, lines = told(words, url, tmp_path)
    if words.startswith("config"):
        assert code == 0
        assert "postgresql://***@127.0.0.1:1/speech" in out
    else:
        assert code != 0
        assert len(lines) <= 1
