"""A SQLite file as a database: what is said when it cannot be used."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.outbox import OUTBOX
from relay.outbox.errors import StoreUnavailable
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.sqlite.opening import connect, connect_read_only
from tests.relay.deliveries import new, put, reading, rows, states
from tests.services.postgres import small_disk


def test_a_file_that_is_not_there_is_named_with_what_makes_one(folder: Path) -> None:
    absent = SqliteDatabase(folder / "absent.db")
    for statement in ("SELECT * FROM outspoken_deliveries", "DELETE FROM outspoken_deliveries"):
        with pytest.raises(
            StoreUnavailable, match=r"absent\.db: no database there; .*relay migrate.* makes one"
        ) as found:
            rows(absent, statement)
        assert found.value.kind == "unavailable"
    assert not absent.path.exists()


def test_a_file_that_is_no_database_is_named(folder: Path) -> None:
    letter = SqliteDatabase(folder / "letter.db")
    letter.path.write_text("Dear Sir or Madam, " * 100)
    with pytest.raises(StoreUnavailable, match=r"letter\.db: file is not a database") as found:
        states(letter)
    assert found.value.kind == "corrupt"


@pytest.mark.acceptance
@pytest.mark.skipif(os.geteuid() != 0, reason="to mount a disk takes root")
def test_a_file_system_that_is_read_only_is_named_and_not_the_file() -> None:
    with small_disk(8) as disk:
        database = SqliteDatabase(disk.folder / "outspoken.db")
        database.migrate([OUTBOX])
        subprocess.run(["mount", "-o", "remount,ro", disk.folder], check=True)
        for look in (lambda: states(database), lambda: database.migrate([OUTBOX])):
            with pytest.raises(StoreUnavailable, match=r"its file system is read-only; mount it writable") as found:
                look()
            assert found.value.kind == "unavailable"


def test_a_file_without_tables_has_no_schema_yet(folder: Path) -> None:
    empty = SqliteDatabase(folder / "empty.db")
    empty.path.write_bytes(b"")
    newest = OUTBOX.migrations("sqlite")[-1].number
    assert reading(empty, lambda connection: empty.schema(connection, OUTBOX)) == (0, newest)


def test_rows_come_by_index_and_by_name(database: SqliteDatabase) -> None:
    put(database, new())
    with database.reading() as connection:
        row = connection.execute("SELECT id, state FROM outspoken_deliveries").fetchone()
    assert (row[0], row["state"]) == ("d1", "pending")


def _is_open(path: Path) -> bool:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return str(path) in {str(link.readlink()) for link in links}


@pytest.mark.parametrize("opens", [connect, connect_read_only])
def test_a_file_that_cannot_be_opened_is_closed_at_once(
    folder: Path, opens: Callable[[Path], sqlite3.Connection]
) -> None:
    path = folder / "letter.db"
    path.write_text("Dear Sir or Madam, " * 100)
    with pytest.raises(sqlite3.DatabaseError) as refused:
        opens(path)
    assert refused.traceback  # which holds the frames, and what they hold
    assert not _is_open(path)


_OPENS = "import asyncio, pathlib, sys; from relay import outbox; "
_OPENS += "asyncio.run(outbox.connect_async(pathlib.Path(sys.argv[1])))"


@pytest.mark.acceptance
def test_nor_does_a_thread_stay_that_would_keep_the_program_from_its_end(folder: Path) -> None:
    path = folder / "letter.db"
    path.write_text("Dear Sir or Madam, " * 100)
    ended = subprocess.run(
        [sys.executable, "-c", _OPENS, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.endswith("DatabaseError: file is not a database\n")
