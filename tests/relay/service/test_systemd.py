from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.service.systemd import ServiceManager


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A service manager's socket, and the address that it names in the environment."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@outspoken{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + address[1:] if address.startswith("@") else address)
        sock.setblocking(False)
        yield address, sock


def heard(sock: socket.socket) -> list[str]:
    said = []
    try:
        while True:
            said.append(sock.recv(100).decode())
    except BlockingIOError:
        return said


def test_a_daemon_says_when_it_is_ready_and_when_it_stops(manager: tuple[str, socket.socket]) -> None:
    address, sock = manager
    service_manager = ServiceManager({"NOTIFY_SOCKET": address})
    service_manager.ready()
    service_manager.stopping()
    assert heard(sock) == ["READY=1", "STOPPING=1"]


async def test_the_watchdog_is_fed_as_long_as_the_loop_turns(manager: tuple[str, socket.socket]) -> None:
    address, sock = manager
    turns = iter([1, 2, 2, 2, 3, 3])
    with pytest.raises(RuntimeError):  # asked once more than there are turns
        await ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000"}).feed(lambda: next(turns))
    assert heard(sock) == ["WATCHDOG=1"] * 3


async def test_without_a_watchdog_it_is_not_fed(manager: tuple[str, socket.socket]) -> None:
    address, sock = manager
    await ServiceManager({"NOTIFY_SOCKET": address}).feed(lambda: 1)
    assert heard(sock) == []


def test_nothing_is_said_where_nobody_listens(tmp_path: Path) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        service_manager = ServiceManager(environ)
        service_manager.ready()
        service_manager.stopping()
