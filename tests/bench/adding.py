"""relay.producer: how fast deliveries are added, as a ratio to bare INSERTs of as many ids, URLs and bodies by the same
driver into one table; and what one `outbox.add` takes.

Both add a hundred in a transaction, batch by batch in turns, and each commit is flushed. One by one, two hundred are
added in a transaction, whose commit does not count. Bodies are noise of 2 KB.
"""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import psycopg

from relay import outbox
from relay.outbox import OUTBOX
from relay.outbox.model import NewDelivery
from relay.outbox.postgres.database import PostgresDatabase
from tests.bench import shared, stand
from tests.bench.stand import Result, Scale

_BATCH = 100
_HOT = 200  # deliveries that are added one by one
_URL = "https://receiver.example/callback"

Add = Callable[[Any, Sequence[NewDelivery]], object]


def goals(database: str) -> dict[str, str]:
    """The keys of one of them, and what is wanted."""
    key = f"relay.producer.{database}"
    return {f"{key}.ratio": ">= 0.6", f"{key}.rows_per_s": ">= 10000", f"{key}.add_us": ""}


def sqlite(scale: Scale) -> Result:
    """On a file."""
    with stand.new_outbox() as path, closing(outbox.connect(path)) as connection:
        connection.execute(
            "CREATE TABLE bare (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, url TEXT, body BLOB)"
        )
        return _added("relay.producer.sqlite", connection, "INSERT INTO bare (id, url, body) VALUES (?, ?, ?)", scale)


def postgres(scale: Scale) -> Result:
    """On a server as it comes, by psycopg."""
    with shared.server() as server:
        url = server.url(server.create())
        PostgresDatabase(url).migrate([OUTBOX])
        with closing(psycopg.connect(url, autocommit=True)) as connection:
            connection.execute("CREATE TABLE bare (seq BIGSERIAL PRIMARY KEY, id TEXT UNIQUE, url TEXT, body BYTEA)")
            insert = "INSERT INTO bare (id, url, body) VALUES (%s, %s, %s)"
            return _added("relay.producer.postgres", connection, insert, scale)


def _added(key: str, connection: Any, insert: str, scale: Scale) -> Result:
    def insert_bare(connection: Any, deliveries: Sequence[NewDelivery]) -> None:
        connection.cursor().executemany(insert, [(one.id, one.url, one.body) for one in deliveries])

    ours = bare = each = 0.0
    for _ in range(scale.batches):
        ours += _seconds(connection, outbox.add_many, _new(_BATCH))
        bare += _seconds(connection, insert_bare, _new(_BATCH))
    for _ in range(few := math.ceil(scale.batches / 10)):
        each += _seconds(connection, _add_each, _new(_HOT), committed=False)
    return {
        f"{key}.ratio": bare / ours,
        f"{key}.rows_per_s": scale.batches * _BATCH / ours,
        f"{key}.add_us": 1e6 * each / few / _HOT,
    }


def _add_each(connection: Any, deliveries: Sequence[NewDelivery]) -> None:
    for one in deliveries:
        outbox.add(connection, one)


def _new(count: int) -> list[NewDelivery]:
    body = os.urandom(2048)
    return [NewDelivery(str(uuid.uuid4()), _URL, body) for _ in range(count)]


def _seconds(connection: Any, add: Add, deliveries: Sequence[NewDelivery], *, committed: bool = True) -> float:
    """For a transaction, with or without its commit."""
    began = time.perf_counter()
    connection.execute("BEGIN")
    add(connection, deliveries)
    added = time.perf_counter()
    connection.execute("COMMIT")
    return (time.perf_counter() if committed else added) - began
