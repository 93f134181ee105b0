"""Hears the bell of a SQLite file, on a Unix socket beside it."""

from __future__ import annotations

import asyncio
import secrets
import socket
from contextlib import suppress
from pathlib import Path

from relay.outbox.sqlite.bell import address_of, folder_of


class Doorbell:
    """The hearing side, one per relay process. A ring sets all of `heard`; whoever acts on one of them clears it."""

    def __init__(self, database: Path, *heard: asyncio.Event) -> None:
        self._heard = heard
        # A process id would not do: two containers that share a volume may both be process 1.
        self._path = folder_of(database) / f"{secrets.token_hex(8)}.sock"
        self._socket: socket.socket | None = None

    async def open(self) -> None:
        """Bind and listen on the running loop; sockets of relays that are gone are cleared away."""
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        for path in self._path.parent.iterdir():
            _remove_if_dead(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        with address_of(self._path) as address:
            self._socket.bind(address)
        asyncio.get_running_loop().add_reader(self._socket, self._hear)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        self._path.unlink(missing_ok=True)

    def _hear(self) -> None:
        assert self._socket is not None
        with suppress(BlockingIOError):
            while True:
                self._socket.recv(1)
                for event in self._heard:
                    event.set()


def _remove_if_dead(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe, address_of(path) as address:
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            return
