"""Who is at work on this file: every process that holds streams, or adds to them, keeps a lock for as long as it lives.

The kernel takes the lock back the moment the process is gone, however it went, together with its sockets; so the others
need not wait until it has been silent for long. A process id would not do: ids are used again, and two containers that
share a volume may both be process 1. SQLite itself needs file locks to hold between all who open its file.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from relay.outbox.sqlite.opening import FILE_OF
from relay.outbox.sqlite.permissions import fit, make_folder
from relay.outbox.store import Connection


class SqliteLiveness:
    """A process says by its `name` that it lives, until it closes this or ends."""

    def __init__(self, database: Path) -> None:
        self.name = os.urandom(8).hex()
        self._path = _folder(database) / self.name
        make_folder(self._path.parent, database)
        for path in self._path.parent.iterdir():
            _remove_if_dead(path)
        self._lock = _locked(self._path)
        fit(self._path, database)

    def close(self) -> None:
        """It lives no longer, as far as the others are concerned."""
        with suppress(OSError):  # a disk that fails keeps nobody from leaving, and the next to come removes it
            self._path.unlink()
        self._lock.close()


def gone(connection: Connection, names: Iterable[str]) -> frozenset[str]:
    """Those of these names whose processes live no longer. Cheap enough to be asked every few milliseconds.

    Nobody is known to be gone where the connection does not lead to a file of this machine's.
    """
    if not isinstance(connection, sqlite3.Connection):
        return frozenset()
    folder = _folder(Path(os.fsdecode(connection.execute(FILE_OF).fetchone()[0])))
    return frozenset(name for name in names if not _lives(folder / name))


def living(database: Path) -> int:
    """How many processes say that they live."""
    folder = _folder(database)
    return sum(_lives(path) for path in folder.iterdir()) if folder.is_dir() else 0


def _folder(database: Path) -> Path:
    return database.with_name(f"{database.name}.alive")


def _locked(path: Path) -> BinaryIO:
    """A file that is ours. Whoever found it before it was locked took it for a dead one's, and has removed it."""
    while True:
        file = path.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():
            return file
        file.close()


def _lives(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            # Shared, so that two who look at once do not take each other for the living.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass  # removed by itself at its end, or by whoever came after it
    return False


def _remove_if_dead(path: Path) -> None:
    with suppress(BlockingIOError, FileNotFoundError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
