"""The processes that this one has started, as the kernel tells of them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def children() -> set[int]:
    """By their parent: a thread's list of children leaves some out while others end, and is gone with the thread."""
    pids = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    return {pid for pid in pids if _state(pid)[1:2] == [str(os.getpid())]}


def command(pid: int) -> bytes:
    """Its command line; none once it has ended. One that is just becoming another program has none for a moment."""
    while not (line := _read(Path(f"/proc/{pid}/cmdline"))) and _state(pid)[:1] not in ([], ["Z"], ["X"]):
        continue
    return line


def _state(pid: int) -> list[str]:
    """Its state, its parent, and more; nothing of one that is gone."""
    return _read(Path(f"/proc/{pid}/stat")).decode(errors="replace").rpartition(")")[2].split()


def _read(entry: Path) -> bytes:
    with suppress(FileNotFoundError, ProcessLookupError):
        return entry.read_bytes()
    return b""
