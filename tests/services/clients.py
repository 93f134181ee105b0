"""Clients that cannot stand beside those of this environment: each in one of its own, under build/, made once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.acceptance.stage import ROOT


def installed(requirement: str) -> Path:
    """The folder of the programs of an environment that holds `name==version`. Skips the test, and in CI fails it,
    where it cannot be installed."""
    place = ROOT / "build" / "clients" / requirement
    done = place / "installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", place], check=True)
        if why := install(place, requirement):
            reason = f"{requirement} cannot be installed (is there a package index?): {why}"
            pytest.fail(reason) if os.environ.get("TESTS_SKIP_NOTHING") else pytest.skip(reason)
        done.touch()
    return place / "bin"


def install(environment: Path, requirement: str) -> str:
    """Into an environment. Returns why it could not be, or nothing."""
    # uv needs a tenth of pip's time; where it finds no index, pip may.
    uv = [find_uv_bin(), "pip", "install", "--quiet", "--python", str(environment), requirement]
    pip = [sys.executable, "-m", "pip", "--python", str(environment), "install", "--quiet", requirement]
    tried: list[str] = []
    for command in (uv, pip):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not done.returncode:
            return ""
        tried.append(done.stderr[-500:])
    return "\n".join(tried)
