"""A database's log is deleted under those who use it: they notice, and nothing that was added is lost in silence."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from relay.admin.doctor import Level, examine
from relay.guard.rules import Rules
from relay.outbox.errors import StoreUnavailable
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.sqlite.opening import connect, connect_read_only, create
from relay.outbox.sqlite.permissions import logs_of
from relay.outbox.sqlite.side_files import SqliteHold, users_of_deleted
from relay.outbox.sqlite.writer import SqliteWriter
from tests.acceptance.stage import ROOT, Stage
from tests.acceptance.stage import Process as Ours
from tests.ports import free_port
from tests.relay.deliveries import states

_OPEN = """
import sqlite3, sys
from relay import outbox
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
for id_ in sys.argv[3:]:
    connection.execute("BEGIN IMMEDIATE")
    outbox.add(connection, outbox.NewDelivery(id_, sys.argv[2], b"{}"))
    connection.execute("COMMIT")
"""
_STAY = """
print("added", flush=True)
sys.stdin.read()
"""

ALL = ("-shm", "-wal")


async def producer(stage: Stage, *ids: str, stays: bool = False) -> Process:
    """A program of somebody else's, which adds these."""
    words = (_OPEN + _STAY * stays + "connection.close()", str(stage.database), stage.callback_url, *ids)
    return await asyncio.create_subprocess_exec(sys.executable, "-c", *words, cwd=ROOT, stdin=PIPE, stdout=PIPE)


async def add(stage: Stage, *ids: str) -> None:
    assert await (await producer(stage, *ids)).wait() == 0


def test_a_connection_that_comes_late_in_the_same_process_begins_no_log_for_which_the_old_one_is_given_up(
    tmp_path: Path,
) -> None:
    path = tmp_path / "outspoken.db"
    create(path)
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE kept (number)")
    hold = SqliteHold(path)
    with closing(connect(path)) as connection:
        connection.execute("INSERT INTO kept VALUES (1)")
        for file in logs_of(path):
            file.unlink()
        with closing(connect_read_only(path)) as late, suppress(sqlite3.OperationalError):
            late.execute("SELECT * FROM kept").fetchall()
    assert [file.exists() for file in logs_of(path)] == [True, False]
    hold.close()
    with closing(connect(path)) as connection:
        assert connection.execute("SELECT number FROM kept").fetchall() == [(1,)]


@asynccontextmanager
async def long_lived_producer(stage: Stage, *ids: str) -> AsyncIterator[Process]:
    process = await producer(stage, *ids, stays=True)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"added\n"
    yield process
    if process.returncode is None:
        process.kill()
        await process.wait()


def delete(stage: Stage, suffixes: Sequence[str]) -> None:
    for suffix in suffixes:
        stage.database.with_name(stage.database.name + suffix).unlink()


def is_sound(stage: Stage) -> bool:
    with closing(sqlite3.connect(stage.database)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


@pytest.fixture
async def receiver(stage: Stage) -> AsyncIterator[Ours]:
    process = await stage.receiver()
    yield process
    await process.kill()


@pytest.fixture
def stage(folder: Path) -> Stage:
    return Stage(folder, free_port(), relay__lease_seconds=2)


async def delivered(relay: Ours, *ids: str) -> None:
    await relay.until(lambda: relay.ended >= set(ids))


@pytest.mark.acceptance
@pytest.mark.parametrize("deleted", [("-shm",), ALL])
async def test_what_is_added_after_the_log_was_deleted_is_delivered_by_the_relay_that_is_started_anew(
    stage: Stage, receiver: Ours, deleted: Sequence[str]
) -> None:
    relay = await stage.relay()
    await add(stage, "before")
    await delivered(relay, "before")
    delete(stage, deleted)
    await add(stage, "after-1", "after-2")  # what the relay is told of lies in a log that it cannot see
    assert (await relay.event("store.replaced"))["reason"].startswith("its log (-wal, -shm) was deleted")
    assert await relay.finished() == 1
    assert "its log (-wal, -shm) was deleted while it was in use; start this program again" in "\n".join(relay.words)
    heir = await stage.relay()
    await delivered(heir, "after-1", "after-2")
    assert await heir.stop() == 0
    assert is_sound(stage)


@pytest.mark.acceptance
async def test_what_the_deleted_log_held_is_in_the_database_where_nobody_began_another(
    stage: Stage, receiver: Ours
) -> None:
    relay = await stage.relay()
    await add(stage, "before")
    await delivered(relay, "before")
    delete(stage, ALL)
    assert await relay.finished() == 1
    assert states(SqliteDatabase(stage.database)) == {"before": "delivered"}


@pytest.mark.acceptance
async def test_workers_whose_log_was_deleted_are_started_anew_and_deliver_what_came_since(
    folder: Path,
) -> None:
    stage = Stage(folder, free_port(), relay__lease_seconds=2, relay__workers=2)
    receiver, relay = await stage.receiver(), await stage.relay()
    delete(stage, ALL)
    await add(stage, "after")
    await relay.event("store.replaced")
    await delivered(relay, "after")
    assert await relay.stop() == 0
    assert is_sound(stage)
    await receiver.kill()


@pytest.mark.acceptance
async def test_beside_one_who_uses_a_deleted_log_nothing_of_ours_opens_the_database_and_at_his_end_nothing_is_lost(
    stage: Stage, receiver: Ours
) -> None:
    await (await Ours.start("relay", "migrate", env=stage.env)).finished()
    async with long_lived_producer(stage, "his") as his:
        delete(stage, ALL)
        findings = examine(SqliteDatabase(stage.database), Rules(), {})
        told = next(found for found in findings if found.check == "log")
        assert (told.level, f"PID {his.pid}" in told.message) == (Level.FAIL, True)
        refused = await Ours.start("relay", "run", env=stage.env)
        assert await refused.finished() == 1
        assert f"`kill {his.pid}`: as they end in order" in "\n".join(refused.words)
        await his.communicate(b"")
    relay = await stage.relay()
    await delivered(relay, "his")
    assert await relay.stop() == 0


@pytest.mark.acceptance
async def test_where_another_log_was_begun_whoever_uses_the_deleted_one_is_to_be_killed(stage: Stage) -> None:
    await (await Ours.start("relay", "migrate", env=stage.env)).finished()
    async with long_lived_producer(stage, "his") as his:
        delete(stage, ("-shm",))
        async with long_lived_producer(stage, "theirs"):
            refused = await Ours.start("relay", "run", env=stage.env)
            assert await refused.finished() == 1
            assert f"another was begun since; `kill -9 {his.pid}`" in "\n".join(refused.words)


def test_who_only_reads_the_files_of_a_log_that_is_gone_is_none_who_uses_it(path: Path) -> None:
    log, index = logs_of(path)
    first = connect(path)
    with log.open("rb"), index.open("rb"):
        first.close()  # as the last: the log is deleted
        with closing(connect(path)):
            assert users_of_deleted(path) == {}
        with closing(connect(path)):
            log.unlink()
            index.unlink()
            assert users_of_deleted(path) == {os.getpid(): {str(log), str(index)}}


@pytest.mark.parametrize("deleted", ["-wal", "-shm"])
async def test_a_connection_whose_log_was_deleted_writes_nothing_more(path: Path, deleted: str) -> None:
    writer = SqliteWriter(path)
    await writer.execute("DELETE FROM outspoken_tags", {})
    path.with_name(path.name + deleted).unlink()
    with pytest.raises(StoreUnavailable) as told:
        await writer.execute("DELETE FROM outspoken_tags", {})
    assert told.value.kind == "replaced"
    await writer.close()
