"""A pgbouncer of a test's own in front of a server, as its package configures one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from tests.ports import free_port
from tests.services.postgres import Server

_CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
logfile = {folder}/log
pidfile = {folder}/pid
unix_socket_dir =
"""


@contextmanager
def pooling(server: Server, mode: str, size: int = 20) -> Iterator[int]:
    """The port of one with a `mode`, session or transaction, and so many sessions of the server."""
    folder = Path(mkdtemp(prefix="outspoken-pgbouncer-"))
    port = free_port()
    (folder / "ini").write_text(
        _CONFIGURATION.format(server=server.port, port=port, mode=mode, size=size, folder=folder)
    )
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    if user:
        for path in (folder, folder / "ini"):
            shutil.chown(path, user)
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
    assert program is not None
    with subprocess.Popen([program, "-q", str(folder / "ini")], user=user) as process:
        try:
            _wait_until_open(port, process)
            yield port
        finally:
            process.kill()
    shutil.rmtree(folder)


def _wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise RuntimeError("pgbouncer did not start")
