"""Relay and engine where only so many files and sockets may be open."""

from __future__ import annotations

import asyncio
import resource
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.acceptance.stage import Stage
from tests.ports import free_port

pytestmark = pytest.mark.acceptance


async def started(stage: Stage, program: str, limit: str) -> asyncio.subprocess.Process:
    """`run`, under a limit as a shell sets it."""
    command = str(Path(sys.executable).with_name(program))
    shell = ("sh", "-c", f'ulimit {limit} && exec "$0" run', command)
    return await asyncio.create_subprocess_exec(*shell, env=stage.env, stdout=PIPE, stderr=PIPE)


@pytest.mark.parametrize(("program", "code", "wanted"), [("relay", 1, 320), ("engine", 78, 128)])
async def test_a_limit_that_is_too_low_is_one_line_that_says_how_many_are_wanted(
    tmp_path: Path, program: str, code: int, wanted: int
) -> None:
    process = await started(Stage(tmp_path, free_port()), program, "-n 20")
    _, said = await process.communicate()
    (line,) = said.decode().splitlines()
    assert process.returncode == code
    assert line.startswith(
        f"{program}: RLIMIT_NOFILE: 20 files and sockets may be open at once, and {wanted} are wanted"
    )
    assert "LimitNOFILE=" in line


@pytest.mark.parametrize("program", ["relay", "engine"])
async def test_a_limit_that_may_be_raised_is(tmp_path: Path, program: str) -> None:
    process = await started(Stage(tmp_path, free_port()), program, "-S -n 50")
    assert process.stdout is not None
    async for line in process.stdout:
        if f'"{program}.ready"'.encode() in line:
            break
    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[0] > 1000
    process.terminate()
    _, said = await process.communicate()
    assert (process.returncode, said) == (0, b"")
