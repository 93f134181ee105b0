"""Producers on asyncpg's connections: only inside of a transaction, whoever began it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import asyncpg
import pytest
from asyncpg.pool import PoolConnectionProxy

from relay import outbox
from relay.outbox.errors import InvalidDelivery
from relay.outbox.model import Stream
from relay.outbox.store import Database
from tests.relay.deliveries import new, put, rows

pytestmark = [
    pytest.mark.needs("postgres"),
    pytest.mark.parametrize("database", ["postgres"], indirect=True),
]

Session: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

IN_AUTOCOMMIT = r"^connection: in autocommit mode; .*`async with connection\.transaction\(\):`.*SQLAlchemy's own"
FAILED = r"^connection: its transaction has failed; roll it back"
CLOSED = r"^connection: closed, or back in its pool; pass an open one"

OPEN = Stream("open", live_until=1e10)
every_call = pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda session: outbox.add(session, new("added", stream=OPEN)), id="add"),
        pytest.param(
            lambda session: outbox.begin_stream(session, Stream("begun"), "wss://receiver.example/live"),
            id="begin_stream",
        ),
        pytest.param(lambda session: outbox.keep_streams(session, ["open"], 2e10), id="keep_streams"),
        pytest.param(lambda session: outbox.end_stream(session, "open"), id="end_stream"),
    ],
)
Call = Callable[[Session], Awaitable[None]]


@pytest.fixture(params=["own", "pool"])
async def session(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Session]:
    """A connection of the caller's own, or one that a pool lends."""
    put(database, new("first", stream=OPEN))
    if request.param == "own":
        connection = await asyncpg.connect(database.url)
        yield connection
        await connection.close()
        return
    async with asyncpg.create_pool(database.url, min_size=1, max_size=1) as pool, pool.acquire() as lent:
        yield lent


def everything(database: Database) -> list[list[Any]]:
    """What a producer's call could change."""
    return [
        rows(database, f"SELECT * FROM outspoken_{table} ORDER BY 1")
        for table in ("deliveries", "streams", "destinations")
    ]


@every_call
async def test_a_connection_that_commits_every_statement_is_refused(
    database: Database, session: Session, call: Call
) -> None:
    before = everything(database)
    with pytest.raises(InvalidDelivery, match=IN_AUTOCOMMIT):
        await call(session)
    assert everything(database) == before
    async with session.transaction():
        await call(session)
    after = everything(database)
    assert after != before
    with pytest.raises(InvalidDelivery, match=IN_AUTOCOMMIT):
        await call(session)
    assert everything(database) == after


@every_call
async def test_what_is_awaited_after_its_transaction_is_refused(
    database: Database, session: Session, call: Call
) -> None:
    before = everything(database)
    async with session.transaction():
        begun = call(session)
    with pytest.raises(InvalidDelivery, match=IN_AUTOCOMMIT):
        await begun
    assert everything(database) == before


@every_call
async def test_a_transaction_that_was_begun_by_a_statement_will_do(
    database: Database, session: Session, call: Call
) -> None:
    before = everything(database)
    await session.execute("BEGIN")
    await call(session)
    assert everything(database) == before
    await session.execute("COMMIT")
    assert everything(database) != before


@every_call
async def test_a_transaction_that_has_failed_is_refused_until_it_is_rolled_back(
    database: Database, session: Session, call: Call
) -> None:
    before = everything(database)
    async with session.transaction():
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with session.transaction():
                with pytest.raises(asyncpg.DivisionByZeroError):
                    await session.execute("SELECT 1 / 0")
                with pytest.raises(InvalidDelivery, match=FAILED):
                    await call(session)
                raise asyncpg.DivisionByZeroError
        assert everything(database) == before
        await call(session)
    assert everything(database) != before


@every_call
async def test_what_was_done_in_a_savepoint_is_undone_with_it(database: Database, session: Session, call: Call) -> None:
    before = everything(database)
    async with session.transaction():
        savepoint = session.transaction()
        await savepoint.start()
        await call(session)
        await savepoint.rollback()
    assert everything(database) == before


@every_call
async def test_a_closed_connection_is_refused(database: Database, session: Session, call: Call) -> None:
    """Even one that was in a transaction when it was closed."""
    before = everything(database)
    await session.execute("BEGIN")
    session.terminate()
    with pytest.raises(InvalidDelivery, match=CLOSED):
        await call(session)
    assert everything(database) == before


@every_call
async def test_a_connection_that_went_back_to_its_pool_is_refused(database: Database, call: Call) -> None:
    put(database, new("first", stream=OPEN))
    before = everything(database)
    async with asyncpg.create_pool(database.url, min_size=1, max_size=1) as pool:
        async with pool.acquire() as lent:
            pass
        with pytest.raises(InvalidDelivery, match=CLOSED):
            await call(lent)
    assert everything(database) == before


async def test_a_field_that_cannot_be_kept_is_named_first(session: Session) -> None:
    with pytest.raises(InvalidDelivery, match=r"^id: "):
        await outbox.add(session, new("a\0b"))
