from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from relay import outbox

# A file system in memory, where there is one: SQLite syncs as ever, but no test waits for a busy disk.
_IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@pytest.fixture(scope="session")
def empty_outbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An outbox that was migrated once, to be copied."""
    path = tmp_path_factory.mktemp("outbox") / "empty.db"
    outbox.migrate(path, [outbox.outbox_migrations()])
    return path


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of this test's own."""
    with TemporaryDirectory(prefix="outspoken-", dir=_IN_MEMORY) as name:
        yield Path(name)


@pytest.fixture
def database(folder: Path, empty_outbox: Path) -> Path:
    """An empty outbox."""
    return Path(shutil.copy(empty_outbox, folder / "outspoken.db"))
