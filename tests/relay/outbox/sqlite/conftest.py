from __future__ import annotations

from pathlib import Path

import pytest

from relay.outbox.sqlite.database import SqliteDatabase


@pytest.fixture
def database(path: Path) -> SqliteDatabase:
    """An empty outbox in a file, whatever else there is."""
    return SqliteDatabase(path)
