from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from relay.service.interpreter import module_command

pytestmark = pytest.mark.acceptance


def test_what_lies_in_the_folder_is_taken_for_no_module(tmp_path: Path) -> None:
    (tmp_path / "relay.py").write_text("raise SystemExit('somebody else')")
    command = module_command("relay", "--version")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("relay ")
