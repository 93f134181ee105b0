"""What a program needs beyond the library, which is all that a plain `pip install outspoken` brings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_OURS = ("relay", "engine", "outspoken")
_CONFIG = 78  # sysexits' EX_CONFIG: systemd is told not to restart after it


@contextmanager
def extra(program: str, *extras: str) -> Iterator[None]:
    """For all that a program does. Where a library is missing, whoever started it is told which extras bring it: by
    default the one that has the program's name."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OURS:
            raise
        named = ",".join(extras or (program,))
        print(f"{program}: {missing} is not installed: pip install 'outspoken[{named}]'", file=sys.stderr)
        sys.exit(_CONFIG)
