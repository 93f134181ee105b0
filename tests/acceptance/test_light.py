"""`pip install outspoken` is the outbox alone: small, quick to load, no burden to the program that it is added to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from relay.outbox.sqlite.database import SqliteDatabase
from tests.acceptance.stage import ROOT
from tests.relay.deliveries import states
from tests.relay.outbox.test_types import complaints, expected
from tests.services import clients

pytestmark = pytest.mark.acceptance

# What a producer may have to wait for: neither the daemons' libraries, nor an event loop that it does not use.
HEAVY = {"aiohttp", "asyncio", "cryptography", "numpy", "orjson", "prometheus_client", "pydantic", "structlog", "typer"}

ADD = """
import json, sys
from pathlib import Path

from relay import outbox
from relay.outbox import NewDelivery

path = Path(sys.argv[1])
outbox.database_at(f"sqlite:///{path}").migrate([outbox.OUTBOX])
connection, notifier = outbox.connect(path), outbox.Notifier(path)
connection.execute("BEGIN IMMEDIATE")
outbox.add(connection, NewDelivery(id="d1", url="https://hooks.example.com/x", body=b"{}"))
connection.execute("COMMIT")
notifier.notify()
print(json.dumps([*{name.partition(".")[0] for name in sys.modules}]))
"""

ADD_IN_AN_EVENT_LOOP = """
import asyncio, sys
from pathlib import Path

from relay import outbox
from relay.outbox import NewDelivery


async def add(path):
    outbox.database_at(f"sqlite:///{path}").migrate([outbox.OUTBOX])
    connection = await outbox.connect_async(path)
    await connection.execute("BEGIN IMMEDIATE")
    await outbox.add(connection, NewDelivery(id="d1", url="https://hooks.example.com/x", body=b"{}"))
    await connection.commit()
    await connection.close()


asyncio.run(add(Path(sys.argv[1])))
"""

FORGETFUL = """
import sqlite3
import aiosqlite
from relay import outbox
from relay.outbox import NewDelivery

async def add(a: sqlite3.Connection, b: aiosqlite.Connection, new: NewDelivery) -> None:
    outbox.add(a, new)
    outbox.add(b, new)  # [unused-coroutine]
    await outbox.add(b, new)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment of its own, with what `pip install outspoken` brings."""
    folder = tmp_path_factory.mktemp("light")
    venv.create(folder / "environment")
    assert clients.install(folder / "environment", str(_source(folder / "source"))) == ""
    return folder / "environment"


def _source(target: Path) -> Path:
    """A copy without what was built before: setuptools would pack that too."""
    for package in ("relay", "engine", "outspoken"):
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, target)
    return target


def told(environment: Path, *words: str | Path) -> str:
    """What a program there says, once it is done."""
    return subprocess.run(
        [environment / "bin" / "python", "-I", *words], capture_output=True, text=True, check=True
    ).stdout


def test_a_delivery_is_added_without_waiting_for_any_large_library(environment: Path, tmp_path: Path) -> None:
    path = tmp_path / "outspoken.db"
    loaded = set(json.loads(told(environment, "-c", ADD, path)))
    assert loaded & HEAVY == set()
    assert states(SqliteDatabase(path)) == {"d1": "pending"}


def test_a_delivery_is_added_in_an_event_loop_with_what_is_there(environment: Path, tmp_path: Path) -> None:
    told(environment, "-c", ADD_IN_AN_EVENT_LOOP, tmp_path / "outspoken.db")
    assert states(SqliteDatabase(tmp_path / "outspoken.db")) == {"d1": "pending"}


def test_its_types_come_with_it_and_need_none_of_the_libraries_whose_connections_it_takes(
    environment: Path, tmp_path: Path
) -> None:
    options = ("--strict", "--python-executable", environment / "bin" / "python", "--cache-dir", tmp_path)
    assert complaints(FORGETFUL, *options, cwd=tmp_path) == expected(FORGETFUL)


def test_hardly_anything_else_is_installed(environment: Path) -> None:
    installed = told(
        environment, "-c", "from importlib.metadata import distributions as d; print(*{one.name for one in d()})"
    )
    assert set(installed.split()) <= {"outspoken", "aiosqlite", "typing_extensions"}


@pytest.mark.parametrize(("program", "extra"), [("relay",) * 2, ("engine",) * 2, ("outspoken", "relay,engine")])
def test_a_program_without_its_extra_says_which_to_install(environment: Path, program: str, extra: str) -> None:
    done = subprocess.run([environment / "bin" / program, "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == f"{program}: typer is not installed: pip install 'outspoken[{extra}]'\n"


LARGE = {"aiohttp", "av", "cryptography", "numpy", "pycares", "rich", "structlog", "uvloop"}


@pytest.mark.parametrize(
    ("command", "spared"),
    [
        ("relay --help", {"asyncio", "logging", "pydantic", "relay.admin", "relay.outbox", "sqlite3", "ssl"}),
        ("engine --help", {"asyncio", "engine.errors", "logging", "pydantic", "relay.outbox", "sqlite3", "ssl"}),
        (
            "relay status",
            {"prometheus_client", "relay.cli.operations", "relay.cli.maintenance", "relay.cli.urls", "relay.delivery"}
            | {"ssl", "termios"},
        ),
    ],
)
def test_a_command_waits_for_nothing_that_it_does_not_use(command: str, spared: set[str], tmp_path: Path) -> None:
    words = [sys.executable, "-X", "importtime", "-m", *command.split()]
    environ = os.environ | {"OUTSPOKEN_OUTBOX__URL": f"sqlite:///{tmp_path}/outspoken.db"}
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"typer", f"{command.split(maxsplit=1)[0]}.cli"} <= loaded
    assert loaded & (LARGE | spared) == set()
