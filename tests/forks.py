"""`relay` and `engine`, forked from a process that has imported what they need: most of them take longer for that than
for what they are started for.

    python -m tests.forks DESCRIPTOR

What is forked is otherwise the command that a stranger starts: a process of its own, with standard streams,
environment, folder and signals of its own, which ends as it does. `make demo`, the benchmarks and
tests/acceptance/test_light.py start it afresh.
"""

from __future__ import annotations

import array
import asyncio
import atexit
import gc
import json
import os
import resource
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

PROGRAMS = ("relay", "engine")
_IMPORTED = (
    *("relay.cli.listen", "relay.outbox.postgres.database", "relay.service.dns"),
    *("relay.app.__main__", "relay.app.admin_server", "relay.app.supervisor"),
    *("engine.app.daemon", "engine.recognisers.workers.pool"),
    *("aiosqlite", "anyio.streams.tls", "asyncpg", "cryptography.hazmat.primitives.asymmetric.ed25519", "filelock"),
    *("encodings.idna", "fsspec", "httpcore2", "httpx2", "rich.progress", "rich.table", "tqdm.asyncio", "tqdm.auto"),
    *("truststore", "typer._adapters", "typer._click.decorators", "uvloop", "yaml"),
)
_LONGEST = 1 << 17
# What is read before the first import: with another value of these, a process is started afresh.
_READ_AT_ONCE = ("LD_PRELOAD", "PYTHONPATH", "PYTHONUNBUFFERED", "LANG", "LC_ALL")


class Forked:
    """A process that was forked; as much of asyncio.subprocess.Process as tests need."""

    def __init__(
        self, pid: int, ended: asyncio.Future[int], stdout: asyncio.StreamReader, stderr: asyncio.StreamReader | None
    ) -> None:
        self.pid = pid
        self.stdout = stdout
        self.stderr = stderr
        self._ended = ended

    @property
    def returncode(self) -> int | None:
        """None while it runs, below zero where a signal ended it."""
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    async def communicate(self) -> tuple[bytes, bytes]:
        """All that it writes, once it has ended."""
        out, err = await asyncio.gather(self.stdout.read(), self.stderr.read() if self.stderr else _nothing())
        await self.wait()
        return out, err

    def send_signal(self, number: signal.Signals) -> None:
        """Raises ProcessLookupError where it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


async def _nothing() -> bytes:
    return b""


class _Report(asyncio.Protocol):
    """What the forking process writes."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.pid: asyncio.Future[int] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        self._said = b""

    def data_received(self, data: bytes) -> None:
        self._said += data
        if b"\n" in self._said and not self.pid.done():
            self.pid.set_result(int(self._said.split()[0]))

    def connection_lost(self, error: Exception | None) -> None:
        said = self._said.split()
        if len(said) == 2:
            self.ended.set_result(int(said[1]))
        else:
            self._nobody_tells()

    def _nobody_tells(self) -> None:
        for awaited in (self.pid, self.ended):
            if not awaited.done():
                awaited.set_exception(RuntimeError("the forking process has ended: see what it wrote"))
                awaited.exception()  # whoever waits is told; whoever does not need not be


def forkable(command: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether it makes no difference to this command. Outside of a test run nothing is forked."""
    ours = command[0] in PROGRAMS and "PYTEST_VERSION" in os.environ
    return ours and all(env.get(name) == os.environ.get(name) for name in _READ_AT_ONCE)


async def fork(
    command: Sequence[str],
    env: Mapping[str, str],
    folder: Path | None = None,
    stdin: bytes = b"",
    stderr: int = subprocess.PIPE,
    largest_file: int | None = None,
) -> Forked:
    """Start `relay` or `engine`. What it reads from `stdin` fits into a pipe; it can write no file of more than
    `largest_file` bytes, as on a disk without room."""
    (read, given), (heard, out) = os.pipe(), os.pipe()
    complaints, err = os.pipe() if stderr == subprocess.PIPE else (None, os.dup(stderr))
    os.write(given, stdin)
    os.close(given)
    told = _ask([[*command], {**env}, str(folder or Path.cwd()), largest_file], read, out, err)
    loop = asyncio.get_running_loop()
    _, report = await loop.connect_read_pipe(_Report, os.fdopen(told, "rb", 0))
    said, complained = await _reader(heard), None if complaints is None else await _reader(complaints)
    return Forked(await report.pid, report.ended, said, complained)


class Child:
    """A process that was forked; as much of subprocess.Popen as benchmarks need."""

    def __init__(self, command: Sequence[str], stdout: int, env: Mapping[str, str]) -> None:
        nothing = os.open(os.devnull, os.O_RDONLY)
        told = _ask([[*command], {**env}, str(Path.cwd()), None], nothing, os.dup(stdout), os.dup(2))
        self._report = os.fdopen(told, "rb", 0)
        self.pid = int(self._report.readline())
        self._ended: int | None = None

    def poll(self) -> int | None:
        """How it ended, None while it runs."""
        return self.wait() if self._ended is not None or select.select([self._report], [], [], 0)[0] else None

    def wait(self) -> int:
        """Until it has ended."""
        if self._ended is None:
            with self._report as report:
                self._ended = int(report.readline())
        return self._ended

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def run(
    command: Sequence[str], env: Mapping[str, str], folder: Path | None = None, stdin: bytes = b"", within: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """To its end, for a test without an event loop."""

    async def running() -> subprocess.CompletedProcess[str]:
        process = await fork(command, env, folder, stdin)
        try:
            out, err = await asyncio.wait_for(process.communicate(), within)
        except TimeoutError:
            process.kill()
            raise
        return subprocess.CompletedProcess(command, await process.wait(), out.decode(), err.decode())

    return asyncio.run(running())


def _ask(request: object, *streams: int) -> int:
    """Have a process forked that takes these descriptors over, as the first three of its own. Returns the descriptor at
    which two lines are read: its process id, and how it ended."""
    told, telling = os.pipe()
    rights = array.array("i", [*streams, telling])
    _door().sendmsg([json.dumps(request).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    for descriptor in rights:
        os.close(descriptor)
    return told


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=1 << 28)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
    )
    return reader


@cache
def _door() -> socket.socket:
    """Where requests go in: of one forking process for all of this run, which ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        process = subprocess.Popen(
            command, cwd=Path(__file__).parents[1], stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


Command = tuple[list[str], dict[str, str], str, int | None]


def serve(door: socket.socket) -> Command | None:
    """Fork for every request until nobody can ask any more. Returns what a forked process is to do, in that process."""
    running: dict[int, tuple[int, int]] = {}
    with closing(selectors.DefaultSelector()) as selector, door:
        selector.register(door, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not door:
                    selector.unregister(key.fd)
                    _tell_end(key.fd, *running.pop(key.fd))
                    continue
                request, descriptors, _, _ = socket.recv_fds(door, _LONGEST, 4)
                if not request:
                    return None
                *streams, telling = descriptors
                if not (pid := os.fork()):
                    _take_over(streams)
                    for descriptor in (telling, *running, *(telling for _, telling in running.values())):
                        os.close(descriptor)
                    command: Command = json.loads(request)
                    return command
                for descriptor in streams:
                    os.close(descriptor)
                os.write(telling, b"%d\n" % pid)
                running[pidfd := os.pidfd_open(pid)] = pid, telling
                selector.register(pidfd, selectors.EVENT_READ)


def _take_over(streams: Sequence[int]) -> None:
    for target, descriptor in enumerate(streams):
        os.dup2(descriptor, target)
        os.close(descriptor)


def _tell_end(pidfd: int, pid: int, telling: int) -> None:
    _, status = os.waitpid(pid, 0)
    os.write(telling, b"%d\n" % os.waitstatus_to_exitcode(status))
    os.close(telling)
    os.close(pidfd)


def _commands() -> Iterator[str]:
    """The modules of all commands."""
    for program in PROGRAMS:
        for named in import_module(f"{program}.cli").SECTIONS.values():
            yield from (one.module for one in named.values())


def _run(words: list[str], env: dict[str, str], folder: str, largest_file: int | None) -> None:
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    os.chdir(folder)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    sys.argv = words
    sys.addaudithook(_become)
    main: Any = import_module(f"{words[0]}.__main__").main
    try:
        main()
    except SystemExit as ending:
        _end(ending.code)
    _end(None)


def _become(event: str, arguments: tuple[Any, ...]) -> None:
    """What replaces itself by a program of ours (relay/service/handover.py) finds that imported as well."""
    if event != "os.exec":
        return
    _python, _option, _m, module, descriptor, *typed = arguments[1]
    sys.argv = [module, str(os.dup(int(descriptor))), *typed]  # whoever lent it closes it
    import_module(f"{module}.__main__").main()
    sys.exit()


def _end(code: object) -> None:
    """As the interpreter does, but without looking at each object once more, which would copy all that is shared."""
    if isinstance(code, str):
        print(code, file=sys.stderr)
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    for module in (*_commands(), *_IMPORTED):
        with suppress(ModuleNotFoundError):  # another release of a library may need others
            import_module(module)
    gc.freeze()  # so that what is forked shares them
    if found := serve(socket.socket(fileno=int(sys.argv[1]))):
        _run(*found)
