"""Messages of live sessions in a real outbox: in order, in groups, and what becomes of them when their stream ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from engine.live.callbacks import Behind, CallbackStream, CallbackWriter, Lost, Trouble
from relay.outbox.store import Database
from tests.relay.deliveries import reading, writing

PATIENCE = 30.0
URL = "ws://user:pass@127.0.0.1:8080/live"


@asynccontextmanager
async def running(
    database: Database, backlog: int = 1000, busy_seconds: float = 5.0
) -> AsyncIterator[tuple[CallbackWriter, list[int]]]:
    """A writer, and how many messages each of its groups had."""
    groups: list[int] = []
    callbacks = CallbackWriter(
        database,
        backlog=backlog,
        committed=lambda count, _: groups.append(count),
        busy_seconds=busy_seconds,
    )
    await callbacks.start()
    try:
        yield callbacks, groups
    finally:
        await callbacks.stop()


def bodies(database: Database, key: str) -> list[bytes]:
    sql = (
        "SELECT body FROM outspoken_deliveries JOIN outspoken_bodies USING (seq) "
        "JOIN outspoken_streams ON outspoken_streams.id = stream_id "
        "WHERE key = ? ORDER BY outspoken_deliveries.position"
    )
    return reading(database, lambda connection: [body for (body,) in connection.execute(sql, (key,))])


def state(database: Database, key: str) -> str:
    sql = "SELECT state FROM outspoken_streams WHERE key = ?"
    return reading(database, lambda connection: str(connection.execute(sql, (key,)).fetchone()[0]))


KILL = "UPDATE outspoken_streams SET state = 'killed', reason = 'connection_lost', finished_at = 1 WHERE key = 's'"


async def trouble_of(stream: CallbackStream) -> Trouble:
    """The next one."""
    async with asyncio.timeout(PATIENCE):
        return await anext(aiter(stream.troubles()))


@asynccontextmanager
async def held(database: Database, dialect: str) -> AsyncIterator[None]:
    """Nobody else can add a delivery meanwhile."""
    inside, leave = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        with database.writing() as connection:
            if dialect == "postgres":
                connection.execute("LOCK TABLE outspoken_deliveries")
            loop.call_soon_threadsafe(inside.set)
            leave.wait(30)

    holding = asyncio.create_task(asyncio.to_thread(hold))
    await asyncio.wait_for(inside.wait(), 10)
    try:
        yield
    finally:
        leave.set()
        await holding


async def test_messages_of_many_sessions_are_committed_in_order_and_in_groups(database: Database) -> None:
    async with running(database) as (callbacks, groups):
        streams = [await callbacks.open(f"s{n}", URL, {"dg-token": "key-1"}) for n in range(10)]
        for turn in range(20):
            for stream in streams:
                stream.put(f"{stream.key} {turn}".encode(), partial=turn % 2 == 0)
    assert sum(groups) == 200
    assert len(groups) < 10
    for stream in streams:
        assert bodies(database, stream.key) == [f"{stream.key} {turn}".encode() for turn in range(20)]


async def test_a_stream_is_there_before_its_first_message_and_ends_behind_its_last(database: Database) -> None:
    async with running(database) as (callbacks, _):
        stream = await callbacks.open("s", URL, {})
        assert state(database, "s") == "open"
        stream.put(b"one", partial=False)
        stream.end()
        stream.put(b"too late", partial=False)
    assert bodies(database, "s") == [b"one"]
    assert state(database, "s") == "ended"


async def test_a_killed_stream_is_noticed_and_takes_nothing_more(database: Database) -> None:
    async with running(database) as (callbacks, _):
        stream = await callbacks.open("s", URL, {})
        other = await callbacks.open("o", URL, {})
        writing(database, lambda connection: connection.execute(KILL))
        assert await trouble_of(stream) == Lost("connection_lost")
        stream.put(b"never", partial=False)
        other.put(b"still", partial=False)
    assert (bodies(database, "s"), bodies(database, "o")) == ([], [b"still"])


async def test_a_message_for_a_stream_that_was_just_killed_holds_up_nobody(database: Database) -> None:
    async with running(database) as (callbacks, _):
        stream = await callbacks.open("s", URL, {})
        other = await callbacks.open("o", URL, {})
        writing(database, lambda connection: connection.execute(KILL))  # the loop stands still: nobody has noticed
        stream.put(b"never", partial=False)
        other.put(b"still", partial=False)
        assert isinstance(await trouble_of(stream), Lost)
    assert (bodies(database, "s"), bodies(database, "o")) == ([], [b"still"])


async def test_a_stream_whose_receiver_is_too_slow_is_in_trouble(database: Database) -> None:
    async with running(database, backlog=5) as (callbacks, _):
        stream = await callbacks.open("s", URL, {})
        for _ in range(5):
            stream.put(b"{}", partial=False)
        assert await trouble_of(stream) == Behind(5)


async def test_an_engine_that_lives_says_so(database: Database) -> None:
    now = [1000.0]
    database = replace(database, clock=lambda: now[0])  # type: ignore[type-var]
    async with running(database) as (callbacks, _):
        await callbacks.open("s", URL, {})
        now[0] = 1007.0
        await callbacks.renew_once()
        sql = "SELECT producer_until FROM outspoken_streams"
        assert reading(database, lambda connection: connection.execute(sql).fetchone()[0]) == 1017.0


async def test_what_the_database_refuses_waits_in_its_place_but_not_without_bound(
    database: Database, dialect: str
) -> None:
    async with running(database, backlog=3, busy_seconds=0.05) as (callbacks, groups):
        stream = await callbacks.open("s", URL, {})
        async with held(database, dialect):
            for n in range(3):
                stream.put(b"%d" % n, partial=False)
            assert await trouble_of(stream) == Behind(3)
            stream.put(b"3", partial=False)
            assert groups == []
    assert bodies(database, "s") == [b"0", b"1", b"2", b"3"]
    assert sum(groups) == 4
