"""Sessions that are lost, refused, or led to a server that must not be written."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest

from relay.admin.doctor import examine
from relay.guard.rules import Rules
from relay.outbox.errors import StoreUnavailable
from relay.outbox.postgres.clock import ServerClock
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.postgres.failures import error_kind
from relay.outbox.store import Connection
from relay.queue.claims import ClaimRequest
from relay.queue.deliveries import DeliveryQueue
from relay.queue.streams import LiveStreams
from tests.relay.deliveries import attempted, new, put
from tests.services.postgres import Server, empty

pytestmark = pytest.mark.needs("postgres")

LOCK = "SELECT pg_advisory_lock(1)"
SEEN = "INSERT INTO outspoken_relays (holder, seen_at) VALUES ('somebody', 1.0)"
END_MINE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = "


@pytest.fixture
def database(postgres: Server, postgres_outbox: PostgresDatabase) -> PostgresDatabase:
    """One of its own, so that what one session was refused is no other's experience."""
    database = PostgresDatabase(postgres_outbox.url)
    with database.writing() as connection:
        empty(connection)
    return database


def cut(postgres: Server, database: PostgresDatabase) -> None:
    """End its sessions."""
    postgres.sql(END_MINE + f"'{database.url.rpartition('/')[2]}'")


def relays(connection: Connection) -> int:
    count: int = connection.execute("SELECT count(*) FROM outspoken_relays").fetchone()[0]
    return count


async def test_a_transaction_whose_session_was_lost_never_ends_on_another(
    postgres: Server, database: PostgresDatabase
) -> None:
    """Whoever goes on all the same must not be told that it was committed, nor may half of it be."""

    def work(connection: Connection) -> None:
        connection.execute(SEEN)
        cut(postgres, database)
        with suppress(StoreUnavailable):
            connection.execute("SELECT 1")
        with suppress(StoreUnavailable):
            connection.execute(SEEN)

    writer, reader = database.writer(), database.reader()
    with pytest.raises(StoreUnavailable):
        await writer.run(work)
    assert await reader.run(relays) == 0
    await writer.run(lambda connection: connection.execute(SEEN))
    assert await reader.run(relays) == 1
    await writer.close()
    await reader.close()


async def test_a_failed_statement_that_was_passed_over_is_not_told_to_be_committed(
    database: PostgresDatabase,
) -> None:
    def work(connection: Connection) -> None:
        connection.execute(SEEN)
        with suppress(asyncpg.PostgresError):
            connection.execute("SELECT 1 / 0")

    writer, reader = database.writer(), database.reader()
    with pytest.raises(StoreUnavailable, match="rolled back"):
        await writer.run(work)
    assert await reader.run(relays) == 0
    await writer.close()
    await reader.close()


async def test_what_need_not_be_durable_waits_for_no_flush_and_what_has_to_be_does(database: PostgresDatabase) -> None:
    asked = "SELECT setting = 'off' AND source = 'session' FROM pg_settings WHERE name = 'synchronous_commit'"

    def is_let_off(connection: Connection) -> bool:
        return bool(connection.execute(asked).fetchone()[0])

    writer = database.writer()
    assert [await writer.run(is_let_off, durable=one) for one in (True, False, True)] == [False, True, False]
    await writer.close()


@asynccontextmanager
async def locked(postgres: Server, database: PostgresDatabase) -> AsyncIterator[None]:
    """While the block runs, whoever does LOCK waits; a writer or reader of this database does when it begins."""
    connection = await asyncpg.connect(database.url)
    await connection.execute(LOCK)
    yield
    while postgres.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == "0\n":
        await asyncio.sleep(0.01)
    await connection.close()


async def test_what_waits_for_no_flush_waits_for_no_transaction_that_does(
    postgres: Server, database: PostgresDatabase
) -> None:
    writer = database.writer()
    async with locked(postgres, database):
        held = asyncio.create_task(writer.run(lambda connection: connection.execute(LOCK).fetchall()))
        await writer.run(relays, durable=False)
    assert await held
    await writer.close()


async def test_who_was_idle_when_its_session_was_lost_never_hears_of_it(
    postgres: Server, database: PostgresDatabase
) -> None:
    writer, reader = database.writer(), database.reader()
    await writer.run(relays)
    await reader.run(relays)
    cut(postgres, database)
    await writer.run(lambda connection: connection.execute(SEEN))
    assert await reader.run(relays) == 1
    await writer.close()
    await reader.close()


def sessions(postgres: Server, database: PostgresDatabase) -> int:
    name = database.url.rpartition("/")[2]
    where = f"datname = '{name}' AND application_name = 'outspoken'"
    return int(postgres.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {where}"))


async def all_ended(postgres: Server, database: PostgresDatabase) -> None:
    """The server takes its time to end what was closed, also by others."""
    async with asyncio.timeout(60):
        while sessions(postgres, database):
            await asyncio.sleep(0.01)


async def test_rooms_that_ask_in_turn_share_a_session_and_who_asks_beside_them_has_another(
    postgres: Server, database: PostgresDatabase
) -> None:
    await all_ended(postgres, database)
    writer, readers = database.writer(), [database.reader() for _ in range(3)]
    for reader in readers:
        await reader.run(relays)
    await writer.run(relays)
    assert sessions(postgres, database) == 1
    async with locked(postgres, database):
        waiting = asyncio.create_task(readers[0].run(lambda connection: connection.execute(LOCK).fetchall()))
        await asyncio.sleep(0)
        await writer.execute(SEEN, {})
    assert await waiting
    assert sessions(postgres, database) == 2
    await writer.close()
    for reader in readers:
        await reader.close()
    await all_ended(postgres, database)


async def test_an_idle_relay_asks_once_for_each_turn_of_a_loop(postgres: Server, database: PostgresDatabase) -> None:
    with postgres.noting(database.url.rpartition("/")[2]) as asked:
        queue, streams = DeliveryQueue(database), LiveStreams(database)
        await queue.group.check_in()  # the first statement of all opens the session
        opened = len(asked())
        await queue.claim(ClaimRequest(10))
        await queue.next_due()
        await streams.tasks()
        await queue.group.check_in()
        await queue.snapshot(16)
        assert len(asked()[opened:]) <= 5  # what the database's size is, is one more
        await queue.snapshot(16)
        assert len(asked()[opened:]) <= 6  # and is not asked for again within a minute
        await queue.close()
        await streams.close()


async def test_a_claim_and_a_settlement_take_a_round_trip_each_however_many_deliveries_are_theirs(
    postgres: Server, database: PostgresDatabase
) -> None:
    put(database, *(new(f"d{number}") for number in range(100)))
    with postgres.noting(database.url.rpartition("/")[2]) as asked:
        queue = DeliveryQueue(database)
        for _ in range(2):  # sessions are open, and the destination is known to answer
            (one,) = (await queue.claim(ClaimRequest(1))).deliveries
            await queue.settle([attempted(one)])
            await queue.next_due()
        opened = len(asked())
        several = (await queue.claim(ClaimRequest(10, 10, 10))).deliveries
        await queue.next_due()
        claimed = len(asked())
        several += (await queue.claim(ClaimRequest(80, 80, 80))).deliveries
        claimed_more = len(asked())
        await queue.settle([attempted(delivery) for delivery in several])
        settled = len(asked())
        await queue.close()
    assert len(several) == 90
    assert claimed - opened == claimed_more - claimed == settled - claimed_more == 1


def read(database: PostgresDatabase) -> None:
    with database.reading() as connection:
        relays(connection)


async def test_a_server_that_only_reads_is_as_good_as_none(postgres: Server, database: PostgresDatabase) -> None:
    name = database.url.rpartition("/")[2]
    postgres.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    writer = database.writer()
    try:
        with pytest.raises(StoreUnavailable) as refused:
            await writer.run(relays)
        with pytest.raises(
            StoreUnavailable, match=r": it cannot be written; name the primary in outbox\.url, or"
        ) as said:
            await asyncio.to_thread(read, database)
        assert "SessionAttribute" not in str(said.value)
        found = {one.check: one for one in await asyncio.to_thread(lambda: [*examine(database, Rules(), {})])}
    finally:
        postgres.sql(
            "SET default_transaction_read_only = off", f"ALTER DATABASE {name} RESET default_transaction_read_only"
        )
        await writer.close()
    assert (refused.value.kind, said.value.kind) == ("read_only", "read_only")
    assert "a primary that was told to be read-only" in found["server"].message
    assert "schema" not in found


@pytest.fixture
async def refusing() -> AsyncIterator[tuple[int, Counter[str]]]:
    """A port that hangs up on everybody, and how many it has refused."""
    counts = Counter[str]()

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counts["refused"] += 1
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], counts


async def test_while_the_server_refuses_a_process_does_not_storm_it(refusing: tuple[int, Counter[str]]) -> None:
    port, counts = refusing
    database = PostgresDatabase(f"postgresql://nobody@127.0.0.1:{port}/none?sslmode=disable")
    readers = [database.reader() for _ in range(4)]
    asked = 0
    async with asyncio.timeout(60):
        while counts["refused"] < 5:
            for reader in readers:
                with pytest.raises(StoreUnavailable):
                    await reader.run(relays)
                asked += 1
            await asyncio.sleep(0)
    for reader in readers:
        await reader.close()
    assert asked > 10 * counts["refused"]


def is_later(read: float, server: float, since: float) -> bool:
    """Whether a clock read what the server's showed at a moment, and what has passed since then; give or take 1 us."""
    return -1e-6 <= read - server <= time.monotonic() - since + 1e-6


def test_a_clock_that_was_asked_of_a_server_that_stood_still_is_not_believed() -> None:
    clock, now = ServerClock(), time.monotonic()
    clock.set(1000.0, now - 10, now)
    assert is_later(clock.now(), 1000, now)  # never early
    assert clock.age() == math.inf
    clock.set(1010.0, now, now)
    assert is_later(clock.now(), 1010, now)
    clock.set(2000.0, now - 10, now)
    assert is_later(clock.now(), 1010, now)
    assert clock.age() == math.inf


async def test_what_time_it_is_needs_no_server_once_it_was_measured_however_badly() -> None:
    clock, now = ServerClock(), time.monotonic()
    clock.set(1000.0, now - 10, now)
    nobody = PostgresDatabase("postgresql://127.0.0.1:1/nowhere", _server=clock)
    assert is_later(nobody.now(), 1000, now)


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("53100", "full"),
        ("58030", "io"),
        ("XX001", "corrupt"),
        ("XX000", "other"),
        ("40P01", "busy"),
        ("57014", "busy"),
        ("57P01", "restarting"),
        ("57P03", "restarting"),
        ("28P01", "login"),
        ("3D000", "missing"),
        ("25006", "read_only"),
        ("25P03", "unavailable"),
        ("53300", "connections"),
        ("23505", None),
    ],
)
def test_what_the_server_says_is_of_a_kind(sqlstate: str, kind: str | None) -> None:
    assert error_kind(sqlstate) == kind
