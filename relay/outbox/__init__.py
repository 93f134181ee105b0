"""The outbox: where results wait, durably, until a receiver has them. The one door through which an engine enters.

A producer opens its connection with `connect` (sqlite3) or `connect_async` (aiosqlite), calls `add` inside its own
transaction, commits, and rings the `Bell`.
"""

from relay.outbox.database import connect, connect_async, sqlite_path
from relay.outbox.doorbell import Bell, Doorbell
from relay.outbox.migrate import migrate, migrations_of, outbox_migrations
from relay.outbox.producer import add

__all__ = [
    "Bell",
    "Doorbell",
    "add",
    "connect",
    "connect_async",
    "migrate",
    "migrations_of",
    "outbox_migrations",
    "sqlite_path",
]
