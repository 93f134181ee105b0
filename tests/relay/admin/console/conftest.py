from __future__ import annotations

from pathlib import Path

import pytest

from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Database


@pytest.fixture
def database(path: Path) -> Database:
    """An empty outbox in a file: what the pages ask of either database is tested in tests/relay/admin."""
    return SqliteDatabase(path)
