from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from relay import outbox
from relay.outbox.errors import StoreUnavailable
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.sqlite.failures import error_kind
from relay.outbox.sqlite.writer import SqliteWriter
from tests.relay.deliveries import new, put, rows

Write = Callable[[sqlite3.Connection], object]


@pytest.fixture
async def writer(path: Path) -> AsyncIterator[SqliteWriter]:
    opened = SqliteWriter(path, busy_seconds=0.05)
    yield opened
    await opened.close()


async def write(writer: SqliteWriter, *changes: Write) -> None:
    await writer.run(lambda connection: [change(connection) for change in changes])


def add(id_: str) -> Write:
    return lambda connection: outbox.add(connection, new(id_))


def an_orphan(connection: sqlite3.Connection) -> None:
    """A row whose foreign key is looked at when the transaction commits, which then fails."""
    connection.execute("PRAGMA defer_foreign_keys = ON")
    connection.execute("INSERT INTO outspoken_bodies VALUES (99, x'00')")


class Gate:
    """Holds a commit up, in the thread that runs it, until it is opened."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open = threading.Event()
        self.reached = asyncio.Event()

    def __call__(self, connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(self._traced)

    def _traced(self, sql: str) -> None:
        if sql == "COMMIT":
            self._loop.call_soon_threadsafe(self.reached.set)
            self._open.wait(10)

    def open(self) -> None:
        self._open.set()


def stored(database: SqliteDatabase) -> list[str]:
    return [id_ for (id_,) in rows(database, "SELECT id FROM outspoken_deliveries ORDER BY seq")]


async def test_a_transaction_is_on_disk_once_its_block_is_left(database: SqliteDatabase, writer: SqliteWriter) -> None:
    await write(writer, add("d1"))
    assert stored(database) == ["d1"]


async def test_what_need_not_be_durable_waits_for_no_disk_and_what_has_to_be_does(writer: SqliteWriter) -> None:
    def flushes(connection: sqlite3.Connection) -> list[int]:
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "wal_autocheckpoint")]

    full, normal = [2, 1000], [1, 0]
    assert [await writer.run(flushes, durable=one) for one in (True, False, True)] == [full, normal, full]


async def test_a_transaction_whose_block_fails_leaves_nothing(database: SqliteDatabase, writer: SqliteWriter) -> None:
    def fail(_: sqlite3.Connection) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write(writer, add("d1"), fail)
    await write(writer, add("d2"))
    assert stored(database) == ["d2"]


async def test_a_commit_that_fails_leaves_nothing(database: SqliteDatabase, writer: SqliteWriter) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        await write(writer, add("d1"), an_orphan)
    await write(writer, add("d2"))
    assert stored(database) == ["d2"]


async def test_a_busy_database_is_waited_for(database: SqliteDatabase, path: Path) -> None:
    patient = SqliteWriter(path, busy_seconds=10)
    with closing(outbox.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        outbox.add(other, new("first"))
        waiting = asyncio.create_task(write(patient, add("second")))
        await asyncio.wait([waiting], timeout=0.02)
        assert not waiting.done()
        other.execute("COMMIT")
        await waiting
    await patient.close()
    assert stored(database) == ["first", "second"]


async def test_waiting_for_a_busy_database_does_not_hold_up_the_loop(database: SqliteDatabase, path: Path) -> None:
    patient = SqliteWriter(path, busy_seconds=10)
    with closing(outbox.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(write(patient, add("d1")))
        turns = 0
        async with asyncio.timeout(1):
            while turns < 100:
                await asyncio.sleep(0)
                turns += 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        other.execute("ROLLBACK")
    await write(patient, add("d2"))
    await patient.close()
    assert stored(database) == ["d2"]


async def test_a_database_that_stays_locked_is_unavailable(
    database: SqliteDatabase, path: Path, writer: SqliteWriter
) -> None:
    with closing(outbox.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="busy"):
            await write(writer, add("d1"))
        other.execute("ROLLBACK")
    await write(writer, add("d2"))
    assert stored(database) == ["d2"]


async def test_a_full_disk_is_unavailable_and_writes_again_when_there_is_room(
    database: SqliteDatabase, writer: SqliteWriter
) -> None:
    def no_more_pages(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 1")

    def pages_again(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 100000")

    await write(writer, no_more_pages)
    with pytest.raises(StoreUnavailable, match="full"):
        await write(writer, lambda connection: outbox.add(connection, new("d1", body=bytes(100_000))))
    await write(writer, pages_again, add("d2"))
    assert stored(database) == ["d2"]


async def test_a_statement_that_can_never_succeed_is_no_fault_of_the_store(
    database: SqliteDatabase, writer: SqliteWriter
) -> None:
    put(database, new("d1"))
    with pytest.raises(sqlite3.IntegrityError):
        await write(writer, lambda connection: connection.execute("UPDATE outspoken_deliveries SET state = 'lost'"))


async def test_a_commit_under_way_ends_before_a_cancelled_writer_lets_go(
    database: SqliteDatabase, writer: SqliteWriter
) -> None:
    gate = Gate()
    first = asyncio.create_task(write(writer, gate, add("first")))
    await gate.reached.wait()
    second = asyncio.create_task(write(writer, add("second")))
    for _ in range(3):  # an impatient caller cancels more than once
        first.cancel()
        await asyncio.wait([first, second], timeout=0.01)
    assert not first.done()
    assert not second.done()
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert stored(database) == ["first", "second"]


async def test_a_commit_that_fails_does_not_hide_the_cancellation(
    database: SqliteDatabase, writer: SqliteWriter
) -> None:
    gate = Gate()
    cancelled = asyncio.create_task(write(writer, gate, an_orphan))
    await gate.reached.wait()
    cancelled.cancel()
    await asyncio.wait([cancelled], timeout=0.01)
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await write(writer, add("d2"))
    assert stored(database) == ["d2"]


async def test_closing_waits_for_the_transaction_under_way(database: SqliteDatabase, path: Path) -> None:
    writer, gate = SqliteWriter(path), Gate()
    writing = asyncio.create_task(write(writer, gate, add("d1")))
    await gate.reached.wait()
    closing_ = asyncio.create_task(writer.close())
    await asyncio.wait([closing_], timeout=0.01)
    assert not closing_.done()
    gate.open()
    await asyncio.gather(writing, closing_)
    assert stored(database) == ["d1"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("SQLITE_BUSY", "busy"),
        ("SQLITE_BUSY_SNAPSHOT", "busy"),
        ("SQLITE_LOCKED", "busy"),
        ("SQLITE_LOCKED_SHAREDCACHE", "busy"),
        ("SQLITE_FULL", "full"),
        ("SQLITE_IOERR", "io"),
        ("SQLITE_IOERR_WRITE", "io"),
        ("SQLITE_IOERR_SHMSIZE", "io"),
        ("SQLITE_CORRUPT", "corrupt"),
        ("SQLITE_CORRUPT_INDEX", "corrupt"),
        ("SQLITE_NOTADB", "corrupt"),
        ("SQLITE_CANTOPEN", "unavailable"),
        ("SQLITE_CANTOPEN_ISDIR", "unavailable"),
        ("SQLITE_READONLY", "unavailable"),
        ("SQLITE_READONLY_DBMOVED", "unavailable"),
        ("SQLITE_ERROR", "other"),
        ("SQLITE_CONSTRAINT_CHECK", "other"),
        (None, "other"),
    ],
)
def test_an_error_has_a_kind_by_its_code_and_never_by_its_text(name: str | None, kind: str) -> None:
    error = sqlite3.OperationalError("database is locked, full and broken")
    if name is not None:
        error.sqlite_errorname = name
    assert error_kind(error) == kind


async def test_who_reads_beside_a_transaction_waits_for_none_and_sees_what_was_committed(writer: SqliteWriter) -> None:
    def ids(connection: sqlite3.Connection) -> list[str]:
        return [id_ for (id_,) in connection.execute("SELECT id FROM outspoken_deliveries")]

    gate, reader = Gate(), writer.reader()
    writing = asyncio.create_task(write(writer, gate, add("d1")))
    await gate.reached.wait()
    assert await reader.run(ids) == []
    gate.open()
    await writing
    assert await reader.run(ids) == ["d1"]
    await reader.close()
