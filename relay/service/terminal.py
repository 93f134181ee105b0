"""How every program of ours writes to a terminal or a pipe. JSON has one object a line. What receivers and callers
chose is never written as it came: a terminal obeys. What takes long to import (what colours) waits for whom needs it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relay.outbox.errors import ConfigError
from relay.service.configfile import ABSENT

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {
    **dict.fromkeys(("dead", "fail", "disabled", "killed", "unreachable", "failing", "gone", "given_up"), "red"),
    **dict.fromkeys(("warn", "paused", "trickling", "slowed", "behind", "leased"), "yellow"),
    **dict.fromkeys(("delivered", "ok", "success", "delivering"), "green"),
}
_CODES = {"red": "31", "yellow": "33", "green": "32", "bold": "1"}
BELOW = "    "
"""Before what stands below something."""
_WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def console(*, stderr: bool = False) -> Console:
    """A terminal with colours; with NO_COLOR, without."""
    from rich.console import Console

    plain = "NO_COLOR" in os.environ
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, color_system=None if plain else "auto")


def say(text: str) -> None:
    """A sentence for a person."""
    print(text)


def as_json_line(record: object) -> str:
    """What could steer a terminal, or turn the order of what is read, is escaped as JSON escapes it."""
    text = json.dumps(record, ensure_ascii=False)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def print_validity(read: Callable[[], object], file: Path | None, *, as_json: bool) -> bool:
    """Whether the settings, which `read` reads of that file and of what overrides it, are in order. Raises ConfigError
    where a person is told."""
    error = None
    try:
        read()
    except ConfigError as found:
        if not as_json:
            raise
        error = str(found)
    if as_json:
        print(as_json_line({"file": None if file is None else str(file), "valid": error is None, "error": error}))
    else:
        say(f"{file or ABSENT}: in order")
    return error is None


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns that line up. A terminal gets colours, and what does not fit into its width stands below, after its
    heading: nothing is cut, and a word that is longer than a line stays whole. In a pipe each row is a line."""
    lines = [list(headings), *([safe(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    room = terminal_width() if sys.stdout.isatty() else sum(widths) + 2 * len(widths)
    fitting = _fitting(widths, room)
    print(_painted("  ".join(map(str.ljust, headings[:fitting], widths)).rstrip(), "bold"))
    for line in lines[1:]:
        cells = [_painted(cell.ljust(width), cell) for cell, width in zip(line[:fitting], widths, strict=False)]
        print("  ".join(cells).rstrip())
        below = zip(headings[fitting:], line[fitting:], strict=True)
        for packed in _packed([f"{name.lower()} {cell}" for name, cell in below if cell != "-"], room - len(BELOW)):
            print_wrapped(packed, BELOW)


def _fitting(widths: Sequence[int], room: int) -> int:
    """How many columns stand beside each other; the first always does."""
    taken = accumulate(width + 2 for width in widths)
    return max(1, sum(end - 2 <= room for end in taken))


def _packed(parts: Sequence[str], room: int) -> Iterator[str]:
    """As many in a line as fit."""
    line = ""
    for part in parts:
        if line and len(line) + 2 + len(part) > room:
            yield line
            line = ""
        line = f"{line}, {part}" if line else part
    if line:
        yield line


def print_wrapped(text: str, before: str = "", below: str | None = None) -> None:
    """A sentence, broken between words where a terminal ends. `before` stands before its first line, `below`, or the
    same, before the others."""
    text = safe(text)
    if not sys.stdout.isatty():
        print(f"{before}{text}")
        return
    rest = before if below is None else below
    wrapped = textwrap.wrap(text, terminal_width(), initial_indent=before, subsequent_indent=rest, **_WHOLE_WORDS)
    print("\n".join(wrapped) or before)


def terminal_width() -> int:
    return shutil.get_terminal_size().columns


def _painted(text: str, style: str) -> str:
    code = _CODES.get(_STYLES.get(style, style))
    plain = code is None or not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[{code}m{text.rstrip()}\x1b[0m{' ' * (len(text) - len(text.rstrip()))}"


def print_pairs(pairs: Mapping[str, str | None]) -> None:
    """A name and a value a line; what is None is left out."""
    width = max(len(name) for name in pairs)
    for name, value in pairs.items():
        if value is not None:
            print_wrapped(value, f"{name:<{width}}  ", " " * (width + 2))


def safe(text: str, *, lines: bool = False) -> str:
    """The text with everything that could steer a terminal written out; `lines` keeps line ends and tabs."""
    kept = "\n\t" if lines else ""
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)
