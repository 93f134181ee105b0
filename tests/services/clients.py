"""Clients that cannot stand beside those of this environment: each in one of its own, under build/, made once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.stage import ROOT


def installed(requirement: str) -> Path:
    """The folder of the programs of an environment that holds `name==version`. Skips the test, and in CI fails it,
    where it cannot be installed."""
    place = ROOT / "build" / "clients" / requirement
    done = place / "installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        pip = [str(place / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", requirement]
        failed = subprocess.run(pip, capture_output=True, text=True, check=False)
        if failed.returncode:
            reason = f"{requirement} cannot be installed (is there a package index?): {failed.stderr[-500:]}"
            pytest.fail(reason) if os.environ.get("TESTS_SKIP_NOTHING") else pytest.skip(reason)
        done.touch()
    return place / "bin"
