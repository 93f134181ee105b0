"""Who else reaches an outbox's file. One that we make is its owner's alone. One that was there keeps its mode: whoever
shares it with a group, as an application may with its own relay, does so on purpose, and what stands beside it follows.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def logs_of(database: Path) -> tuple[Path, Path]:
    """What SQLite keeps beside a database that is open, whether it is there or not."""
    return database.with_name(f"{database.name}-wal"), database.with_name(f"{database.name}-shm")


def files_of(database: Path) -> tuple[Path, ...]:
    """Those of its files that are there."""
    return tuple(file for file in (database, *logs_of(database)) if file.exists())


def exposed(database: Path) -> tuple[Path, ...]:
    """Those of its files that others than their owner and their group may read or write."""
    return tuple(file for file in files_of(database) if file.stat().st_mode & stat.S_IRWXO)


def remedy(files: Iterable[Path]) -> str:
    """The command that keeps others out of them."""
    return shlex.join(["chmod", "o=", *map(str, files)])


def make_folder(folder: Path, database: Path) -> None:
    """A folder beside the database, for those who may write to that."""
    folder.mkdir(mode=0o700, exist_ok=True)
    # What is made in there belongs to the group too.
    _fit(folder, database, stat.S_IRWXU | (stat.S_IRWXG | stat.S_ISGID if _is_shared(database) else 0))


def fit(file: Path, database: Path) -> None:
    """Have those reach a file who may write to the database."""
    _fit(file, database, stat.S_IRUSR | stat.S_IWUSR | (stat.S_IRGRP | stat.S_IWGRP if _is_shared(database) else 0))


def _fit(path: Path, database: Path, mode: int) -> None:
    if stat.S_IMODE(path.stat().st_mode) == mode:
        return
    with suppress(PermissionError):  # another's, who made it; or a group that we are not in
        if mode & stat.S_IRWXG:
            os.chown(path, -1, database.stat().st_gid)
        path.chmod(mode)


def _is_shared(database: Path) -> bool:
    return database.exists() and bool(database.stat().st_mode & stat.S_IWGRP)
