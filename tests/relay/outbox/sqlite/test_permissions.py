"""A new outbox is its owner's alone. One that others share keeps working for those it is shared with, and says who else
may read it."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from relay import outbox
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.sqlite.liveness import SqliteLiveness
from relay.outbox.sqlite.permissions import exposed, remedy
from tests.relay.deliveries import new, put, states

STRANGER, THEIRS = 60_001, 60_002  # a user and a group that are nobody's

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


def mode(path: Path) -> str:
    return stat.filemode(path.stat().st_mode)


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


@pytest.mark.parametrize(
    ("given", "found"), [(0o600, False), (0o640, False), (0o660, False), (0o644, True), (0o602, True)]
)
def test_others_are_told_of_and_a_group_is_not(path: Path, given: int, found: bool) -> None:
    path.chmod(given)
    assert SqliteDatabase(path).exposed() == ((path,) if found else ())


def test_its_log_is_looked_at_too(path: Path) -> None:
    put(SqliteDatabase(path), new())
    with closing(outbox.connect(path)) as connection:
        connection.execute("SELECT * FROM outspoken_migrations").fetchall()
        for suffix in ("-wal", "-shm"):
            beside(path, suffix).chmod(0o644)
        assert exposed(path) == (beside(path, "-wal"), beside(path, "-shm"))


def test_what_is_not_there_yet_is_nobodys(folder: Path) -> None:
    assert exposed(folder / "new.db") == ()


def test_the_remedy_can_be_typed_and_mends_it(folder: Path, path: Path) -> None:
    moved = Path(shutil.move(path, folder / "it's mine.db"))
    moved.chmod(0o666)
    assert os.system(remedy(exposed(moved))) == 0
    assert mode(moved) == "-rw-rw----"


def test_a_file_that_was_there_keeps_its_mode(folder: Path) -> None:
    path = folder / "theirs.db"
    path.touch(0o640)
    SqliteDatabase(path).migrate([outbox.OUTBOX])
    assert mode(path) == "-rw-r-----"


async def test_what_stands_beside_it_is_for_those_who_may_write_to_it(path: Path) -> None:
    path.chmod(0o640)
    await listens_and_lives(path, "drwx------", "-rw-------")
    path.chmod(0o660)
    await listens_and_lives(path, "drwxrws---", "-rw-rw----")
    path.chmod(0o600)
    await listens_and_lives(path, "drwx------", "-rw-------")


async def listens_and_lives(path: Path, folder: str, file: str) -> None:
    """A relay is there, and so is a producer: what they make has these modes."""
    listener = SqliteDatabase(path).listener()
    await listener.open()
    with closing(SqliteLiveness(path)):
        for suffix in (".bells", ".alive"):
            (made,) = beside(path, suffix).iterdir()
            assert (mode(beside(path, suffix)), mode(made)[1:]) == (folder, file[1:])
    await listener.close()


def as_stranger(work: Callable[[], None]) -> int:
    """Do it in a process of another user, who is in the group; returns its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(THEIRS)
            os.setuid(STRANGER)
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.acceptance
@as_root
async def test_a_producer_of_the_group_adds_notifies_and_is_seen_to_live(folder: Path, path: Path) -> None:
    for shared, given in ((folder, 0o770), (path, 0o660)):
        os.chown(shared, -1, THEIRS)
        shared.chmod(given)
    heard = asyncio.Event()
    listener = SqliteDatabase(path).listener(heard)
    await listener.open()

    def produce() -> None:
        with closing(outbox.connect(path)) as connection, closing(outbox.Notifier(path)) as notifier:
            connection.execute("BEGIN IMMEDIATE")
            outbox.add(connection, new())
            connection.execute("COMMIT")
            notifier.notify()
            outbox.Liveness(path).close()

    assert as_stranger(produce) == 0
    await heard.wait()
    await listener.close()
    assert states(SqliteDatabase(path)) == {"d1": "pending"}
    assert exposed(path) == ()
