"""A whole, checked copy of the outbox while engine and relay write to it. What is not a file has tools of its own."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from relay.admin import audit
from relay.admin.access import Refused, acting, reading
from relay.admin.audit import Actor
from relay.outbox.errors import StoreUnavailable
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.sqlite.opening import connect_read_only
from relay.outbox.store import Database
from relay.service.disk import sync

ACT = "backup"


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy that is on the disk, and passed SQLite's integrity check."""

    path: str
    bytes: int
    took: float


def backup(database: Database, target: Path, actor: Actor) -> Backup:
    """Copy the outbox to `target`, which is replaced at the end, all at once or not at all.

    Readable by its owner only. The audit gets a line, from which the age of the last backup follows. Raises Refused
    for a target that cannot be one and for an outbox that is no file, and StoreUnavailable when the copy cannot be
    written or is damaged.
    """
    began = time.monotonic()
    _require_target(file_of(database), target)
    # Beside the target, because a rename is atomic only within one file system.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        _copy(database, temporary)
        _check(temporary)
        sync(temporary)
        temporary.replace(target)
        sync(target.parent)
    except OSError as error:
        raise StoreUnavailable("io", f"{target}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    done = Backup(str(target), target.stat().st_size, time.monotonic() - began)
    with acting(database) as connection:
        audit.note(connection, actor, ACT, database.now(), path=done.path, bytes=done.bytes, took=round(done.took, 3))
    return done


def file_of(database: Database) -> Path:
    """The file of an outbox in SQLite. Raises Refused for any other, with the remedy."""
    if not isinstance(database, SqliteDatabase):
        raise Refused(f"{database.name}: is not a file; copy it with pg_dump, which does not hold it up")
    return database.path


def last_backup_at(database: Database) -> float | None:
    """When the last copy was finished, in epoch seconds."""
    with reading(database) as connection:
        at: float | None = connection.execute("SELECT max(at) FROM outspoken_audit WHERE act = ?", (ACT,)).fetchone()[0]
    return at


def _require_target(file: Path, target: Path) -> None:
    if target.is_dir():
        raise Refused(f"{target}: is a folder; name a file in it")
    if not target.parent.is_dir():
        raise Refused(f"{target.parent}: no such folder")
    if target.exists() and target.samefile(file):
        raise Refused(f"{target}: is the outbox itself")


def _copy(database: Database, temporary: Path) -> None:
    # VACUUM INTO takes an empty file as it is, with its mode: a new one would be readable by all until it is changed.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with reading(database) as connection:
        connection.execute("COMMIT")  # it takes its own snapshot
        connection.execute("VACUUM INTO ?", (str(temporary),))


def _check(copy: Path) -> None:
    with closing(connect_read_only(copy)) as connection:
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreUnavailable("corrupt", f"the copy is damaged, and so may be the outbox: {found}")
