"""Real servers with a body limit: nginx, and Express as most callers use it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.acceptance.stage import ROOT
from tests.relay.transports.test_nginx import CONFIG

_EXPRESS = Path(__file__).with_name("express")
_INSTALLED = ROOT / "build" / "express"


@asynccontextmanager
async def nginx(folder: Path) -> AsyncIterator[int]:
    """Takes at most 1 MiB; yields its port. It inherits a socket that listens, so there is no start to wait for."""
    folder.mkdir()
    listening = socket.create_server(("127.0.0.1", 0))
    port: int = listening.getsockname()[1]
    (folder / "nginx.conf").write_text(CONFIG.format(folder=folder, port=port))
    process = await asyncio.create_subprocess_exec(
        *(_program("nginx"), "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"),
        env={"NGINX": f"{listening.fileno()};"},
        pass_fds=[listening.fileno()],
        stderr=asyncio.subprocess.DEVNULL,
    )
    listening.close()
    try:
        yield port
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def express() -> AsyncIterator[int]:
    """Takes at most 100 kB of JSON; yields its port. Installed into build/ once."""
    await _install_express()
    process = await asyncio.create_subprocess_exec(
        *(_program("node"), _INSTALLED / "receiver.js"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # it prints a stack trace for every 413
    )
    assert process.stdout
    try:
        yield int(await process.stdout.readline())
    finally:
        process.terminate()
        await process.wait()


async def _install_express() -> None:
    if _is_installed():
        return
    shutil.rmtree(_INSTALLED, ignore_errors=True)
    shutil.copytree(_EXPRESS, _INSTALLED)
    npm = await asyncio.create_subprocess_exec(
        *(_program("npm"), "install", "--prefix", _INSTALLED, "--no-package-lock", "--no-audit", "--no-fund"),
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await npm.wait() == 0, "npm could not install Express"


def _is_installed() -> bool:
    """As it stands in the tree now, and to the end."""
    same = all(
        (_INSTALLED / file.name).exists() and (_INSTALLED / file.name).read_bytes() == file.read_bytes()
        for file in _EXPRESS.iterdir()
    )
    return same and (_INSTALLED / "node_modules" / ".package-lock.json").exists()


def _program(name: str) -> str:
    program = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert program, f"{name} is not installed"
    return program
