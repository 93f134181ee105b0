"""What has happened to deliveries before a test looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from relay.admin.audit import Actor, AuditEntry, acts
from relay.outbox.store import Connection, Database
from tests.relay.deliveries import apart, rows, writing

OPERATOR = Actor("ada", "cli")


def ended(
    database: Database,
    id_: str,
    state: str = "dead",
    *,
    at: float = 1_000_000.0,
    outcome: str = "http_5xx",
    status: int | None = 500,
    attempts: int = 1,
    detail: str = "",
) -> None:
    """A delivery came to its end, after so many attempts, of which only the last was like that."""
    reason = "exhausted" if state == "dead" else None

    def end(connection: Connection) -> None:
        connection.execute(
            "UPDATE outspoken_deliveries SET state = ?, attempts = ?, finished_at = ?, reason = ? WHERE id = ?",
            (state, attempts, at, reason, id_),
        )
        for number in range(1, attempts + 1):
            attempt(connection, id_, number, at, outcome if number == attempts else "connect", status, detail)

    writing(database, end)


def attempt(
    connection: Connection,
    id_: str,
    number: int,
    at: float,
    outcome: str,
    status: int | None = None,
    detail: str = "",
) -> None:
    """One attempt was recorded."""
    connection.execute(
        "INSERT INTO outspoken_attempts (seq, number, started_at, lag, duration, outcome, status, peer, "
        "detail, excerpt)"
        " SELECT seq, ?, ?, 0.25, 0.5, ?, ?, '192.0.2.1', ?, ? FROM outspoken_deliveries WHERE id = ?",
        (number, at, outcome, status, detail, b"sorry \x1b[2J", id_),
    )


def tried(database: Database, id_: str, number: int, at: float, outcome: str, *more: Any, **named: Any) -> None:
    """The same, committed."""
    writing(database, lambda connection: attempt(connection, id_, number, at, outcome, *more, **named))


def change(database: Database, sql: str, *values: object) -> None:
    """One statement, committed."""
    writing(database, lambda connection: connection.execute(sql, values))


def trail(database: Database) -> tuple[AuditEntry, ...]:
    """What operators did, the last first."""
    return apart(lambda: acts(database))


@contextmanager
def another_schema(database: Database, sql: str) -> Iterator[None]:
    """What the database says of its schema is changed, for as long as a block lasts: others use the same one later."""
    told = rows(database, "SELECT room, number, name, sha256, applied_at FROM outspoken_migrations")
    change(database, sql)
    try:
        yield
    finally:
        change(database, "DELETE FROM outspoken_migrations")
        for line in told:
            change(database, "INSERT INTO outspoken_migrations VALUES (?, ?, ?, ?, ?)", *line)
