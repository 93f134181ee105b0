"""An application on FastAPI, with SQLAlchemy's async sessions and asyncpg.

python -m tests.acceptance.applications.on_fastapi DATABASE CALLBACK
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from sqlalchemy import ForeignKey, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from relay import outbox
from relay.outbox import RelayError
from tests.acceptance.applications.steps import (
    KNOWN,
    UNKNOWN,
    GivenUp,
    Steps,
    database_url,
    delivery,
    ready,
)


class Base(DeclarativeBase):
    """The application's tables."""


class Customer(Base):
    """Somebody who orders."""

    __tablename__ = "fastapi_customers"
    name: Mapped[str] = mapped_column(primary_key=True)


class Order(Base):
    """What was ordered. That its customer is unknown turns out at the commit."""

    __tablename__ = "fastapi_orders"
    name: Mapped[str] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(ForeignKey(Customer.name, deferrable=True, initially="DEFERRED"))


engine: AsyncEngine = create_async_engine(
    database_url().replace("postgresql:", "postgresql+asyncpg:"), pool_size=2, max_overflow=0
)


@asynccontextmanager
async def told() -> AsyncIterator[AsyncSession]:
    """A session that is told to commit, and to roll back."""
    async with AsyncSession(engine) as session:
        try:
            yield session
            await session.commit()
        except BaseException:
            await session.rollback()
            raise


@asynccontextmanager
async def session_begin() -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine) as session, session.begin():
        yield session


@asynccontextmanager
async def engine_begin() -> AsyncIterator[AsyncSession]:
    async with engine.begin() as connection, AsyncSession(connection) as session:
        yield session
        await session.flush()  # the commit is the connection's, which knows of no session


@asynccontextmanager
async def autocommit() -> AsyncIterator[AsyncSession]:
    """Each statement is committed by itself."""
    async with AsyncSession(engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
        yield session


WAYS: dict[str, Callable[[], AbstractAsyncContextManager[AsyncSession]]] = {
    "told": told,
    "session.begin": session_begin,
    "engine.begin": engine_begin,
    "autocommit": autocommit,
}


async def perform(session: AsyncSession, steps: Steps) -> None:
    """One after another."""
    for step in steps:
        match step:
            case ["order", name]:
                session.add(Order(name=name, customer=KNOWN))
            case ["orphan", name]:
                session.add(Order(name=name, customer=UNKNOWN))
            case ["flush"]:
                await session.flush()
            case ["callback", name]:
                await outbox.add(session, delivery(name))
            case ["below", name]:
                driver: Any = (await (await session.connection()).get_raw_connection()).driver_connection
                await outbox.add(driver, delivery(name))
            case ["savepoint", inner]:
                with suppress(GivenUp):
                    async with session.begin_nested():
                        await perform(session, inner)
            case ["break"]:
                with suppress(DBAPIError):
                    await session.execute(text("SELECT 1 / 0"))
            case _:
                raise GivenUp


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(insert(Customer).values(name=KNOWN))
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.post("/orders")
async def post_orders(way: str, steps: Steps) -> PlainTextResponse:
    try:
        async with WAYS[way]() as session:
            await perform(session, steps)
    except (RelayError, IntegrityError, GivenUp) as error:
        return PlainTextResponse(f"{type(error).__name__}: {error}", 409)
    return PlainTextResponse("committed")


@app.get("/orders")
async def get_orders() -> list[str]:
    async with AsyncSession(engine) as session:
        return list(await session.scalars(select(Order.name)))


async def main() -> None:
    """Serve until SIGTERM."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    ready(listening.getsockname()[1])
    await server.serve(sockets=[listening])


if __name__ == "__main__":
    asyncio.run(main())
