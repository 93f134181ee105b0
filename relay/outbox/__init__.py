"""The outbox: where results wait, durably, until a receiver has them. The one door through which an engine enters.

A producer opens its connection with `connect` (sqlite3) or `connect_async` (aiosqlite), calls `add` inside its own
transaction, commits, and rings the `Bell`.
"""

from relay.outbox.database import connect, connect_async, sqlite_path
from relay.outbox.doorbell import Bell, Doorbell
from relay.outbox.migrate import migrate, migrations_of, outbox_migrations
from relay.outbox.producer import add, begin_stream, end_stream, keep_streams, watch_streams

__all__ = [
    "Bell",
    "Doorbell",
    "add",
    "begin_stream",
    "connect",
    "connect_async",
    "end_stream",
    "keep_streams",
    "migrate",
    "migrations_of",
    "outbox_migrations",
    "sqlite_path",
    "watch_streams",
]
