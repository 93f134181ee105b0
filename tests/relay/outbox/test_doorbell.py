from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.outbox import Bell, Doorbell


@pytest.fixture
def bell(database: Path) -> Iterator[Bell]:
    rung = Bell(database)
    yield rung
    rung.close()


@contextmanager
def listening(database: Path) -> Iterator[asyncio.Event]:
    heard = asyncio.Event()
    doorbell = Doorbell(database, heard)
    doorbell.open()
    try:
        yield heard
    finally:
        doorbell.close()


async def hears(heard: asyncio.Event) -> None:
    async with asyncio.timeout(2):
        await heard.wait()
    heard.clear()


def sockets(database: Path) -> list[Path]:
    return list(database.with_name(f"{database.name}.bells").iterdir())


async def test_a_ring_wakes_the_relay_every_time(database: Path, bell: Bell) -> None:
    with listening(database) as heard:
        for _ in range(3):
            assert not heard.is_set()
            bell.ring()
            await hears(heard)


async def test_every_relay_on_the_database_hears_a_ring(database: Path, bell: Bell) -> None:
    with listening(database) as first, listening(database) as second:
        bell.ring()
        await hears(first)
        await hears(second)


async def test_a_ring_wakes_every_loop_of_a_relay(database: Path, bell: Bell) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    doorbell = Doorbell(database, first, second)
    doorbell.open()
    bell.ring()
    await hears(first)
    assert second.is_set()
    doorbell.close()


async def test_a_relay_on_another_database_hears_nothing(database: Path, bell: Bell) -> None:
    with listening(database) as here, listening(database.with_name("other.db")) as elsewhere:
        bell.ring()
        await hears(here)
        assert not elsewhere.is_set()


def test_a_ring_that_nobody_hears_is_no_failure(bell: Bell) -> None:
    bell.ring()


async def test_a_relay_that_left_takes_its_bell_along(database: Path, bell: Bell) -> None:
    with listening(database):
        assert len(sockets(database)) == 1
    assert sockets(database) == []
    bell.ring()


def leave_a_dead_socket(database: Path) -> Path:
    path = database.with_name(f"{database.name}.bells") / "killed.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as killed:
        killed.bind(str(path))
    return path


async def test_a_stray_file_among_the_bells_keeps_nobody_from_hearing(database: Path, bell: Bell) -> None:
    with listening(database) as heard:
        leftover = sockets(database)[0].with_name("a-file-of-somebody.sock")
        leftover.write_text("")
        bell.ring()
        await hears(heard)


async def test_the_bell_of_a_killed_relay_is_removed_by_the_next(database: Path, bell: Bell) -> None:
    leftover = leave_a_dead_socket(database)
    bell.ring()
    with listening(database) as heard:
        assert not leftover.exists()
        bell.ring()
        await hears(heard)


async def test_the_bell_of_a_living_relay_stays(database: Path, bell: Bell) -> None:
    with listening(database) as first:
        with listening(database):
            assert len(sockets(database)) == 2
        bell.ring()
        await hears(first)


async def test_a_ring_never_blocks_though_nobody_listens_to_the_last_ten_thousand(database: Path, bell: Bell) -> None:
    with listening(database) as heard:
        for _ in range(10_000):
            bell.ring()
        await hears(heard)


async def test_the_path_of_the_database_may_be_long(folder: Path) -> None:
    database = folder / ("long" * 30) / ("longer" * 20) / "outspoken.db"
    database.parent.mkdir(parents=True)
    bell = Bell(database)
    with listening(database) as first, listening(database) as second:
        bell.ring()
        await hears(first)
        await hears(second)
    bell.close()
    assert sockets(database) == []


async def test_a_ring_does_not_fail_where_the_folder_cannot_be_read(folder: Path) -> None:
    (folder / "outspoken.db.bells").write_text("not a folder")
    bell = Bell(folder / "outspoken.db")
    bell.ring()
    bell.close()
