"""What a program needs beyond the library, which is all that a plain `pip install outspoken` brings, and what it does
not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_OURS = ("relay", "engine", "outspoken")
_CONFIG = 78  # sysexits' EX_CONFIG: systemd is told not to restart after it


@contextmanager
def extra(program: str, *extras: str) -> Iterator[None]:
    """For all that a program does. Where a library is missing, whoever started it is told which extras bring it: by
    default the one that has the program's name."""
    # To look for plugins reads the metadata of all that is installed, at each start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OURS:
            raise
        named = ",".join(extras or (program,))
        print(f"{program}: {missing} is not installed: pip install 'outspoken[{named}]'", file=sys.stderr)
        sys.exit(_CONFIG)


@contextmanager
def without_rich() -> Iterator[None]:
    """For the imports of a daemon. structlog takes rich along where that is installed, for tracebacks that stand in no
    line of ours: 60 ms of each start, and megabytes for as long as the process lives."""
    if "rich" in sys.modules:
        yield
        return
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["rich"]
