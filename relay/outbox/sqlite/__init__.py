"""The outbox in one SQLite file, for everything that runs on one machine."""

from relay.outbox.sqlite.database import SqliteDatabase

__all__ = ["SqliteDatabase"]
