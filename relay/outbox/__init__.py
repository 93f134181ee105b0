"""The outbox: where results wait, durably, until a receiver has them. What a producer needs is named here.

A producer calls `add` with whatever connection it holds, inside its own transaction, and commits. On a SQLite file it
may then notify by a `Notifier`; `connect` and `connect_async` open that as durably as the relay does. All of it, driver
by driver, is in docs/producers.md.
"""

from relay.outbox.databases import database_at
from relay.outbox.errors import DuplicateDelivery, InvalidDelivery, RelayError, StreamEnded, StreamKilled
from relay.outbox.migrations import OUTBOX, MigrationSet
from relay.outbox.model import (
    DeliveryState,
    DeliveryStatus,
    KillReason,
    Kind,
    Method,
    NewDelivery,
    OnDead,
    Stream,
    StreamState,
    StreamStatus,
)
from relay.outbox.producer import (
    Outbox,
    add,
    add_many,
    begin_stream,
    cancel,
    end_stream,
    keep_streams,
    status,
    take_ended,
    watch_streams,
)
from relay.outbox.sqlite.liveness import SqliteLiveness as Liveness
from relay.outbox.sqlite.notifications import SqliteNotifier as Notifier
from relay.outbox.sqlite.opening import connect, connect_async
from relay.outbox.waiting import wait, wait_async

__all__ = [
    "OUTBOX",
    "DeliveryState",
    "DeliveryStatus",
    "DuplicateDelivery",
    "InvalidDelivery",
    "KillReason",
    "Kind",
    "Liveness",
    "Method",
    "MigrationSet",
    "NewDelivery",
    "Notifier",
    "OnDead",
    "Outbox",
    "RelayError",
    "Stream",
    "StreamEnded",
    "StreamKilled",
    "StreamState",
    "StreamStatus",
    "add",
    "add_many",
    "begin_stream",
    "cancel",
    "connect",
    "connect_async",
    "database_at",
    "end_stream",
    "keep_streams",
    "status",
    "take_ended",
    "wait",
    "wait_async",
    "watch_streams",
]
