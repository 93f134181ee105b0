"""The `outspoken` command."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from engine.errors import EngineError
from outspoken.installation import Installation
from outspoken.running import run
from relay.cli.terminal import exit_of
from relay.outbox.errors import RelayError
from relay.service.commands import Exit, while_read

application = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where everything lies.")]


@application.callback()
def _options() -> None:
    """Prepares a folder for both programs, and runs them there.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 78 bad configuration.
    """


@application.command()
def quickstart(folder: Folder = Path("var")) -> None:
    """Make what both programs need: settings, database, token, keys. What is there is kept."""
    with _complaints():
        installation = Installation(folder.absolute())
        _prepare(installation)
        print(_each_by_itself(installation))


@application.command()
def up(
    folder: Folder = Path("var"),
    receiver_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 8080,
) -> None:
    """The same, then run engine, relay and a receiver to try them with, until Ctrl-C."""
    with _complaints():
        installation = Installation(folder.absolute())
        _prepare(installation)
        asyncio.run(run(installation, receiver_port, os.environ))


def _prepare(installation: Installation) -> None:
    made = list(installation.prepare(os.environ))
    width = max(len(_short(one.thing)) for one in made)
    for one in made:
        print(f"{'made' if one.new else 'kept'}  {_short(one.thing):<{width}}  {one.purpose}")


def _each_by_itself(installation: Installation) -> str:
    return f"""
`outspoken up` runs engine, relay and a receiver to try them with. Or each by itself, where the settings are known:

  export OUTSPOKEN_CONFIG={installation.config}
  engine run
  relay run
  relay listen --verify

`relay login` prints a link into the console, `relay keys add` a key by which a receiver of yours verifies."""


def _short(path: str) -> str:
    """As somebody in this folder would type it."""
    return path.removeprefix(f"{Path.cwd()}/")


@contextmanager
def _complaints() -> Iterator[None]:
    """What the person who typed the command can mend is one line, and no traceback."""
    try:
        yield
    except BrokenPipeError:
        raise  # not a mistake: whoever read has seen enough
    except (RelayError, EngineError, OSError) as error:
        print(f"outspoken: {error}", file=sys.stderr)
        raise typer.Exit(exit_of(error) if isinstance(error, RelayError) else Exit.FAILED) from None


def main() -> None:
    """Run a command; what went wrong is one line and an exit code."""
    with while_read():
        application(prog_name="outspoken")
