from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.cli.stage import Engine


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """The command, in an empty folder."""
    return Engine(tmp_path)
