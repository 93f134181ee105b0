"""An application on SQLAlchemy and asyncpg: what it stores and what it emits are one transaction, or it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import UniqueConstraint, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from relay import outbox
from relay.outbox.errors import InvalidDelivery
from relay.outbox.model import NewDelivery
from relay.outbox.postgres.database import PostgresDatabase
from tests.acceptance.stage import Process, Stage, free_callback_port
from tests.services.postgres import Server

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]

URL = "https://hooks.example.com/x"
NOT_BEGUN = r"^connection: in autocommit mode; .*pass SQLAlchemy's own session"


class Base(DeclarativeBase):
    """The application's tables."""


class Order(Base):
    """What the application keeps. That its name is taken turns out at the commit."""

    __tablename__ = "orders"
    __table_args__ = (UniqueConstraint("name", deferrable=True, initially="DEFERRED"),)
    number: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class ChangedItsMind(Exception):
    """What the application raises to roll back."""


Work = Callable[[AsyncSession], Awaitable[None]]
Transact = Callable[[AsyncEngine, Work, bool], Awaitable[None]]
"""Do some work, and then commit, or else roll back."""


async def told(engine: AsyncEngine, work: Work, commits: bool) -> None:
    """A session that is told how to end."""
    async with AsyncSession(engine) as session:
        await work(session)
        await (session.commit() if commits else session.rollback())


async def session_begin(engine: AsyncEngine, work: Work, commits: bool) -> None:
    """A block of the session's, which an exception rolls back."""
    with suppress(ChangedItsMind):
        async with AsyncSession(engine) as session, session.begin():
            await work(session)
            if not commits:
                raise ChangedItsMind


async def engine_begin(engine: AsyncEngine, work: Work, commits: bool) -> None:
    """The same of the engine's."""
    with suppress(ChangedItsMind):
        async with engine.begin() as connection, AsyncSession(connection) as session:
            await work(session)
            if not commits:
                raise ChangedItsMind


every_way = pytest.mark.parametrize("transact", [told, session_begin, engine_begin])


@pytest.fixture
def url(postgres: Server) -> Iterator[str]:
    """An outbox."""
    name = postgres.create()
    PostgresDatabase(postgres.url(name)).migrate([outbox.OUTBOX])
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    """The application's door to the same database, with its tables made."""
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    await engine.dispose()


async def emit(session: AsyncSession, name: str, url: str = URL) -> None:
    """Add a delivery in the session's transaction."""
    await outbox.add(session, NewDelivery(name, url, b"{}"))


async def emit_below(session: AsyncSession, name: str) -> None:
    """The same on the driver's connection, which SQLAlchemy begins a transaction on no earlier than it has to."""
    connection = await (await session.connection()).get_raw_connection()
    driver: Any = connection.driver_connection
    await outbox.add(driver, NewDelivery(name, URL, b"{}"))


async def kept(engine: AsyncEngine) -> tuple[set[str], set[str]]:
    """The names of the orders and of the deliveries that were committed."""
    async with engine.connect() as connection:
        orders = await connection.scalars(text("SELECT name FROM orders"))
        deliveries = await connection.scalars(text("SELECT id FROM deliveries"))
        return set(orders), set(deliveries)


@pytest.fixture
async def receiver(tmp_path: Path, url: str) -> AsyncIterator[tuple[Process, str]]:
    """One that a relay delivers to, and its URL."""
    stage = Stage(tmp_path, free_callback_port(), outbox__url=url)
    receiver = await stage.receiver()
    relay = await stage.relay()
    yield receiver, stage.callback_url
    await relay.stop()
    await receiver.stop()


def arrived(receiver: Process) -> set[str]:
    """The ids of what came."""
    return {line["headers"]["webhook-id"] for line in receiver.lines if "headers" in line}


@every_way
async def test_an_order_and_its_callback_come_together_or_not_at_all(
    engine: AsyncEngine, receiver: tuple[Process, str], transact: Transact
) -> None:
    process, url = receiver

    async def order(session: AsyncSession, *names: str) -> None:
        """The callback before the order is flushed, after it, and before anything was said at all."""
        first, second, third = names
        await emit(session, first, url)
        session.add(Order(name=first))
        session.add(Order(name=second))
        await emit(session, second, url)
        session.add(Order(name=third))
        await session.flush()
        await emit(session, third, url)

    await transact(engine, lambda session: order(session, "no1", "no2", "no3"), False)
    await transact(engine, lambda session: order(session, "yes1", "yes2", "yes3"), True)
    came = {"yes1", "yes2", "yes3"}
    await process.until(lambda: came <= arrived(process))
    assert await kept(engine) == (came, came)
    assert arrived(process) == came


@every_way
async def test_below_sqlalchemy_what_has_no_transaction_yet_is_refused(engine: AsyncEngine, transact: Transact) -> None:
    async def work(session: AsyncSession) -> None:
        session.add(Order(name="again"))
        with pytest.raises(InvalidDelivery, match=NOT_BEGUN):
            await emit_below(session, "again")
        await session.flush()
        await emit_below(session, "again")

    await transact(engine, work, False)
    assert await kept(engine) == (set(), set())
    await transact(engine, work, True)
    assert await kept(engine) == ({"again"}, {"again"})


@every_way
async def test_a_commit_that_fails_leaves_neither(engine: AsyncEngine, transact: Transact) -> None:
    async def twice(session: AsyncSession) -> None:
        session.add_all([Order(name="twin"), Order(name="twin")])
        await session.flush()
        await emit(session, "twin")

    with pytest.raises(IntegrityError):
        await transact(engine, twice, True)
    assert await kept(engine) == (set(), set())


@every_way
async def test_a_savepoint_is_given_up_with_its_delivery_alone(engine: AsyncEngine, transact: Transact) -> None:
    async def work(session: AsyncSession) -> None:
        with suppress(ChangedItsMind):
            async with session.begin_nested():
                session.add(Order(name="inner"))
                await emit(session, "inner")
                raise ChangedItsMind
        session.add(Order(name="outer"))
        await session.flush()
        await emit(session, "outer")

    await transact(engine, work, True)
    assert await kept(engine) == ({"outer"}, {"outer"})


@every_way
async def test_after_a_statement_that_failed_nothing_is_added(engine: AsyncEngine, transact: Transact) -> None:
    async def work(session: AsyncSession) -> None:
        session.add(Order(name="failing"))
        await session.flush()
        with pytest.raises(Exception, match="division by zero"):
            await session.execute(text("SELECT 1 / 0"))
        with pytest.raises(InvalidDelivery, match=r"^connection: its transaction has failed; roll it back"):
            await emit(session, "failing")

    await transact(engine, work, False)
    assert await kept(engine) == (set(), set())


async def test_an_engine_that_commits_every_statement_is_refused(engine: AsyncEngine) -> None:
    autocommitting = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with AsyncSession(autocommitting) as session:
        session.add(Order(name="kept"))
        await session.flush()
        with pytest.raises(InvalidDelivery, match=r"^connection: in autocommit mode; "):
            await emit(session, "refused")
    assert await kept(engine) == ({"kept"}, set())
