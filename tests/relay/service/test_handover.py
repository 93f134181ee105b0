"""A command that becomes another program, which is the same process and knows what the command did."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.acceptance

COMMAND = """
import os, sys
from relay.service.handover import become
sys.path.append({folder!r})
os.environ["PYTHONPATH"] = {folder!r}
become("heir", {{"secret": "s3cret", "pid": os.getpid()}})
"""
HEIR = """
import json, os, sys
from relay.service.handover import handed_over
known = handed_over(sys.argv[1])
told = {"known": known, "pid": os.getpid(), "lent": int(sys.argv[1])}
told["left"] = sys.argv[1] in os.listdir("/proc/self/fd")
told["seen"] = "s3cret" in repr((sys.argv, sys.orig_argv, dict(os.environ)))
told["listed"] = open("/proc/self/cmdline").read().rstrip("\\0").replace("\\0", " ")
with open("told", "w") as file:
    json.dump(told, file)
"""


INTERRUPTED = """
import os, signal, sys
from relay.service.handover import handed_over
os.kill(os.getpid(), signal.SIGINT)
try:
    handed_over(sys.argv[1])
except KeyboardInterrupt:
    sys.exit(130)
"""


def _become(heir: str, folder: Path, closed: str = "") -> tuple[int, str]:
    """The exit code, and what stands on standard error."""
    (folder / "heir.py").write_text(heir)
    (folder / "command.py").write_text(COMMAND.format(folder=str(folder)))
    command = ["sh", "-c", f'exec "$0" command.py run --config "a file" {closed}', sys.executable]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stderr


def _told(folder: Path, closed: str = "") -> Any:
    assert _become(HEIR, folder, closed) == (0, "")
    return json.loads((folder / "told").read_text())


def test_it_is_the_same_process_and_knows_the_same(tmp_path: Path) -> None:
    told = _told(tmp_path)
    assert told["known"] == {"secret": "s3cret", "pid": told["pid"]}


def test_what_it_knows_is_neither_among_its_arguments_nor_in_its_environment_and_no_file_is_left(
    tmp_path: Path,
) -> None:
    told = _told(tmp_path)
    assert not told["seen"]
    assert not told["left"]


def test_what_was_typed_stays_in_the_list_of_processes(tmp_path: Path) -> None:
    assert _told(tmp_path)["listed"].endswith("command.py run --config a file")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_standard_stream_that_is_closed_stays_so(tmp_path: Path, closed: str) -> None:
    assert _told(tmp_path, closed)["lent"] > 2


def test_a_ctrl_c_that_comes_too_early_is_heard_by_who_is_ready_for_it(tmp_path: Path) -> None:
    assert _become(INTERRUPTED, tmp_path) == (130, "")
