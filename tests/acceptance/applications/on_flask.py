"""An application on Flask, with SQLAlchemy's sessions, on psycopg 3 or on a SQLite file.

python -m tests.acceptance.applications.on_flask DATABASE CALLBACK
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from flask import Flask, Response, jsonify, request
from sqlalchemy import Engine, ForeignKey, create_engine, event, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker
from werkzeug.serving import make_server

from relay import outbox
from relay.outbox import RelayError
from tests.acceptance.applications.steps import KNOWN, UNKNOWN, GivenUp, Steps, database_url, delivery, ready


class Base(DeclarativeBase):
    """The application's tables."""


class Customer(Base):
    """Somebody who orders."""

    __tablename__ = "flask_customers"
    name: Mapped[str] = mapped_column(primary_key=True)


class Order(Base):
    """What was ordered. That its customer is unknown turns out at the commit."""

    __tablename__ = "flask_orders"
    name: Mapped[str] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(ForeignKey(Customer.name, deferrable=True, initially="DEFERRED"))


def begun_by_sqlalchemy() -> Engine:
    """With a pool of two connections."""
    engine = create_engine(database_url().replace("postgresql:", "postgresql+psycopg:"), pool_size=2, max_overflow=0)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _leave_transactions_to_sqlalchemy)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _leave_transactions_to_sqlalchemy(connection: Any, _: object) -> None:
    """As SQLAlchemy's documentation has it: without, a savepoint would be all there is of a transaction."""
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")


engine = begun_by_sqlalchemy()
autocommitting = create_engine(engine.url, isolation_level="AUTOCOMMIT")
scoped = scoped_session(sessionmaker(engine))


@contextmanager
def told() -> Iterator[Session]:
    """A session that is told to commit, and to roll back."""
    with Session(engine) as session:
        try:
            yield session
            session.commit()
        except BaseException:
            session.rollback()
            raise


@contextmanager
def session_begin() -> Iterator[Session]:
    with Session(engine) as session, session.begin():
        yield session


@contextmanager
def engine_begin() -> Iterator[Session]:
    with engine.begin() as connection, Session(connection) as session:
        yield session
        session.flush()  # the commit is the connection's, which knows of no session


@contextmanager
def of_the_thread() -> Iterator[scoped_session[Session]]:
    """As Flask's extensions for SQLAlchemy have it."""
    try:
        yield scoped
        scoped.commit()
    except BaseException:
        scoped.rollback()  # it is not enough to remove it: where a commit fails, SQLite leaves the transaction open
        raise
    finally:
        scoped.remove()


@contextmanager
def autocommit() -> Iterator[Session]:
    """Each statement is committed by itself."""
    with Session(autocommitting) as session:
        yield session
        session.commit()


WAYS: dict[str, Callable[[], AbstractContextManager[Session | scoped_session[Session]]]] = {
    "told": told,
    "session.begin": session_begin,
    "engine.begin": engine_begin,
    "scoped": of_the_thread,
    "autocommit": autocommit,
}


def perform(session: Session | scoped_session[Session], steps: Steps) -> None:
    """One after another."""
    for step in steps:
        match step:
            case ["order", name]:
                session.add(Order(name=name, customer=KNOWN))
            case ["orphan", name]:
                session.add(Order(name=name, customer=UNKNOWN))
            case ["flush"]:
                session.flush()
            case ["callback", name]:
                outbox.add(session, delivery(name))
            case ["below", name]:
                driver: Any = session.connection().connection.driver_connection
                outbox.add(driver, delivery(name))
            case ["savepoint", inner]:
                with suppress(GivenUp), session.begin_nested():
                    perform(session, inner)
            case ["break"]:
                with suppress(DBAPIError):
                    session.execute(text("SELECT 1 / 0"))
            case _:
                raise GivenUp


app = Flask(__name__)


@app.post("/orders")
def post_orders() -> Response:
    try:
        with WAYS[request.args["way"]]() as session:
            perform(session, request.get_json())
    except (RelayError, IntegrityError, GivenUp) as error:
        return Response(f"{type(error).__name__}: {error}", 409)
    return Response("committed")


@app.get("/orders")
def get_orders() -> Response:
    with Session(engine) as session:
        return jsonify(list(session.scalars(select(Order.name))))


def main() -> None:
    """Serve until SIGTERM."""
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        connection.execute(insert(Customer).values(name=KNOWN))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    ready(server.server_port)
    server.serve_forever()


if __name__ == "__main__":
    main()
