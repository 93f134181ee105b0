"""Messages of live sessions in a real outbox: in order, in groups, and what becomes of them when their stream ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from engine.live.outlet import Behind, Lost, Outlet, Tap, Trouble
from relay.outbox.sqlite import SqliteDatabase
from relay.outbox.store import Database

URL = "ws://user:pass@127.0.0.1:8080/live"


@asynccontextmanager
async def running(
    database: Database, backlog: int = 1000, busy_seconds: float = 5.0
) -> AsyncIterator[tuple[Outlet, list[int]]]:
    """An outlet, and how many messages each of its groups had."""
    groups: list[int] = []
    outlet = Outlet(
        database,
        backlog=backlog,
        committed=lambda count, _: groups.append(count),
        busy_seconds=busy_seconds,
    )
    await outlet.start()
    try:
        yield outlet, groups
    finally:
        await outlet.stop()


def bodies(database: Database, key: str) -> list[bytes]:
    with database.reading() as connection:
        sql = (
            "SELECT body FROM deliveries JOIN bodies USING (seq) JOIN streams ON streams.id = stream_id "
            "WHERE key = ? ORDER BY deliveries.position"
        )
        return [body for (body,) in connection.execute(sql, (key,))]


def state(database: Database, key: str) -> str:
    with database.reading() as connection:
        found: str = connection.execute("SELECT state FROM streams WHERE key = ?", (key,)).fetchone()[0]
        return found


def trouble_of(tap: Tap) -> asyncio.Queue[Trouble]:
    troubles: asyncio.Queue[Trouble] = asyncio.Queue()
    tap.tell = troubles.put_nowait
    return troubles


async def test_messages_of_many_sessions_are_committed_in_order_and_in_groups(database: Database) -> None:
    async with running(database) as (outlet, groups):
        taps = [await outlet.open(f"s{n}", URL, {"dg-token": "key-1"}) for n in range(10)]
        for turn in range(20):
            for tap in taps:
                tap.put(f"{tap.key} {turn}".encode(), partial=turn % 2 == 0)
    assert sum(groups) == 200
    assert len(groups) < 10
    for tap in taps:
        assert bodies(database, tap.key) == [f"{tap.key} {turn}".encode() for turn in range(20)]


async def test_a_stream_is_there_before_its_first_message_and_ends_behind_its_last(database: Database) -> None:
    async with running(database) as (outlet, _):
        tap = await outlet.open("s", URL, {})
        assert state(database, "s") == "open"
        tap.put(b"one", partial=False)
        tap.end()
        tap.put(b"too late", partial=False)
    assert bodies(database, "s") == [b"one"]
    assert state(database, "s") == "ended"


async def test_a_killed_stream_is_noticed_within_half_a_second_and_takes_nothing_more(database: Database) -> None:
    async with running(database) as (outlet, _):
        tap, other = await outlet.open("s", URL, {}), await outlet.open("o", URL, {})
        troubles = trouble_of(tap)
        with database.writing() as connection:
            connection.execute(
                "UPDATE streams SET state = 'killed', reason = 'connection_lost', finished_at = 1 WHERE key = 's'"
            )
        async with asyncio.timeout(0.5 + 0.5):  # and what a busy machine takes
            assert await troubles.get() == Lost("connection_lost")
        tap.put(b"never", partial=False)
        other.put(b"still", partial=False)
    assert (bodies(database, "s"), bodies(database, "o")) == ([], [b"still"])


async def test_a_message_for_a_stream_that_was_just_killed_holds_up_nobody(database: Database) -> None:
    async with running(database) as (outlet, _):
        tap, other = await outlet.open("s", URL, {}), await outlet.open("o", URL, {})
        troubles = trouble_of(tap)
        with database.writing() as connection:
            connection.execute(
                "UPDATE streams SET state = 'killed', reason = 'connection_lost', finished_at = 1 WHERE key = 's'"
            )
            tap.put(b"never", partial=False)
            other.put(b"still", partial=False)
        assert isinstance(await troubles.get(), Lost)
    assert (bodies(database, "s"), bodies(database, "o")) == ([], [b"still"])


async def test_a_stream_whose_receiver_is_too_slow_is_in_trouble(database: Database) -> None:
    async with running(database, backlog=5) as (outlet, _):
        tap = await outlet.open("s", URL, {})
        troubles = trouble_of(tap)
        for _ in range(5):
            tap.put(b"{}", partial=False)
        async with asyncio.timeout(5):
            assert await troubles.get() == Behind(5)


async def test_an_engine_that_lives_says_so(database_path: Path) -> None:
    now = [1000.0]
    database = SqliteDatabase(database_path, lambda: now[0])
    async with running(database) as (outlet, _):
        await outlet.open("s", URL, {})
        now[0] = 1007.0
        await outlet.renew_once()
        with database.reading() as connection:
            assert connection.execute("SELECT producer_until FROM streams").fetchone()[0] == 1017.0


async def test_what_the_database_refuses_waits_in_its_place_but_not_without_bound(database: Database) -> None:
    async with running(database, backlog=3, busy_seconds=0.01) as (outlet, groups):
        tap = await outlet.open("s", URL, {})
        troubles = trouble_of(tap)
        with database.writing():
            for n in range(3):
                tap.put(b"%d" % n, partial=False)
            async with asyncio.timeout(5):
                assert await troubles.get() == Behind(3)
            tap.put(b"3", partial=False)
            assert groups == []
    assert bodies(database, "s") == [b"0", b"1", b"2", b"3"]
    assert sum(groups) == 4
