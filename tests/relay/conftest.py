from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from relay import outbox


@pytest.fixture(scope="session")
def empty_outbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An outbox that was migrated once, to be copied."""
    path = tmp_path_factory.mktemp("outbox") / "empty.db"
    outbox.migrate(path, [outbox.outbox_migrations()])
    return path


@pytest.fixture
def database(tmp_path: Path, empty_outbox: Path) -> Path:
    """An empty outbox."""
    return Path(shutil.copy(empty_outbox, tmp_path / "outspoken.db"))
