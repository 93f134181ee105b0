from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from tests.commands import run_here


def test_settings_are_shown_with_their_origin_and_explained(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[engine]\nport = 9999\n[relay]\nport = 1\n")
    environ = {"OUTSPOKEN_CONFIG": "mine.toml", "OUTSPOKEN_ENGINE__WORKERS": "3"}
    code, shown, _ = run_here(main, ["config", "show"], tmp_path, environ)
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines()}
    assert (code, rows["engine.port"], rows["engine.workers"]) == (0, ["9999", "mine.toml"], ["3", "environment"])
    code, told, _ = run_here(main, ["config", "--explain", "engine.workers"], tmp_path, environ)
    assert (code, "value      3  (environment)" in told, "default    2" in told) == (0, True, True)
    code, _, complaint = run_here(main, ["config", "show"], tmp_path, {})
    assert (code, "config/outspoken.toml is not here" in complaint) == (0, True)
    assert run_here(main, ["config", "check", "--config", "no.toml"], tmp_path, {})[0] == 78


def test_programs_are_told_whether_the_settings_are_in_order_and_what_a_migration_did(tmp_path: Path) -> None:
    def said(*words: str, **environ: str) -> tuple[int, dict[str, Any]]:
        code, out, _ = run_here(main, [*words, "--json"], tmp_path, environ)
        return code, json.loads(out)

    assert said("config", "check") == (0, {"file": None, "valid": True, "error": None})
    code, told = said("config", "check", OUTSPOKEN_ENGINE__WORKERS="many")
    assert (code, told["valid"], "engine.workers" in told["error"]) == (78, False, True)
    assert said("migrate")[1]["applied"] != []
    assert said("migrate") == (0, {"applied": []})


@pytest.mark.acceptance
def test_a_reader_that_has_seen_enough_is_no_reason_to_complain(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("")
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "engine config show | true; echo ${PIPESTATUS[0]}"],
        capture_output=True,
        cwd=tmp_path,
        env=os.environ | {"PATH": programs, "OUTSPOKEN_CONFIG": "mine.toml"},
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == (b"1\n", b"")
