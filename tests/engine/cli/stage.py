"""Runs the `engine` command as a person would, with settings from the environment."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from engine.cli import main
from tests.commands import in_a_terminal, run_here
from tests.forks import Forked, fork, forkable
from tests.ports import free_port

PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Said:
    """What a command left: its exit code, and what it wrote on either stream."""

    code: int | None
    out: str
    err: str


class Engine:
    """The command in a folder of its own; `set` overrides settings, as `engine__models_dir`, and other variables."""

    def __init__(self, folder: Path) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OUTSPOKEN_", "HF_"))}
        self.folder = folder
        self._env = inherited | {"HF_HOME": str(folder / "huggingface"), "OUTSPOKEN_ENGINE__PORT": str(free_port())}

    def set(self, **settings: object) -> None:
        for name, value in settings.items():
            self._env[name if name.isupper() else f"OUTSPOKEN_{name.upper()}"] = str(value)

    def here(self, *arguments: str | Path) -> Said:
        """The command in this process: whatever asks no hub, whose library reads its settings once."""
        return Said(*run_here(main, list(map(str, arguments)), self.folder, self._env))

    def in_80_columns(self, *arguments: str) -> tuple[int, str]:
        """The exit code, and what a terminal of that width sees, without colours."""
        program = Path(sys.executable).with_name("engine")
        return in_a_terminal(program, arguments, self.folder, self._env | {"COLUMNS": "80", "NO_COLOR": "1"})

    async def start(
        self, *arguments: str | Path, stderr: int = PIPE, largest_file: int | None = None
    ) -> Process | Forked:
        """The command, under way; it can write no file of more than `largest_file` bytes, as on a disk without room."""
        command = ["engine", *map(str, arguments)]
        if forkable(command, self._env):
            return await fork(command, self._env, self.folder, stderr=stderr, largest_file=largest_file)
        return await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("engine")),
            *command[1:],
            cwd=self.folder,
            env=self._env,
            stdout=PIPE,
            stderr=stderr,
        )

    async def __call__(self, *arguments: str | Path, terminal: bool = False, largest_file: int | None = None) -> Said:
        """Run it to its end; with `terminal`, its standard error is one."""
        if not terminal:
            return await _said(await self.start(*arguments, largest_file=largest_file))
        ours, theirs = pty.openpty()
        process = await self.start(*arguments, stderr=theirs, largest_file=largest_file)
        os.close(theirs)
        shown = asyncio.create_task(asyncio.to_thread(_shown, ours))
        said = await _said(process)
        return replace(said, err=await shown)


async def _said(process: Process | Forked) -> Said:
    try:
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return Said(process.returncode, out.decode(), (err or b"").decode())


def _shown(terminal: int) -> str:
    """All that is written to a terminal, until the last who could write is gone. It holds a page: whoever does not read
    stops the writer."""
    shown = b""
    with open(terminal, "rb", buffering=0) as screen, suppress(OSError):
        while data := screen.read(4096):
            shown += data
    return shown.decode()
