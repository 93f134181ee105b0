"""The outbox: where results wait, durably, until a receiver has them. The one door through which an engine enters.

A producer opens its connection with `connect` (sqlite3) or `connect_async` (aiosqlite), calls `add` inside its own
transaction, commits, and rings the `Bell`.
"""

from relay.outbox.databases import database_at
from relay.outbox.migrations import OUTBOX, Room
from relay.outbox.producer import add, begin_stream, end_stream, keep_streams, watch_streams
from relay.outbox.sqlite.alive import LifeSign
from relay.outbox.sqlite.doorbell import Bell
from relay.outbox.sqlite.opening import connect, connect_async

__all__ = [
    "OUTBOX",
    "Bell",
    "LifeSign",
    "Room",
    "add",
    "begin_stream",
    "connect",
    "connect_async",
    "database_at",
    "end_stream",
    "keep_streams",
    "watch_streams",
]
