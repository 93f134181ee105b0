"""The locks by which the processes on a SQLite file know of each other that they live: gone with the process."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from relay.outbox import OUTBOX, Liveness, connect, watch_streams
from relay.outbox.model import KillReason, Stream, StreamState, StreamStatus
from relay.outbox.sqlite import liveness
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.sqlite.notifications import SqliteListener
from relay.queue.streams import LiveStreams, ReapedStreams, Tasks
from tests.relay.deliveries import new, put, rows
from tests.services.disks import failing_disk

SOCKET = "ws://receiver.example/live"
LIVES = """
import sys
from pathlib import Path
from relay.outbox import Liveness

liveness = Liveness(Path(sys.argv[1]))
print(liveness.name, flush=True)
sys.stdin.read()
"""


def files(path: Path) -> list[str]:
    return [file.name for file in path.with_name(f"{path.name}.alive").iterdir()]


def gone(path: Path, names: Iterable[str]) -> frozenset[str]:
    with closing(connect(path)) as connection:
        return liveness.gone(connection, names)


async def living(path: Path) -> tuple[asyncio.subprocess.Process, str]:
    """Another process, and the name under which it says that it lives."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", LIVES, str(path), stdin=pipe, stdout=pipe)
    assert process.stdout
    return process, (await process.stdout.readline()).decode().strip()


@pytest.mark.acceptance
async def test_a_process_is_gone_the_moment_it_was_killed(path: Path) -> None:
    process, name = await living(path)
    assert gone(path, [name]) == frozenset()
    process.kill()
    await process.wait()
    assert gone(path, [name]) == {name}


@pytest.mark.acceptance
async def test_what_a_killed_process_left_behind_goes_away_with_the_next_sign(path: Path) -> None:
    process, name = await living(path)
    process.kill()
    await process.wait()
    liveness = Liveness(path)
    assert files(path) == [liveness.name]
    assert gone(path, [name, liveness.name]) == {name}
    liveness.close()


def test_a_sign_that_was_taken_back_is_one_of_a_process_that_is_gone(path: Path) -> None:
    first, second = Liveness(path), Liveness(path)
    first.close()
    assert gone(path, [first.name, second.name]) == {first.name}
    second.close()
    assert files(path) == []


@pytest.mark.acceptance
@pytest.mark.skipif(os.geteuid() != 0, reason="to mount a disk takes root")
async def test_a_disk_that_has_failed_keeps_nobody_from_leaving() -> None:
    with failing_disk() as disk:
        path = disk.folder / "outspoken.db"
        SqliteDatabase(path).migrate([OUTBOX])
        liveness, listener = Liveness(path), SqliteListener(path)
        await listener.open()
        disk.fail()
        await listener.close()
        liveness.close()


def test_nobody_ever_lived_where_nobody_said_so(path: Path) -> None:
    assert gone(path, ["nobody"]) == {"nobody"}


async def test_many_who_look_and_come_at_once_take_nobody_living_for_gone(path: Path) -> None:
    liveness = Liveness(path)

    def come_and_look() -> frozenset[str]:
        own = Liveness(path)
        seen = frozenset().union(*(gone(path, [liveness.name, own.name]) for _ in range(50)))
        own.close()
        return seen

    assert await asyncio.gather(*(asyncio.to_thread(come_and_look) for _ in range(8))) == [frozenset()] * 8
    liveness.close()


@pytest.fixture
def database(path: Path) -> SqliteDatabase:
    return SqliteDatabase(path)


async def test_a_stream_is_lost_with_its_holder_although_nobody_has_written_that_down(
    database: SqliteDatabase,
) -> None:
    put(database, new("m1", SOCKET, stream=Stream("s")))
    holder = LiveStreams(database)
    await holder.take(1)
    with closing(connect(database.path)) as connection:
        assert watch_streams(connection, ["s"])["s"].state is StreamState.OPEN
        await holder.close()
        assert watch_streams(connection, ["s"])["s"] == StreamStatus(StreamState.KILLED, KillReason.RELAY, 1)


async def test_another_relay_writes_that_down_and_does_not_wait_until_it_is_overdue(database: SqliteDatabase) -> None:
    put(database, *(new(key, SOCKET, stream=Stream(key)) for key in "sk"))
    dead, survivor = LiveStreams(database), LiveStreams(database)
    await dead.take(1)
    (k,) = await survivor.take(1)
    assert not (await survivor.tasks()).overdue
    await dead.close()
    assert (await survivor.tasks()).overdue
    assert await survivor.tend([k.id]) == ReapedStreams(("s",), 1)
    assert await survivor.tasks() == Tasks(1, waiting=False, overdue=False)
    await survivor.close()


@pytest.mark.parametrize("url", [SOCKET, "http://receiver.example/"])
async def test_a_producer_that_is_gone_has_ended_its_stream(database: SqliteDatabase, url: str) -> None:
    producer, until = database.liveness(), time.time() + 60
    put(database, new("m1", url, stream=Stream("s", live_until=until, producer=producer.name)))
    put(database, new("m2", SOCKET, stream=Stream("k", live_until=until)))
    relay = LiveStreams(database)
    held = [stream.id for stream in await relay.take(2)]
    await relay.tend(held)
    assert rows(database, "SELECT DISTINCT state FROM outspoken_streams") == [("open",)]
    producer.close()
    assert (await relay.tasks()).overdue
    await relay.tend(held)
    assert rows(database, "SELECT key, state FROM outspoken_streams ORDER BY key") == [("k", "open"), ("s", "ended")]
    assert await relay.tasks() == Tasks(2, waiting=False, overdue=False)
    await relay.close()
