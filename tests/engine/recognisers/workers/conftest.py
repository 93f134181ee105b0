"""Where workers that stand in for the real ones are found: they are told of no folder but by their environment."""

from __future__ import annotations

import pytest

from tests.acceptance.stage import ROOT


@pytest.fixture(autouse=True)
def standins_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
