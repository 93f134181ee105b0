"""What a process logs, and what becomes of it where its standard output cannot be written."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import Any


class Lines:
    """The JSON lines on standard output so far."""

    def __init__(self) -> None:
        self._written = io.BytesIO()
        self.stream = io.TextIOWrapper(self._written, write_through=True)

    def __call__(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._written.getvalue().split(b"\n")[:-1]]


def survives(code: str, out: str) -> bytes:
    """What a process says on standard error whose standard output cannot be written."""
    reading, writing = os.pipe()
    os.close(reading)
    where = os.open("/dev/full", os.O_WRONLY) if out == "full disk" else writing
    done = subprocess.run([sys.executable, "-c", code], stdout=where, stderr=subprocess.PIPE, check=True)
    os.close(writing)
    if where != writing:
        os.close(where)
    return done.stderr
