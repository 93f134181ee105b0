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
        # uv needs a tenth of pip's time; where it finds no index, pip may.
        uv = [find_uv_bin(), "pip", "install", "--quiet", "--python", str(place), requirement]
        pip = [sys.executable, "-m", "pip", "--python", str(place), "install", "--quiet", requirement]
        tried = [subprocess.run(uv, capture_output=True, text=True, check=False)]
        if tried[-1].returncode:
            tried.append(subprocess.run(pip, capture_output=True, text=True, check=False))
        if tried[-1].returncode:
            why = "\n".join(one.stderr[-500:] for one in tried)
            reason = f"{requirement} cannot be installed (is there a package index?): {why}"
            pytest.fail(reason) if os.environ.get("TESTS_SKIP_NOTHING") else pytest.skip(reason)
        done.touch()
    return place / "bin"
