"""A stream is killed in slices, however much waits in it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from relay import outbox
from relay.queue.settling import step_stream

WAITING = """
WITH RECURSIVE numbers (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < 12000)
INSERT INTO outspoken_deliveries (id, origin, path, url, body_bytes, created_at, due_at, lane, stream_id, position)
SELECT n, 'http://h.example:80', '/', 'http://h.example/', 2, 1.0, NULL, 2, 1, n FROM numbers
"""


class Noting:
    """A connection, and how many rows each of its statements changed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.changed: list[int] = []

    def execute(self, sql: str, values: Any) -> sqlite3.Cursor:
        cursor = self._connection.execute(sql, values)
        self.changed.append(cursor.rowcount)
        return cursor


def test_all_that_waits_dies_and_no_statement_changes_it_all(path: Path) -> None:
    with closing(outbox.connect(path)) as connection:
        connection.execute("INSERT INTO outspoken_streams (key, on_dead) VALUES ('long', 'kill')")
        connection.execute(WAITING)
        noting = Noting(connection)
        assert step_stream(cast(Any, noting), 1, 2.0, dead=True) == 12_000
        states = connection.execute("SELECT state, reason, count(*) FROM outspoken_deliveries GROUP BY 1, 2").fetchall()
    assert states == [("dead", "stream_killed", 12_000)]
    assert max(noting.changed) == 5000
