"""Deliveries to try the relay with, and what came of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from relay import outbox
from relay.model import (
    Answer,
    Attempted,
    Dead,
    Delivered,
    Delivery,
    Failure,
    Kind,
    Lease,
    Method,
    NewDelivery,
    Outcome,
    Reason,
    Retry,
    Timing,
    Verdict,
)
from relay.policy.outcome import classify, diagnose

URL = "https://receiver.example/hook"


def new(id_: str = "d1", url: str = URL, **fields: Any) -> NewDelivery:
    """A small result."""
    return dataclasses.replace(NewDelivery(id_, url, b'{"text":"hello"}'), **fields)


def put(database: Path, *deliveries: NewDelivery, due_at: float | None = None) -> None:
    """Add and commit, as a producer does; all due at `due_at` instead of at once, if it is given."""
    with closing(outbox.connect(database)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for delivery in deliveries:
            outbox.add(connection, delivery)
            if due_at is not None:
                connection.execute("UPDATE deliveries SET due_at = ? WHERE id = ?", (due_at, delivery.id))
        connection.execute("COMMIT")


def rows(database: Path, sql: str, *values: object) -> list[Any]:
    """What a query says, on a connection of its own."""
    with closing(outbox.connect(database)) as connection:
        return connection.execute(sql, values).fetchall()


def states(database: Path) -> dict[str, str]:
    """Where each delivery stands."""
    return dict(rows(database, "SELECT id, state FROM deliveries"))


def claimed(id_: str = "d1", **fields: Any) -> Delivery:
    """A claimed delivery that no database knows."""
    plain = Delivery(
        Lease(1, "holder.1"),
        id_,
        "https://receiver.example:443",
        URL,
        Method.POST,
        Kind.FINAL,
        "application/json",
        {},
        None,
        16,
        created_at=1000.0,
        due_at=1000.0,
        attempts=0,
        lapses=0,
    )
    return replace(plain, **fields)


def answer(status: int | None = 200, failure: Failure | None = None, **fields: Any) -> Answer:
    """What a receiver said."""
    return replace(Answer(Timing(0.05), None if failure else status, failure), **fields)


def attempted(delivery: Delivery, came: Answer | None = None, verdict: Verdict | None = None) -> Attempted:
    """The record of one attempt; delivered, unless something else is said."""
    came = came or answer()
    what = verdict or (Delivered() if classify(came) is Outcome.SUCCESS else Retry(2000.0))
    return Attempted(delivery, came, classify(came), what, diagnose(came), 1000.5, 1001.0)


def many(count: int, url: str = URL, prefix: str = "d") -> Iterable[NewDelivery]:
    """Deliveries d1, d2, ..."""
    return (new(f"{prefix}{number}", url) for number in range(1, count + 1))


DEAD = Dead(Reason.EXHAUSTED)
