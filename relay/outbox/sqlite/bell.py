"""Wakes relays when something was committed: one empty datagram to each Unix socket beside the database.

A lost datagram costs a safety poll (250 ms) and nothing else, so a ring never blocks and never fails. Watching the
write-ahead log instead would be a race: it changes before the commit can be seen.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LONGEST_ADDRESS = 100  # sun_path holds 108 bytes on Linux, 104 elsewhere


def folder_of(database: Path) -> Path:
    """Where the sockets of those who listen are."""
    return database.with_name(f"{database.name}.bells")


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """The socket's address, through an open directory where the plain path would be too long."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


class Bell:
    """The ringing side: hold one, ring it after every commit that added a delivery."""

    def __init__(self, database: Path) -> None:
        self._folder = folder_of(database)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def ring(self) -> None:
        """Tell every relay on this database that there is something to do. Never fails."""
        with suppress(OSError):  # no folder: no relay has ever listened
            for path in self._folder.iterdir():
                self._ring(path)

    def _ring(self, path: Path) -> None:
        # Would block: the relay has rings enough to wake it. Refused: a dead relay's socket, which its successor
        # removes. Whatever else there is, what was committed is committed, and the safety poll finds it.
        with suppress(OSError), address_of(path) as address:
            self._socket.sendto(b"", address)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()
