"""What SQLite raises, in the outbox's own words."""

from __future__ import annotations

import os
import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from relay.outbox.errors import REMEDIES, StoreUnavailable

# What the statement or its values did, not the store: trying the same again would never succeed.
_OF_THE_STATEMENT = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)


class _StoreErrors(AbstractContextManager[None]):
    """A class, since a generator takes four times as long, and each claim enters several."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, sqlite3.Error) and not isinstance(error, _OF_THE_STATEMENT):
            raise StoreUnavailable(error_kind(error)) from error


store_errors = _StoreErrors()
"""Raises StoreUnavailable for what may be well again later, and lets the faults of a statement through."""


def unusable(path: Path, error: sqlite3.Error) -> StoreUnavailable:
    """What SQLite says of a file, with what mends it. Only for an `error_kind` that is not "other"."""
    kind = error_kind(error)
    if kind == "unavailable" and os.statvfs(path.parent).f_flag & os.ST_RDONLY:  # of which SQLite says nothing
        return StoreUnavailable(kind, f"outbox.url: {path}: its file system is read-only; mount it writable")
    # What cannot be opened, or is no database, says so itself: perhaps it is another file that was meant.
    meant = kind in ("busy", "full", "io") or _primary(error) == "SQLITE_CORRUPT"
    remedy = f"; {REMEDIES[kind]}" if meant else ""
    return StoreUnavailable(kind, f"outbox.url: {path}: {error}{remedy}")


def error_kind(error: sqlite3.Error) -> str:
    """busy, full, io, corrupt, unavailable or other."""
    kinds = {
        "SQLITE_BUSY": "busy",
        "SQLITE_LOCKED": "busy",
        "SQLITE_FULL": "full",
        "SQLITE_IOERR": "io",
        "SQLITE_CORRUPT": "corrupt",
        "SQLITE_NOTADB": "corrupt",
        "SQLITE_CANTOPEN": "unavailable",
        "SQLITE_READONLY": "unavailable",
    }
    return kinds.get(_primary(error), "other")


def _primary(error: sqlite3.Error) -> str:
    """SQLite's primary result code, never its text."""
    name: str = getattr(error, "sqlite_errorname", "") or ""
    return "_".join(name.split("_")[:2])
