"""Who listens at a SQLite file: sockets beside it, whose owners come and go, or are killed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from relay.outbox.sqlite.notifications import SqliteListener, SqliteNotifier
from relay.outbox.sqlite.opening import connect, create


@pytest.fixture
def notifier(path: Path) -> Iterator[SqliteNotifier]:
    made = SqliteNotifier(path)
    yield made
    made.close()


@asynccontextmanager
async def listening(path: Path) -> AsyncIterator[asyncio.Event]:
    create(path)
    heard = asyncio.Event()
    listener = SqliteListener(path, heard)
    await listener.open()
    try:
        yield heard
    finally:
        await listener.close()


async def hears(heard: asyncio.Event) -> None:
    async with asyncio.timeout(2):
        await heard.wait()
    heard.clear()


def sockets(path: Path) -> list[Path]:
    return list(path.with_name(f"{path.name}.bells").iterdir())


async def test_a_relay_on_another_database_hears_nothing(path: Path, notifier: SqliteNotifier) -> None:
    async with listening(path) as here, listening(path.with_name("other.db")) as elsewhere:
        notifier.notify()
        await hears(here)
        assert not elsewhere.is_set()


async def test_a_commit_that_nobody_told_of_is_heard_all_the_same(path: Path) -> None:
    async with listening(path) as heard:
        with closing(connect(path)) as connection:
            connection.execute("CREATE TABLE anything (at_all)")
        await hears(heard)


async def test_a_relay_that_left_takes_its_socket_along(path: Path, notifier: SqliteNotifier) -> None:
    async with listening(path):
        assert len(sockets(path)) == 1
    assert sockets(path) == []
    notifier.notify()


def leave_a_dead_socket(path: Path) -> Path:
    address = path.with_name(f"{path.name}.bells") / "killed.sock"
    address.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as killed:
        killed.bind(str(address))
    return address


async def test_a_stray_file_among_the_sockets_keeps_nobody_from_hearing(path: Path, notifier: SqliteNotifier) -> None:
    async with listening(path) as heard:
        leftover = sockets(path)[0].with_name("a-file-of-somebody.sock")
        leftover.write_text("")
        notifier.notify()
        await hears(heard)


async def test_the_socket_of_a_killed_relay_is_removed_by_the_next(path: Path, notifier: SqliteNotifier) -> None:
    leftover = leave_a_dead_socket(path)
    notifier.notify()
    async with listening(path) as heard:
        assert not leftover.exists()
        notifier.notify()
        await hears(heard)


async def test_the_socket_of_a_living_relay_stays(path: Path, notifier: SqliteNotifier) -> None:
    async with listening(path) as first:
        async with listening(path):
            assert len(sockets(path)) == 2
        notifier.notify()
        await hears(first)


async def test_the_path_of_the_database_may_be_long(folder: Path) -> None:
    path = folder / ("long" * 30) / ("longer" * 20) / "outspoken.db"
    path.parent.mkdir(parents=True)
    notifier = SqliteNotifier(path)
    async with listening(path) as first, listening(path) as second:
        notifier.notify()
        await hears(first)
        await hears(second)
    notifier.close()
    assert sockets(path) == []


async def test_a_ring_does_not_fail_where_the_folder_cannot_be_read(folder: Path) -> None:
    (folder / "outspoken.db.bells").write_text("not a folder")
    notifier = SqliteNotifier(folder / "outspoken.db")
    notifier.notify()
    notifier.close()


async def test_a_notification_never_blocks_though_nobody_reads_ten_thousand(
    path: Path, notifier: SqliteNotifier
) -> None:
    async with listening(path) as heard:
        for _ in range(10_000):
            notifier.notify()
        await hears(heard)
