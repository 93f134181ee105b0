"""What a command hands to the program that takes its place.

To read a command line and a configuration takes libraries that a daemon would keep for as long as it lives and never
use again: typer and pydantic are 12 MiB. So the command replaces itself, once everything is known, by another
interpreter, which is the same process: id, parent, environment, folder, standard streams and all that was told of
signals stay.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable
from fcntl import F_DUPFD, fcntl
from tempfile import TemporaryFile
from typing import IO, Any, NoReturn

from relay.service.interpreter import module_command

_FIRST_FREE = 3  # file descriptor that is no standard stream's


def become(module: str, known: object) -> NoReturn:
    """Run a module (`python -m`) in this process's place, which takes what is `known` with `handed_over`. It may hold
    secrets: it is in a file that has no name, and neither in the environment nor among the arguments."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # as one is that was closed by whoever started us
            stream.flush()
    # A Ctrl-C meanwhile waits for the other program, which would be a trace of imports to whoever typed it too early.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    with _nameless_file() as file:
        file.write(pickle.dumps((before, known)))
        file.seek(0)
        # The number of a standard stream that is closed stays free: whatever has it gets what is printed there.
        lent = fcntl(file, F_DUPFD, _FIRST_FREE)
        # What was typed stays in the list of processes, for whoever looks for `relay run` there.
        os.execv(sys.executable, module_command(module, str(lent), *sys.argv))  # noqa: S606 (no shell)


def handed_over(argument: str) -> Any:
    """What was known to the command, by the first argument that it gave. Raises KeyboardInterrupt where a Ctrl-C came
    since."""
    with os.fdopen(int(argument), "rb") as file:
        blocked, known = pickle.load(file)  # noqa: S301 (this very process wrote it)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return known


def _nameless_file() -> IO[bytes]:
    create: Callable[[str], int] | None = getattr(os, "memfd_create", None)
    return os.fdopen(create("known"), "w+b") if create else TemporaryFile()
