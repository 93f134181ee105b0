"""Deliveries to try the relay with, and what came of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from msgspec.structs import replace

from relay import outbox
from relay.outbox.model import Kind, Method, NewDelivery
from relay.outbox.postgres.clock import ServerClock
from relay.outbox.postgres.connection import PostgresConnection
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.postgres.sessions import SessionFactory
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database
from relay.policy.attempt import (
    Answer,
    Attempted,
    Dead,
    Delivered,
    Delivery,
    Failure,
    Lease,
    Outcome,
    Reason,
    Retry,
    Timing,
    Verdict,
)
from relay.policy.breaker import THRESHOLD, TRICKLE_SECONDS
from relay.policy.outcome import classify, diagnose

T = TypeVar("T")

URL = "https://receiver.example/hook"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def new(id_: str = "d1", url: str = URL, **fields: Any) -> NewDelivery:
    """A small result."""
    return dataclasses.replace(NewDelivery(id_, url, b'{"text":"hello"}'), **fields)


def apart(work: Callable[[], T]) -> T:
    """Do what blocks in a thread of its own: a test may have an event loop in this one, which waits meanwhile."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


class Session:
    """A session of PostgreSQL that stays open, in a thread of its own: to open one for every look takes longer than the
    look does."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._connection = PostgresConnection(SessionFactory(database.url, "tests"), ServerClock(), seconds=60.0)
        self._thread = ThreadPoolExecutor(1)

    def transact(self, work: Callable[[Connection], T], kind: str = "") -> T:
        """Do `work` in a transaction of that kind."""
        return self._thread.submit(self._transact, work, kind).result()

    def _transact(self, work: Callable[[Connection], T], kind: str) -> T:
        with self._connection.transaction(kind):
            return work(self._connection)

    def close(self) -> None:
        """Give it back."""
        self._thread.submit(self._connection.close).result()
        self._thread.shutdown()


_SESSIONS: dict[str, Session] = {}


@contextmanager
def session_kept(database: PostgresDatabase) -> Iterator[None]:
    """For the length of a block, the helpers of this file use one session of a database that many tests share."""
    _SESSIONS[database.url] = Session(database)
    try:
        yield
    finally:
        _SESSIONS.pop(database.url).close()


def _session(database: Database) -> Session | None:
    return _SESSIONS.get(database.url) if isinstance(database, PostgresDatabase) else None


def reading(database: Database, work: Callable[[Connection], T]) -> T:
    """Do `work` on a snapshot."""
    if session := _session(database):
        return session.transact(work, "ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def read() -> T:
        with database.reading() as connection:
            return work(connection)

    return apart(read)


def writing(database: Database, work: Callable[[Connection], T]) -> T:
    """Do `work` in a transaction, after which relays are told to look."""

    def notifying(connection: Connection) -> T:
        done = work(connection)
        connection.execute("SELECT pg_notify('outspoken', '')")
        return done

    if session := _session(database):
        return session.transact(notifying)

    def write() -> T:
        with database.writing() as connection:
            return work(connection)

    return apart(write)


def put(database: Database, *deliveries: NewDelivery, due_at: float | None = None) -> None:
    """Add and commit, as a producer does; all due at `due_at` instead of at once, if it is given."""

    def add(connection: Connection) -> None:
        if len(deliveries) == 1 or any(delivery.stream for delivery in deliveries):
            for delivery in deliveries:
                outbox.add(connection, delivery)
        else:  # by one statement, on PostgreSQL: one for each takes longer than most tests do afterwards
            outbox.add_many(connection, deliveries)
        if due_at is not None:
            marks = ", ".join("?" * len(deliveries))
            sql = f"UPDATE outspoken_deliveries SET due_at = ?, lane = 2 WHERE id IN ({marks}) AND due_at IS NOT NULL"
            connection.execute(sql, (due_at, *(delivery.id for delivery in deliveries)))

    writing(database, add)


def rows(database: Database, sql: str, *values: object) -> list[Any]:
    """What a statement brings, on a connection of its own; one that only reads waits for nobody."""
    run = reading if sql.startswith("SELECT") else writing
    return run(database, lambda connection: [tuple(row) for row in connection.execute(sql, values).fetchall()])


def stand(database: Database, state: str, origin: str = "https://receiver.example:443", path: str = "") -> None:
    """Have a destination paused, disabled or active, as an operator does."""
    values = {"origin": origin, "path": path, "state": state, "now": 0.0}
    writing(database, lambda connection: connection.execute(statement("set_state", "relay.admin"), values))


def ill(
    database: Database, origin: str = "https://receiver.example:443", failures: int = 5, until: float = 9e9
) -> None:
    """An endpoint that failed so often in a row; after five times it is left alone until then."""
    starts = str([until - TRICKLE_SECONDS] * 4)
    is_open = int(failures >= THRESHOLD)
    sql = (
        "INSERT INTO outspoken_destinations (origin, path, failures, open, held, starts) "
        "VALUES (:origin, '/hook', :failures, :open, :open, :starts)"
    )
    values = {"origin": origin, "failures": failures, "open": is_open, "starts": starts}
    writing(database, lambda connection: connection.execute(sql, values))


def states(database: Database) -> dict[str, str]:
    """Where each delivery stands, in the order in which they were added."""
    return dict(rows(database, "SELECT id, state FROM outspoken_deliveries ORDER BY seq"))


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
