"""Engine, relay and a receiver, side by side in one terminal. They are processes of their own, as anywhere else."""

from __future__ import annotations

import asyncio
import fcntl
import getpass
import json
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine.settings import read as read_engines
from outspoken.installation import Installation
from relay.admin.auth import login_url
from relay.outbox.errors import RelayError
from relay.service.interpreter import module_command

Line = dict[str, Any]

_READY = {"engine.ready", "relay.ready", "receiver.ready"}
_LAST_LINES = 5


class CannotRun(RelayError):
    """A program that is needed ended, or another one runs here: the message says which."""


async def run(installation: Installation, receiver_port: int, environ: Mapping[str, str]) -> None:
    """Run all three until SIGINT, SIGTERM or SIGHUP, and then let them drain. A second one stops them at once. Raises
    CannotRun when one of them ends by itself, and ConfigError."""
    stop, programs = asyncio.Event(), Programs(installation.folder)

    def obey() -> None:
        if stop.is_set():
            programs.terminate()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, obey)
    with _alone(installation):
        try:
            running = asyncio.create_task(_keep_running(programs, installation, receiver_port, environ))
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for task in (running, stopped):
                task.cancel()
            with suppress(asyncio.CancelledError):
                await running
        finally:
            await programs.stop()


async def _keep_running(
    programs: Programs, installation: Installation, receiver_port: int, environ: Mapping[str, str]
) -> None:
    print("\nStarting ...", flush=True)
    known = {**environ, "OUTSPOKEN_CONFIG": str(installation.config)}
    listen = ("relay", "listen", "--port", str(_if_free("127.0.0.1", receiver_port)), "--verify")
    receiver = await programs.start(*listen, env=known)
    env = _environment(installation, urlsplit(receiver["url"]).port or 0, environ)
    engine, relay = await asyncio.gather(
        programs.start("engine", "run", env=env, background=True),
        programs.start("relay", "run", env=env, background=True),
    )
    print(_guide(installation, engine["address"], relay["admin"], receiver["url"], environ), flush=True)
    await programs.first_end()


def _environment(installation: Installation, receiver_port: int, environ: Mapping[str, str]) -> dict[str, str]:
    """The settings of both, except that a port that is taken is any other, and that the receiver may be called."""
    relay, engine = installation.settings(environ), read_engines(installation.config, environ).engine
    admin = relay.relay.admin
    return {
        **environ,
        "OUTSPOKEN_CONFIG": str(installation.config),
        "OUTSPOKEN_OUTBOX__GUARD__PORTS": ", ".join(map(str, {*relay.outbox.guard.ports, receiver_port})),
        "OUTSPOKEN_ENGINE__PORT": str(_if_free(engine.host, engine.port)),
        "OUTSPOKEN_ENGINE__LOG__FORMAT": "json",
        "OUTSPOKEN_RELAY__PORT": str(_if_free(relay.relay.host, relay.relay.port)),
        "OUTSPOKEN_RELAY__LOG__FORMAT": "json",
        "OUTSPOKEN_RELAY__ADMIN__PORT": str(_if_free(admin.host, admin.port)),
    }


def _guide(installation: Installation, engine: str, admin: str, receiver: str, environ: Mapping[str, str]) -> str:
    console = urlsplit(admin)
    ticket = installation.authenticator(environ).ticket(getpass.getuser(), time.time())
    here = f"{Path.cwd()}/"
    key, sample, logs = (
        str(path).removeprefix(here) for path in (installation.api_key, installation.sample, installation.folder)
    )
    return f"""
engine    {engine}  (what it is at: /status)
receiver  {receiver}  (what arrives, as below)
console   {login_url(console.hostname or "", console.port or 0, ticket)}
          (opens once, within a quarter of an hour; `relay login` prints another)

Ask for a transcript:

  curl '{engine}/v1/listen?punctuate=true&callback={receiver}hook' \\
       -H "Authorization: Token $(cat {key})" --data-binary @{sample}

A receiver of your own verifies by a key that `relay keys add` prints.

So that `relay` and `engine` in another terminal find this place:

{_exports(installation, engine, admin, environ)}

Ctrl-C stops all; what is there stays until next time. Logs: {logs}/engine.log, relay.log
"""


def _exports(installation: Installation, engine: str, admin: str, environ: Mapping[str, str]) -> str:
    """What another terminal has to be told: the folder, and the ports that are not those of its settings."""
    ports = {
        "OUTSPOKEN_ENGINE__PORT": (engine, read_engines(installation.config, environ).engine.port),
        "OUTSPOKEN_RELAY__ADMIN__PORT": (admin, installation.settings(environ).relay.admin.port),
    }
    others = {name: urlsplit(url).port for name, (url, wanted) in ports.items() if urlsplit(url).port != wanted}
    told = {"OUTSPOKEN_CONFIG": installation.config, **others}
    return "\n".join(f"  export {name}={value}" for name, value in told.items())


class Programs:
    """What was started. Those in the background write into logs in the folder. None of them hears Ctrl-C itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: dict[str, asyncio.subprocess.Process] = {}
        self._hearing: list[asyncio.Task[None]] = []

    async def start(self, program: str, *words: str, env: Mapping[str, str], background: bool = False) -> Line:
        """Start a command of ours, and return what it says once it is ready. Raises CannotRun where it ends before."""
        process = await asyncio.create_subprocess_exec(
            *module_command(program, *words),
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if background else None,
            stderr=asyncio.subprocess.STDOUT if background else asyncio.subprocess.PIPE,
            limit=1 << 20,
            start_new_session=True,
        )
        name = " ".join((program, words[0]))
        self._started[name] = process
        ready: asyncio.Future[Line] = asyncio.get_running_loop().create_future()
        stream = process.stdout or process.stderr
        assert stream is not None
        log = self._folder / f"{program}.log" if background else Path(os.devnull)
        self._hearing.append(asyncio.create_task(_hear(name, stream, log, ready)))
        return await ready

    async def first_end(self) -> None:
        """Wait until one of them ends by itself, and raise CannotRun."""
        waiting = {asyncio.create_task(process.wait(), name=name): name for name, process in self._started.items()}
        done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        name = waiting[done.pop()]
        raise CannotRun(f"{name} ended with exit code {self._started[name].returncode}; its log is in {self._folder}")

    def terminate(self) -> None:
        """Ask all of them to leave; for a second time, at once."""
        for process in self._started.values():
            with suppress(ProcessLookupError):
                process.terminate()

    async def stop(self) -> None:
        """Let all of them drain, and wait for it."""
        self.terminate()
        await asyncio.gather(*(process.wait() for process in self._started.values()), *self._hearing)


async def _hear(name: str, stream: asyncio.StreamReader, log: Path, ready: asyncio.Future[Line]) -> None:
    """Keep what it says in its log, and find the line in which it says that it is ready."""
    last: list[str] = []
    with log.open("wb") as file:
        async for raw in stream:
            file.write(raw)
            file.flush()
            last = [*last, raw.decode(errors="replace")][-_LAST_LINES:]
            line = _line(raw)
            if line.get("event") in _READY and not ready.done():
                ready.set_result(line)
    if not ready.done():
        ready.set_exception(CannotRun(f"{name} did not start:\n{''.join(last)}".rstrip()))


def _line(raw: bytes) -> Line:
    with suppress(ValueError):
        if isinstance(line := json.loads(raw), dict):
            return line
    return {}


def _if_free(host: str, port: int) -> int:
    """The port, or 0 for any other where somebody listens on it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return 0
    return port


@contextmanager
def _alone(installation: Installation) -> Iterator[None]:
    with (installation.folder / "up.lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotRun(f"it runs in {installation.folder} already; name another folder for a second one") from None
        yield
