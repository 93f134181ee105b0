"""Which database a URL names."""

from __future__ import annotations

import re

from relay.outbox.errors import ConfigError
from relay.outbox.sqlite.opening import sqlite_path
from relay.outbox.store import Database

_EXPECTED = (
    "outbox.url: expected sqlite:///path/to/file.db (four slashes for an absolute path) "
    "or postgresql://user:password@host:5432/name"
)


def database_at(url: str) -> Database:
    """The database behind a URL. Raises ConfigError for one that names none, or needs an extra that is missing."""
    if url.startswith("sqlite:"):
        from relay.outbox.sqlite.database import SqliteDatabase  # it loads asyncio, for which others need not wait

        return SqliteDatabase(sqlite_path(url))
    if re.fullmatch(r"postgres(ql)?://\S+/\S+", url):
        return _postgres(url)
    raise ConfigError(_EXPECTED)


def _postgres(url: str) -> Database:
    try:
        from relay.outbox.postgres.database import PostgresDatabase
    except ImportError as error:
        raise ConfigError("outbox.url: PostgreSQL needs an extra: pip install 'outspoken[postgres]'") from error
    return PostgresDatabase(url)
