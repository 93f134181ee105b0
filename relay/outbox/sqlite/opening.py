"""Opens the outbox's SQLite file the one way it may be opened: durable, private, and with foreign keys."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

from relay.outbox.errors import ConfigError
from relay.outbox.store import BUSY_SECONDS

if TYPE_CHECKING:
    import aiosqlite

# FULL: a commit is on the disk when it returns; NORMAL would lose committed rows in a power cut.
# secure_delete FAST: Debian builds with it ON, which makes pruning bodies 40 times slower.
# A small page cache beside memory-mapped reads: a large one slows cold reads of bodies.
_MAPPED_BYTES = 1 << 30
_PRAGMAS = """
PRAGMA foreign_keys = ON;
PRAGMA synchronous = FULL;
PRAGMA secure_delete = FAST;
PRAGMA cache_size = -4096;
"""
# Until a statement has ended, SQLite keeps what the pages that it changes were like: by default in a file, which most
# claims and settlements would make, write and delete.
_WRITER_PRAGMAS = _PRAGMAS + "PRAGMA temp_store = MEMORY;"

FILE_OF = "SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'"
"""The file that a connection leads to, empty for none: as bytes, since a name need not be UTF-8, and a text has to."""


def sqlite_path(url: str) -> Path:
    """The file of `sqlite:///relative.db` or `sqlite:////absolute.db`. Raises ConfigError for any other URL."""
    scheme, separator, path = url.partition(":///")
    if scheme != "sqlite" or not separator or not path or "?" in path:
        raise ConfigError("outbox.url: expected sqlite:///path/to/file.db (four slashes for an absolute path)")
    return Path(path)


def create(path: Path) -> None:
    """Make the file, readable by its owner only, in WAL mode. One that is there keeps its mode, and what is in it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Not where it is there: whoever closes a file ends every lock that his process has on it (POSIX), also of other
    # connections. The next process to leave would take its log away, and with it what they commit from then on.
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            return  # and waits for no writer, as what follows does
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only takes effect before the first table
        connection.execute("PRAGMA journal_mode = WAL")


def connect(path: Path, *, busy_seconds: float = BUSY_SECONDS, any_thread: bool = False) -> sqlite3.Connection:
    """A connection for the caller's own transactions: autocommit until it says BEGIN."""
    connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=not any_thread)
    return _prepared(connection, _WRITER_PRAGMAS)


def connect_read_only(path: Path, *, any_thread: bool = False) -> sqlite3.Connection:
    """A connection that cannot write, for bodies and gauges."""
    # Not `as_uri`, which from Python 3.14 on loads an HTTP client: every command would wait for that.
    uri = f"file://{quote_from_bytes(os.fsencode(path.resolve()))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=not any_thread)
    return _prepared(connection, _PRAGMAS)


def _prepared(connection: sqlite3.Connection, pragmas: str) -> sqlite3.Connection:
    """The first statement is what opens the file: where that fails, nobody else would close the connection."""
    try:
        connection.executescript(pragmas)
    except BaseException:
        connection.close()
        raise
    return connection


def map_afresh(connection: sqlite3.Connection) -> None:
    """Have a connection read through a mapping of the file, which copies what is large once less, and give back what is
    in this process's memory of an earlier one. For whoever reads little it costs more than it saves: it is undone and
    made again whenever somebody has committed."""
    connection.execute("PRAGMA mmap_size = 0")
    connection.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")


async def connect_async(path: Path) -> aiosqlite.Connection:
    """The same as `connect`, on aiosqlite, for producers that live in an event loop."""
    import aiosqlite  # it loads asyncio, for which others need not wait

    connection = await aiosqlite.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        await connection.executescript(_WRITER_PRAGMAS)
    except BaseException:
        await connection.close()
        raise
    return connection
