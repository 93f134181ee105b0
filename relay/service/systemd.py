"""What a service manager hears of a daemon: that it is ready, that its work still turns, that it stops (sd_notify).

The protocol is a datagram to the socket that NOTIFY_SOCKET names; without one, nobody listens and nothing is said.
Source: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress


class ServiceManager:
    """Tells the service manager that `environ`, the process's environment, names; nobody where it names none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the first byte of an abstract address.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        limit = environ.get("WATCHDOG_USEC", "")
        self._interval = int(limit) / 3e6 if limit.isdigit() else 0.0

    def ready(self) -> None:
        """Work may come."""
        self._say("READY=1")

    def stopping(self) -> None:
        """Nothing new is begun."""
        self._say("STOPPING=1")

    async def feed(self, turns: Callable[[], int]) -> None:
        """Feed the watchdog, three times in its time, as long as the loop that everything depends on goes on turning:
        `turns` counts. Returns at once where there is no watchdog."""
        seen = -1
        while self._interval:
            if (count := turns()) != seen:
                self._say("WATCHDOG=1")
            seen = count
            await asyncio.sleep(self._interval)

    def _say(self, state: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(state.encode(), self._address)
