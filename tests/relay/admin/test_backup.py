from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from relay.admin.access import Refused
from relay.admin.audit import acts
from relay.admin.backup import backup, last_backup_at
from relay.outbox import OUTBOX
from relay.outbox.errors import StoreUnavailable
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Database
from tests.relay.admin.past import OPERATOR
from tests.relay.databases import on_sqlite
from tests.relay.deliveries import many, new, put, rows


@on_sqlite
def test_a_copy_is_whole_private_and_noted(database: Database, folder: Path) -> None:
    put(database, *many(20))
    assert last_backup_at(database) is None
    done = backup(database, folder / "copy.db", OPERATOR)
    assert (folder / "copy.db").stat().st_mode & 0o777 == 0o600
    assert done.bytes == (folder / "copy.db").stat().st_size
    assert rows(SqliteDatabase(folder / "copy.db"), "SELECT count(*) FROM outspoken_bodies") == [(20,)]
    assert last_backup_at(database) == acts(database)[0].at
    assert [entry.name for entry in folder.iterdir() if "copy" in entry.name and entry.name.endswith("tmp")] == []


@on_sqlite
def test_a_copy_taken_while_a_producer_commits_is_one_moment(database: Database, folder: Path) -> None:
    enough, stop = threading.Event(), threading.Event()
    added: list[int] = []

    def produce() -> None:
        while not stop.is_set():
            put(database, new(f"d{len(added)}"))
            added.append(1)
            if len(added) == 50:
                enough.set()

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        assert enough.wait(10)
        for turn in range(3):
            before = len(added)
            backup(database, folder / f"copy{turn}.db", OPERATOR)
            with closing(sqlite3.connect(folder / f"copy{turn}.db")) as copy:
                assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                deliveries, bodies = copy.execute(
                    "SELECT (SELECT count(*) FROM outspoken_deliveries), (SELECT count(*) FROM outspoken_bodies)"
                ).fetchone()
            assert before <= deliveries == bodies
    finally:
        stop.set()
        producer.join()
    assert rows(database, "SELECT count(*) FROM outspoken_deliveries") == [(len(added),)]


@on_sqlite
def test_a_copy_can_be_worked_on_and_an_older_one_is_replaced(database: Database, folder: Path) -> None:
    target = folder / "copy.db"
    target.write_bytes(b"an older copy")
    put(database, new())
    backup(database, target, OPERATOR)
    copy = SqliteDatabase(target)
    assert copy.migrate([OUTBOX]) == ()
    put(copy, new("d2"))
    assert rows(copy, "PRAGMA auto_vacuum") == [(2,)]


@on_sqlite
def test_what_cannot_be_a_target_is_refused(database: Database, path: Path, folder: Path) -> None:
    (folder / "link.db").symlink_to(path)
    for target, words in (
        (folder, "is a folder"),
        (folder / "none" / "copy.db", "no such folder"),
        (path, "the outbox itself"),
        (folder / "link.db", "the outbox itself"),
    ):
        with pytest.raises(Refused, match=words):
            backup(database, target, OPERATOR)
    with pytest.raises(StoreUnavailable, match="no database there"):
        backup(SqliteDatabase(folder / "none.db"), folder / "copy.db", OPERATOR)
    assert not (folder / "copy.db").exists()


def test_what_is_no_file_is_refused_with_the_remedy(folder: Path) -> None:
    server = PostgresDatabase("postgresql://ada:hunter2@db.example/outspoken")
    with pytest.raises(Refused, match="pg_dump") as refused:
        backup(server, folder / "copy.db", OPERATOR)
    assert "hunter2" not in str(refused.value)
