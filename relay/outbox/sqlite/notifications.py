"""Wakes relays when something was committed: one empty datagram to each Unix socket beside the database.

A lost datagram costs a safety poll (250 ms) and nothing else, so to notify never blocks and never fails. Watching the
write-ahead log instead would be a race: it changes before the commit can be seen. The poll asks whether anybody has
committed since, and no more: that is all that an idle relay's four wake-ups a second are for.
"""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from relay.outbox.sqlite.opening import connect_read_only
from relay.outbox.sqlite.permissions import fit, make_folder
from relay.outbox.store import POLL_SECONDS, in_step

if TYPE_CHECKING:
    import asyncio

_LONGEST_ADDRESS = 100  # sun_path holds 108 bytes on Linux, 104 elsewhere
# What was committed is noticed all the same: this is for what time alone brings.
_LISTENING_SECONDS = 1.0


def _folder_of(database: Path) -> Path:
    """Where the sockets of those who listen are."""
    return database.with_name(f"{database.name}.bells")  # the name that running processes know


def _is_short(path: str | Path) -> bool:
    return len(os.fsencode(path)) <= _LONGEST_ADDRESS


@contextmanager
def _address_of(path: Path) -> Iterator[str]:
    """The socket's address, through an open directory where the plain path would be too long."""
    if _is_short(path):
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


class SqliteNotifier:
    """The producer's side: hold one, and notify after every commit that added a delivery."""

    def __init__(self, database: Path) -> None:
        self._folder = os.fspath(_folder_of(database))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def notify(self) -> None:
        """Tell every relay on this database that there is something to do. Never fails."""
        with suppress(OSError), os.scandir(self._folder) as entries:  # no folder: no relay has ever listened
            for entry in entries:
                self._notify(entry.path)

    def _notify(self, path: str) -> None:
        # Would block: the relay has datagrams enough to wake it. Refused: a dead relay's socket, which its successor
        # removes. Whatever else there is, what was committed is committed, and the safety poll finds it.
        with suppress(OSError):
            if _is_short(path):
                self._socket.sendto(b"", path)
                return
            with _address_of(Path(path)) as address:
                self._socket.sendto(b"", address)

    def close(self) -> None:
        self._socket.close()


def notify(database: str) -> None:
    """Once, for whoever holds no notifier: the file's path, or an empty one for a database in memory."""
    if database:
        with closing(SqliteNotifier(Path(database))) as notifier:
            notifier.notify()


class SqliteListener:
    """The listening side, one per relay process. A datagram sets all of `heard`, and so does a commit untold;
    whoever acts on one clears it."""

    def __init__(self, database: Path, *heard: asyncio.Event) -> None:
        self._database = database
        self._heard = heard
        # A process id would not do: two containers that share a volume may both be process 1.
        self._path = _folder_of(database) / f"{os.urandom(8).hex()}.sock"
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: sqlite3.Connection | None = None
        self._seen: int | None = None
        self._poll: asyncio.TimerHandle | None = None
        self.hears = True
        self.poll_seconds = _LISTENING_SECONDS

    def check(self) -> None:
        """Nothing can come between: its socket is its own."""

    async def open(self) -> None:
        """Bind and listen on the running loop; sockets of relays that are gone are cleared away."""
        from asyncio import get_running_loop  # a producer, who only notifies, need not wait for it

        make_folder(self._path.parent, self._database)
        for path in self._path.parent.iterdir():
            _remove_if_dead(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        with _address_of(self._path) as address:
            self._socket.bind(address)
        fit(self._path, self._database)
        self._loop = get_running_loop()
        self._loop.add_reader(self._socket, self._hear)
        self._reader = connect_read_only(self._database)
        self._seen = self._version(self._reader)
        self._poll_again(self._loop, self._reader)

    async def close(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
        if self._reader is not None:
            self._reader.close()
        if self._socket is None or self._loop is None:
            return
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        with suppress(OSError):  # a disk that fails keeps nobody from leaving, and the next to come removes it
            self._path.unlink()

    def _hear(self) -> None:
        """One datagram: it is called again at once where there are more, which costs less than to find that there is
        none."""
        assert self._socket is not None
        self._socket.recv(1)
        self._tell()

    def _poll_again(self, loop: asyncio.AbstractEventLoop, reader: sqlite3.Connection) -> None:
        self._poll = loop.call_later(in_step(POLL_SECONDS), self._look, loop, reader)

    def _look(self, loop: asyncio.AbstractEventLoop, reader: sqlite3.Connection) -> None:
        seen, self._seen = self._seen, self._version(reader)
        if self._seen is None or self._seen != seen:
            self._tell()
        self._poll_again(loop, reader)

    @staticmethod
    def _version(reader: sqlite3.Connection) -> int | None:
        """Changes with each commit of others. None: whoever is told will meet what is wrong, and say so."""
        try:
            version: int = reader.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            return None
        return version

    def _tell(self) -> None:
        for event in self._heard:
            event.set()


def _remove_if_dead(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe, _address_of(path) as address:
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            return
