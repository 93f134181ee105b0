"""The guide for producers under test: each of its programs stores an order and adds its delivery, or tests so."""

from __future__ import annotations

import ast
import asyncio
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from inspect import isawaitable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connections

from relay import outbox
from relay.outbox.connections import refusals
from relay.outbox.store import Database
from tests.acceptance.stage import ROOT
from tests.relay.deliveries import states
from tests.relay.outbox.producers import django_settings
from tests.services.postgres import Server

GUIDE = (ROOT / "docs" / "producers.md").read_text("utf-8")
MIGRATING, DEFINING, *PROGRAMS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
_ORDERS = "CREATE TABLE orders (number INTEGER PRIMARY KEY)"

pytestmark = pytest.mark.needs("postgres")


class Place:
    """A file and a server's database, both with an outbox and the table that the guide stores orders in."""

    def __init__(self, path: Path, url: str) -> None:
        self._path, self._url = path, url
        self.databases: list[Database] = [outbox.database_at(f"sqlite:///{path}"), outbox.database_at(url)]

    def run(self, program: str) -> dict[str, Any]:
        """As it stands, but for where the databases are; what it awaits is awaited."""
        here = program.replace("var/", f"{self._path.parent}/")
        here = here.replace("app@db.example/app", self._url.removeprefix("postgresql://"))
        names: dict[str, Any] = {}
        exec(DEFINING, names)
        done = eval(compile(here, "producers.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if isawaitable(done):
            asyncio.run(_awaited(done))
        return names

    def make_orders(self) -> None:
        with closing(sqlite3.connect(self._path)) as file:
            file.execute(_ORDERS)
        with psycopg.connect(self._url) as server:
            server.execute(_ORDERS)

    def orders(self) -> set[str]:
        """The orders that were stored, by the ids of their deliveries."""
        with closing(sqlite3.connect(self._path)) as file, psycopg.connect(self._url) as server:
            found = [*file.execute("SELECT number FROM orders"), *server.execute("SELECT number FROM orders")]
        return {f"order-{number}" for (number,) in found}

    def deliveries(self) -> set[str]:
        return {id_ for database in self.databases for id_ in states(database)}


async def _awaited(work: Any) -> None:
    await work


@pytest.fixture(scope="module")
def place(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Made as the guide says."""
    place = Place(tmp_path_factory.mktemp("guide") / "app.db", postgres.url(postgres.create()))
    place.run(MIGRATING)
    place.make_orders()
    yield place


@pytest.fixture
def djangos_default(place: Place) -> Iterator[None]:
    """Have Django know the server's as an application does that has one database."""
    django_settings(place.databases[1])
    before = connections.settings["default"]
    connections.settings["default"] = connections.settings["outbox"]
    connections["default"].close()
    del connections["default"]
    yield
    connections["default"].close()
    del connections["default"]
    connections.settings["default"] = before


def title(program: str) -> str:
    """What it is about, by the libraries that it uses."""
    return " ".join(re.findall(r"^(?:import|from) ([\w.]+)", program, re.MULTILINE)[:2])


@pytest.mark.parametrize("program", PROGRAMS, ids=title)
@pytest.mark.usefixtures("djangos_default")
def test_what_a_program_stores_it_adds_too(place: Place, program: str, structlog_as_it_was: None) -> None:
    stores = set(re.findall(r"VALUES \((\d+)\)", program))
    before = place.deliveries()
    place.run(program)
    assert place.deliveries() - before == {f"order-{number}" for number in stores}
    assert place.orders() == place.deliveries()


def test_every_driver_has_its_lines() -> None:
    wanted = ("sqlite3", "aiosqlite", "asyncpg", "psycopg", "psycopg2", "sqlalchemy", "django")
    imported = {name for program in PROGRAMS for name in re.findall(r"^(?:import|from) (\w+)", program, re.MULTILINE)}
    assert imported >= set(wanted)
    assert len([program for program in PROGRAMS if "await outbox.add(" in program]) == 4


@pytest.mark.parametrize(
    "message", [refusals.CLOSED, refusals.FAILED, refusals.IN_AUTOCOMMIT, refusals.IN_A_SAVEPOINT_ALONE]
)
def test_what_a_connection_is_refused_for_stands_there(message: str) -> None:
    beginnings = re.findall(r"^\| `(connection: [^`]+)`", GUIDE, re.MULTILINE)
    assert any(message.startswith(beginning) for beginning in beginnings)
