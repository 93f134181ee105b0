"""A call that was not awaited is seen by the type checker of whoever forgot it; one that is done at once is not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.stage import ROOT

pytestmark = pytest.mark.acceptance

PROGRAM = """
import sqlite3
import aiosqlite, asyncpg, psycopg
import sqlalchemy as sa, sqlalchemy.orm as orm, sqlalchemy.ext.asyncio as aio
from asyncpg.pool import PoolConnectionProxy as Lent
from relay import outbox
from relay.outbox import NewDelivery as New, Stream

def at_once(a: sqlite3.Connection, b: psycopg.Connection[tuple[int]], c: orm.Session, d: sa.Connection,
            e: orm.scoped_session[orm.Session], new: New) -> None:
    outbox.add(a, new)
    outbox.add(b, new)
    outbox.add(c, new)
    outbox.add(d, new)
    outbox.add(e, new)
    outbox.begin_stream(c, Stream("s"), "https://h.example/x")
    id_: str = outbox.add(c, new)
    wrong: int = outbox.add(c, new)  # [assignment]
    ids: list[str] = outbox.add_many(b, [new])
    pending: bool = outbox.cancel(a, id_)
    stands: outbox.DeliveryStatus | None = outbox.status(a, id_)
    ended: list[outbox.DeliveryStatus] = outbox.take_ended(c)

async def later(a: aiosqlite.Connection, b: asyncpg.Connection[asyncpg.Record], c: Lent[asyncpg.Record],
                d: psycopg.AsyncConnection[tuple[int]], e: aio.AsyncSession, f: aio.AsyncConnection,
                g: aio.async_scoped_session[aio.AsyncSession], new: New) -> None:
    outbox.add(a, new)  # [unused-coroutine]
    outbox.add(b, new)  # [unused-coroutine]
    outbox.add(c, new)  # [unused-coroutine]
    outbox.add(d, new)  # [unused-coroutine]
    outbox.add(e, new)  # [unused-coroutine]
    outbox.add(f, new)  # [unused-coroutine]
    outbox.add(g, new)  # [unused-coroutine]
    outbox.begin_stream(e, Stream("s"), "https://h.example/x")  # [unused-coroutine]
    outbox.keep_streams(e, ["s"], 1.0)  # [unused-coroutine]
    outbox.end_stream(e, "s")  # [unused-coroutine]
    outbox.add_many(d, [new])  # [unused-coroutine]
    outbox.cancel(a, "d")  # [unused-coroutine]
    outbox.take_ended(e)  # [unused-coroutine]
    await outbox.add(a, new)
    await outbox.add(b, new)
    id_: str = await outbox.add(e, new)
    stands: outbox.DeliveryStatus | None = await outbox.status(e, id_)

outbox.add("postgresql://localhost", New("a", "b", b""))  # [call-overload]
New("a", "b", "text")  # [arg-type]
"""


def complaints(program: str, *options: str | Path, cwd: Path = ROOT) -> dict[int, str]:
    """What mypy says of a program, as anybody runs it: the code of the error on each line that has one."""
    command = (sys.executable, "-m", "mypy", "--config-file=", "--no-pretty", *options, "-c", program)
    told = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert told.stderr == ""
    found = re.findall(r"^<string>:(\d+): error: .*\[([\w-]+)\]$", told.stdout, re.MULTILINE)
    return {int(line): code for line, code in found}


def expected(program: str) -> dict[int, str]:
    """What the program itself says that is wrong with it."""
    marks = ((number, re.search(r"# \[([\w-]+)\]$", line)) for number, line in enumerate(program.splitlines(), 1))
    return {number: mark[1] for number, mark in marks if mark}


def test_a_forgotten_await_is_seen_on_whatever_connection() -> None:
    cache = ROOT / "build" / "mypy-of-strangers"  # what mypy has learnt of the libraries, which are large, is kept
    assert complaints(PROGRAM, "--cache-dir", cache) == expected(PROGRAM)
