"""The log of a database (`-wal`) and the index of it that its processes share (`-shm`), which nobody else may touch.

Whoever has the database open when one of them is deleted goes on with a file that has no name any more; whoever opens
it afterwards makes another. The two see neither each other's commits nor each other's locks, each writes over the
other's part of the log, and whoever closes last moves his own into the database and deletes the other's, by its name.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Container, Mapping, Set
from contextlib import suppress
from pathlib import Path

from relay.outbox.errors import StoreUnavailable
from relay.outbox.sqlite.opening import connect, connect_read_only
from relay.outbox.sqlite.permissions import logs_of

_PATIENCE_SECONDS = 5.0
_ASK_AGAIN_SECONDS = 0.05
_LOCK = re.compile(r"POSIX .* (\d+) [0-9a-f]+:[0-9a-f]+:(\d+) ")  # of /proc/locks: whose, and on which inode

_Identity = tuple[int, int] | None
Users = Mapping[int, frozenset[str]]


class SideFiles:
    """Those that a connection uses which has just read from the database."""

    def __init__(self, database: Path) -> None:
        self._paths = [os.fspath(path) for path in logs_of(database.resolve())]
        self._opened = [_identity(path) for path in self._paths]

    def are_there(self) -> bool:
        """Whether both still have their names. It costs two system calls."""
        return [_identity(path) for path in self._paths] == self._opened

    def others_stand_there(self) -> bool:
        """Whether somebody has made another since, for himself and for all who come. A log in which nothing stands is
        no other: whoever of this very process comes late makes one before he fails, since he shares our index."""
        log, index = self._paths
        if _identity(log) == self._opened[0]:
            return _identity(index) not in (None, self._opened[1])
        with suppress(OSError):
            return Path(log).stat().st_size > 0
        return False


class SqliteHold:
    """Keeps a database open while others of this process work with it, so that none of their connections is the last
    to be closed: that one moves the log into the database and deletes it, by its name, whoever's it is. Raises
    StoreUnavailable where somebody uses a log that was deleted."""

    def __init__(self, database: Path) -> None:
        require_one_log(database)
        self._writer = connect(database, any_thread=True)
        # Before anything is deleted the file has to be locked against all others, and one that may only be read cannot
        # be locked like that: closed last, it leaves everything as it is.
        self._reader = connect_read_only(database, any_thread=True)
        self._files = SideFiles(database)

    def is_intact(self) -> bool:
        """Whether the log is still the one that was opened."""
        return self._files.are_there()

    def close(self) -> None:
        """Once all others are closed: tidy up, unless that would be over somebody else's log. What one that was deleted
        held is not lost by that, where nobody has come since."""
        if self._files.others_stand_there():
            self._writer.close()
            self._reader.close()
        else:
            self._reader.close()
            self._writer.close()


def await_one_log(database: Path) -> None:
    """The same as `require_one_log`, once those had time to leave who notice what was done to them. Blocks."""
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while users_of_deleted(database) and time.monotonic() < give_up:
        time.sleep(_ASK_AGAIN_SECONDS)
    require_one_log(database)


def require_one_log(database: Path) -> None:
    """Raises StoreUnavailable where a process uses a log of this database that was deleted: to open it now would begin
    another."""
    if users := users_of_deleted(database):
        raise StoreUnavailable("replaced", f"outbox.url: {database}: {split(users)}")


def require_log(database: Path) -> None:
    """The same, for whoever opens it for a moment: looked into only where a part of the log is missing."""
    if not all(map(os.path.exists, logs_of(database.resolve()))):
        require_one_log(database)


def split(users: Users) -> str:
    """What is to be said of a log that was deleted under its users, and what loses least."""
    pids = " ".join(map(str, users))
    what = f"its log (-wal, -shm) was deleted while processes use it (PID {pids})"
    if any(Path(path).exists() for paths in users.values() for path in paths):
        return f"{what}, and another was begun since; `kill -9 {pids}`: to end in order would write over the other"
    return f"{what}; `kill {pids}`: as they end in order, they bring what is in it into the database"


def users_of_deleted(database: Path) -> Users:
    """The processes that have this database open, and of each the names of what was deleted under it. Only those are
    known whose open files this user may look at, in this container."""
    with suppress(OSError):
        inode, logs = database.stat().st_ino, logs_of(database.resolve())
        locks = {(int(pid), int(locked)) for pid, locked in _LOCK.findall(Path("/proc/locks").read_text())}
        holders = sorted(pid for pid, locked in locks if locked == inode)
        found = {pid: _deleted_under(pid, locks, *map(str, logs)) for pid in holders}
        return {pid: names for pid, names in found.items() if names}
    return {}


def _deleted_under(pid: int, locks: Container[tuple[int, int]], log: str, index: str) -> frozenset[str]:
    """What a process uses of these. What it has open alone says little: a child has all that its parent had."""
    files = _open_files(pid)
    names = {name for name, _ in files}
    has_locked = any(name == f"{index} (deleted)" and (pid, inode) in locks for name, inode in files)
    has_written = f"{log} (deleted)" in names and log not in names
    return frozenset(name for name, is_used in ((index, has_locked), (log, has_written)) if is_used)


def _open_files(pid: int) -> Set[tuple[str, int]]:
    """The name and the inode of each."""
    found = set()
    with suppress(OSError):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found.add((str(path.readlink()), path.stat().st_ino))
    return found


def _identity(path: str) -> _Identity:
    try:
        found = os.stat(path)  # noqa: PTH116 (a Path takes twice as long, and each transaction asks)
    except OSError:
        return None
    return found.st_dev, found.st_ino
