"""What every command shares: options, who types, and how a mistake is told. JSON has one object a line, as
`relay.admin.json_values` writes it. The settings' library takes long to import, and waits for whom needs it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.admin import times
from relay.admin.access import NotFound, NothingMatched, Refused, origin_of
from relay.admin.audit import Actor
from relay.admin.json_values import plain
from relay.admin.times import Moment
from relay.guard.url import LONGEST_PATH
from relay.outbox.errors import ConfigError, RelayError
from relay.outbox.store import Database
from relay.service.commands import Exit
from relay.service.configfile import CONFIG_VARIABLE, DEFAULT_CONFIG, config_file
from relay.service.terminal import as_json_line

if TYPE_CHECKING:
    from relay.app.settings import RelaySettings

_DESTINATION_ID = re.compile(r"[0-9a-f]{4,8}")


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


def settings(config: Path | None) -> RelaySettings:
    """The settings by which the relay would run. Raises ConfigError."""
    from relay.app.settings import read

    return read(config_file(config), os.environ)


def database(config: Path | None) -> Database:
    return settings(config).outbox.database


def operator() -> Actor:
    """Who types: behind sudo, the person and not root."""
    import getpass  # it loads what knows terminals, for which whoever only looks need not wait

    return Actor(os.environ.get("SUDO_USER") or getpass.getuser(), "cli")


def named_destination(outbox: Database, destination: str, path: str = "") -> str:
    """A destination that was named by an origin or an id, and a path of it. Raises NotFound."""
    if not _DESTINATION_ID.fullmatch(destination):
        return destination + path
    from relay.admin.destinations import named  # for this alone nobody else need wait for it

    origin, own = named(outbox, destination, outbox.now())
    return origin + (path or own)


def named_origin(outbox: Database, destination: str | None) -> str | None:
    """The origin of a destination that was named; None where none was. Raises NotFound."""
    return None if destination is None else origin_of(named_destination(outbox, destination))


def complain(text: str) -> None:
    """One line on standard error."""
    print(f"relay: {text}", file=sys.stderr)


def print_json(*records: object) -> None:
    """One line each."""
    for record in records:
        print(as_json_line(plain(record)), flush=True)
