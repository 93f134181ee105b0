"""A command of ours, typed: in this process, which spares the start of another (a second of a processor's time for
each), or in a terminal."""

from __future__ import annotations

import os
import pty
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path


def run_here(
    command: Callable[[], object], words: list[str], folder: Path, environ: Mapping[str, str], stdin: bytes = b""
) -> tuple[int, str, str]:
    """Its exit code, and what it wrote on either stream. It starts in the folder and sees this environment alone."""
    out, err, before = StringIO(), StringIO(), (sys.argv, sys.stdin, dict(os.environ))
    try:
        sys.argv, sys.stdin = ["command", *words], TextIOWrapper(BytesIO(stdin))
        _enter(environ)
        with chdir(folder), redirect_stdout(out), redirect_stderr(err):
            code = _exit_code(command)
    finally:
        sys.argv, sys.stdin = before[:2]
        _enter(before[2])
    return code, out.getvalue(), err.getvalue()


def _enter(environ: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environ)


def _exit_code(command: Callable[[], object]) -> int:
    try:
        command()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def in_a_terminal(
    program: Path, words: Sequence[str], folder: Path, environ: Mapping[str, str], answer: bytes = b""
) -> tuple[int, str]:
    """Its exit code, and what the terminal saw, without the carriage returns."""
    child, master = pty.fork()
    if child == 0:  # pragma: no cover
        os.chdir(folder)
        os.execve(program, [str(program), *words], dict(environ))
    os.write(master, answer)
    seen = b"".join(_until_closed(master)).decode().replace("\r", "")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), seen


def _until_closed(master: int) -> Iterator[bytes]:
    with os.fdopen(master, "rb", buffering=0) as terminal:
        while True:
            try:
                chunk = terminal.read(65536)
            except OSError:  # Linux says EIO when the other side is gone
                return
            if not chunk:
                return
            yield chunk
