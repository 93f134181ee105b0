"""The guide to SQL under test: its own programs store an order and add its delivery, or neither, in every language."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from relay import outbox
from relay.outbox.store import Database
from tests.acceptance.stage import ROOT
from tests.relay.deliveries import rows
from tests.services.postgres import Server, binaries

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]

GUIDE = (ROOT / "docs" / "sql.md").read_text("utf-8")
PROGRAMS: dict[str, str] = dict(re.findall(r"\n\*\*([^*\n]+)\*\*[^\n]*\n\n```\w+\n(.*?)```", GUIDE, re.DOTALL))
DRIVERS = ROOT / "tests" / "acceptance" / "node"
NODE = ROOT / "build" / "node"
# Where Debian puts the sources of Go's packages: no proxy for modules has to be reached.
GOPATH = Path("/usr/share/gocode")
ORDERS = "CREATE TABLE orders (number INTEGER)"

Run = subprocess.CompletedProcess[str]


def run(*command: object, text: str | None = None, **environ: str) -> Run:
    return subprocess.run(
        [str(word) for word in command],
        input=text,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


class Place:
    """A file and a server's database, both with an outbox and the table that the guide stores orders in."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url, self.path = folder, url, folder / "app.db"
        self.databases: list[Database] = [outbox.database_at(f"sqlite:///{self.path}"), outbox.database_at(url)]
        for database in self.databases:
            database.migrate([outbox.OUTBOX])
        with closing(sqlite3.connect(self.path)) as file, psycopg.connect(url) as server:
            file.execute(ORDERS)
            server.execute(ORDERS)

    def program(self, name: str) -> str:
        """As it stands, but for where the databases are."""
        here = PROGRAMS[name].replace("var/app.db", str(self.path))
        return here.replace("postgresql://app@db.example/app", f"{self.url}?sslmode=disable")

    def orders(self) -> list[int]:
        with closing(sqlite3.connect(self.path)) as file, psycopg.connect(self.url) as server:
            sql = "SELECT number FROM orders"
            return [number for (number,) in (*file.execute(sql), *server.execute(sql))]

    def deliveries(self) -> list[tuple[str, str, bytes]]:
        sql = "SELECT id, url, body FROM outspoken_deliveries JOIN outspoken_bodies USING (seq)"
        return [row for database in self.databases for row in rows(database, sql)]

    def headers(self) -> list[dict[str, str]]:
        sql = "SELECT CAST(headers AS TEXT) FROM outspoken_deliveries"
        return [json.loads(text) for database in self.databases for (text,) in rows(database, sql)]


@pytest.fixture
def place(postgres: Server, tmp_path: Path) -> Iterator[Place]:
    name = postgres.create()
    yield Place(tmp_path, postgres.url(name))
    postgres.drop(name)


def works_once(place: Place, number: int, program: Callable[[], Run]) -> None:
    """It adds what it says; a second time it is refused, and with it all of its transaction."""
    for attempt in ("first", "second"):
        done = program()
        assert (done.returncode == 0) == (attempt == "first"), done.stderr
        assert place.orders() == [number]
        ((id_, url, body),) = place.deliveries()
        assert (id_, url) == (f"order-{number}", "https://hooks.example.com/x")
        assert json.loads(body) == {"state": "shipped"}
    assert "in the outbox already" in done.stderr


def test_psql(place: Place) -> None:
    psql = (binaries() or Path()) / "psql"
    works_once(place, 21, lambda: run(psql, "-qX", "-v", "ON_ERROR_STOP=1", place.url, text=place.program("psql")))


@pytest.mark.needs("sqlite3")
def test_the_shell_of_sqlite(place: Place) -> None:
    works_once(place, 24, lambda: run("sqlite3", "-bail", place.path, text=place.program("sqlite3")))


@pytest.mark.needs("sqlite3")
@pytest.mark.parametrize(("number", "name"), [(27, "psql, with more to say"), (28, "sqlite3, with more to say")])
def test_all_there_is_to_say(place: Place, number: int, name: str) -> None:
    psql = (binaries() or Path()) / "psql"
    shell = [psql, "-qXAt", "-v", "ON_ERROR_STOP=1", place.url] if number == 27 else ["sqlite3", "-bail", place.path]
    first, again = (run(*shell, text=place.program(name)) for _ in range(2))
    assert (first.stderr, again.stderr) == ("", "")
    assert f"order-{number}|cancelled" in first.stdout
    assert f"order-{number}\n" in again.stdout  # it is there already, and its end was told
    assert "cancelled" not in again.stdout
    assert place.orders() == [number] * 2
    told = (
        "SELECT due_at - created_at, idempotency_key, owner, priority, tag "
        "FROM outspoken_deliveries JOIN outspoken_tags USING (seq) ORDER BY tag"
    )
    found = [row for database in place.databases for row in rows(database, told)]
    assert [row[1:] for row in found] == [(f"shipped-{number}", "shop-3", 10, tag) for tag in ("customer:7", "spring")]
    assert all(3598 < row[0] <= 3600 for row in found)


@pytest.fixture(scope="module")
def node() -> Path:
    """Node and its drivers, installed into build/ once. Debian's knows no SQLite yet."""
    wanted = (DRIVERS / "package.json").read_bytes()
    there, program = NODE / "package.json", NODE / "node_modules" / ".bin" / "node"
    if not (there.exists() and there.read_bytes() == wanted and program.exists()):
        shutil.rmtree(NODE, ignore_errors=True)
        shutil.copytree(DRIVERS, NODE)
        done = run("npm", "install", "--prefix", NODE, "--no-package-lock", "--no-audit", "--no-fund")
        assert done.returncode == 0, done.stderr
    return program


@pytest.mark.needs("npm")
@pytest.mark.parametrize(("name", "number"), [("Node, pg", 22), ("Node, node:sqlite", 25)])
def test_node(place: Place, node: Path, name: str, number: int) -> None:
    program = NODE / f"{number}-{os.getpid()}.mjs"  # beside its modules
    program.write_text(place.program(name))
    try:
        works_once(place, number, lambda: run(node, program))
    finally:
        program.unlink()
    assert place.headers() == [{"x-shop": "north"}]


@pytest.mark.needs("go")
@pytest.mark.parametrize(("name", "number"), [("Go, lib/pq", 23), ("Go, mattn/go-sqlite3", 26)])
def test_go(place: Place, tmp_path: Path, name: str, number: int) -> None:
    source, program = tmp_path / "main.go", tmp_path / "program"
    source.write_text(place.program(name))
    built = run("go", "build", "-o", program, source, GO111MODULE="off", GOPATH=str(GOPATH))
    assert built.returncode == 0, built.stderr
    works_once(place, number, lambda: run(program))


def test_every_program_of_the_guide_is_run() -> None:
    run_here = {"psql, with more to say", "sqlite3, with more to say"}
    run_here |= {"psql", "sqlite3", "Node, pg", "Node, node:sqlite", "Go, lib/pq", "Go, mattn/go-sqlite3"}
    assert set(PROGRAMS) == run_here
    assert len(re.findall(r"```\w+", GUIDE)) == len(run_here)
