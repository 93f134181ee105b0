"""What every command shares: options, and how things are written to a terminal or a pipe.

JSON has one object a line, as `relay.admin.json_values` writes it. What receivers and callers chose is never written
as it came: a terminal obeys. What takes long to import (the settings' library, the one that colours) waits for whom
needs it.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.admin import destinations, times
from relay.admin.access import NotFound, NothingMatched, Refused, origin_of
from relay.admin.audit import Actor
from relay.admin.json_values import plain
from relay.admin.times import Moment
from relay.guard.url import LONGEST_PATH
from relay.outbox.errors import ConfigError, RelayError
from relay.outbox.store import Database
from relay.service.commands import Exit
from relay.service.configfile import CONFIG_VARIABLE, DEFAULT_CONFIG, config_file

if TYPE_CHECKING:
    from rich.console import Console

    from relay.app.settings import Configuration

_STYLES = {
    **dict.fromkeys(("dead", "fail", "disabled", "killed", "unreachable", "failing", "gone", "given_up"), "red"),
    **dict.fromkeys(("warn", "paused", "trickling", "slowed", "behind", "leased"), "yellow"),
    **dict.fromkeys(("delivered", "ok", "success", "delivering"), "green"),
}
_DESTINATION_ID = re.compile(r"[0-9a-f]{4,8}")
_CODES = {"red": "31", "yellow": "33", "green": "32", "bold": "1"}
BELOW = "    "
"""Before what stands below something."""
_WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def exit_of(error: RelayError) -> Exit:
    codes = {ConfigError: Exit.CONFIG, NotFound: Exit.NOT_FOUND, NothingMatched: Exit.NOTHING_MATCHED}
    return Exit.REFUSED if isinstance(error, Refused) else codes.get(type(error), Exit.FAILED)


def duration(text: str) -> float:
    """`90s`, `15m`, `24h`, `7d`, `1h30m` in seconds."""
    try:
        return times.duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def moment(text: str) -> Moment:
    """A time in UTC, or how long ago."""
    try:
        return times.moment(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def when(named: Moment | None, outbox: Database) -> float | None:
    """A time that was named, in epoch seconds by the outbox's clock."""
    return None if named is None else named.by(outbox.now)


def _destination(text: str) -> str:
    if _DESTINATION_ID.fullmatch(text):
        return text
    try:
        return origin_of(text)
    except Refused as error:
        raise typer.BadParameter(str(error).removeprefix("destination: ")) from None


def _path(text: str) -> str:
    if text and not text.startswith("/"):
        raise typer.BadParameter("it begins with a slash, and has no query")
    return text.partition("?")[0][:LONGEST_PATH]


Config = Annotated[
    Path | None,
    typer.Option("--config", envvar=CONFIG_VARIABLE, help=f"The configuration file. [default: {DEFAULT_CONFIG}]"),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
Since = Annotated[
    Moment | None, typer.Option(parser=moment, metavar="TIME", help="Added since: 2h ago, or 2026-03-01T12:30 in UTC.")
]
Until = Annotated[Moment | None, typer.Option(parser=moment, metavar="TIME", help="Added before.")]
Destination = Annotated[
    str | None,
    typer.Option(parser=_destination, metavar="DEST", help="An origin, a URL of that destination, or its id."),
]
DestinationArgument = Annotated[
    str, typer.Argument(parser=_destination, metavar="DEST", help="An origin, a URL of that destination, or its id.")
]


EndpointPath = Annotated[
    str,
    typer.Option("--path", parser=_path, metavar="PATH", help="Of that origin this path alone, such as /hook."),
]


def settings(config: Path | None) -> Configuration:
    """The settings by which the relay would run. Raises ConfigError."""
    from relay.app.settings import read

    return read(config_file(config), os.environ)


def database(config: Path | None) -> Database:
    return settings(config).outbox.database


def operator() -> Actor:
    """Who types: behind sudo, the person and not root."""
    return Actor(os.environ.get("SUDO_USER") or getpass.getuser(), "cli")


def named_destination(outbox: Database, destination: str, path: str = "") -> str:
    """A destination that was named by an origin or an id, and a path of it. Raises NotFound."""
    if not _DESTINATION_ID.fullmatch(destination):
        return destination + path
    origin, own = destinations.named(outbox, destination, outbox.now())
    return origin + (path or own)


def named_origin(outbox: Database, destination: str | None) -> str | None:
    """The origin of a destination that was named; None where none was. Raises NotFound."""
    return None if destination is None else origin_of(named_destination(outbox, destination))


def console(*, stderr: bool = False) -> Console:
    """A terminal with colours; with NO_COLOR, without."""
    from rich.console import Console

    plain = "NO_COLOR" in os.environ
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, color_system=None if plain else "auto")


def say(text: str) -> None:
    print(text)


def complain(text: str) -> None:
    """One line on standard error."""
    print(f"relay: {text}", file=sys.stderr)


def print_json(*records: object) -> None:
    """One line each. What could steer a terminal is escaped as JSON escapes it."""
    for record in records:
        text = json.dumps(plain(record), ensure_ascii=False)
        print("".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text), flush=True)


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
