"""A real nginx with a body limit, which answers 413 while the body is still on its way."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.relay.transports.conftest import Open, envelope

CONFIG = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    client_max_body_size 1m;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 204; }}
        location /proxied {{ proxy_pass http://127.0.0.1:1; }}
    }}
}}
"""

pytestmark = pytest.mark.needs("nginx")


@pytest.fixture
async def nginx(tmp_path: Path) -> AsyncIterator[int]:
    """The port of an nginx. It inherits a socket that listens already, so there is no start to wait for."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    (tmp_path / "nginx.conf").write_text(CONFIG.format(folder=tmp_path, port=port))
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        *(program, "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "error.log"),
        env={"NGINX": f"{listening.fileno()};"},
        pass_fds=[listening.fileno()],
        stderr=asyncio.subprocess.DEVNULL,
    )
    listening.close()
    yield port
    process.terminate()
    await process.wait()


async def test_a_small_body_is_taken_and_the_connection_kept(open_transport: Open, nginx: int) -> None:
    transport = open_transport()
    told = [await transport.send(envelope(nginx)) for _ in range(2)]
    assert [(answer.status, answer.reused) for answer in told] == [(204, False), (204, True)]


@pytest.mark.parametrize("path", ["/", "/proxied"])
@pytest.mark.parametrize("megabytes", [2, 20])
async def test_a_body_beyond_the_limit_is_a_413(megabytes: int, path: str, open_transport: Open, nginx: int) -> None:
    transport = open_transport()
    for _ in range(3):
        answer = await transport.send(envelope(nginx, bytes(megabytes * 2**20), path=path))
        assert (answer.status, answer.failure) == (413, None)
        assert (answer.header("server") or "").startswith("nginx")
