"""What the command lines of all programs share: exit codes, help in sections, and an end when nobody reads any more."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

from typer.core import TyperGroup

_WHOLE = 400


class Exit(IntEnum):
    """What the exit code says; the same for every command. 2, wrong usage, is the parser's."""

    OK = 0
    FAILED = 1
    NOT_FOUND = 3
    NOTHING_MATCHED = 4
    REFUSED = 5
    CONFIG = 78  # sysexits' EX_CONFIG: systemd is told not to restart after it


@contextmanager
def while_read() -> Iterator[None]:
    """Whoever reads what a command prints may have seen enough (`relay list | head -1`): then it ends, and says
    nothing. Raises SystemExit."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it leaves.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.FAILED)


def sectioned(sections: Mapping[str, Sequence[str]]) -> type[TyperGroup]:
    """A group of commands whose help lists them in these sections, by title."""

    class Sectioned(TyperGroup):
        def format_commands(self, ctx: Any, formatter: Any) -> None:
            listed = {name for names in sections.values() for name in names}
            rest = [name for name in self.list_commands(ctx) if name not in listed]
            for title, names in (*sections.items(), *([("Besides", rest)] if rest else [])):
                found = [(name, self.get_command(ctx, name)) for name in names]
                with formatter.section(title):
                    formatter.write_dl([(name, one.get_short_help_str(_WHOLE)) for name, one in found if one])

    return Sectioned
