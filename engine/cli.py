"""The `engine` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import IntEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from engine import keys
from engine.errors import EngineError
from engine.jobs.store import migrate
from engine.settings import Settings, read
from relay.configfile import CONFIG_VARIABLE
from relay.errors import ConfigError, RelayError
from relay.telemetry.log import configure

DEFAULT_CONFIG = Path("config/outspoken.toml")


class Exit(IntEnum):
    """What the exit code says; the same for every command."""

    FAILED = 1
    CONFIG = 78  # sysexits' EX_CONFIG: systemd is told not to restart after it


main = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, help=__doc__)
keys_command = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")
main.add_typer(keys_command, name="keys")

Config = Annotated[
    Path | None,
    typer.Option("--config", envvar=CONFIG_VARIABLE, help=f"The configuration file. [default: {DEFAULT_CONFIG}]"),
]
Name = Annotated[str, typer.Argument(help="Whose key it is, or what for.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"engine {version('outspoken')}")
        raise typer.Exit


@main.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Turns speech into text and leaves each result in the outbox."""


@main.command()
def run(config: Config = None) -> None:
    """Take requests until SIGTERM; then let jobs under way finish, and leave."""
    # Only here: they load FFmpeg and the HTTP server, for which no other command should wait.
    import uvloop

    from engine import app

    with _complaints():
        settings = _settings(config)
        configure(settings.engine.log.level, settings.engine.log.format, "engine")
        uvloop.run(app.run(settings))


@keys_command.command("add")
def add_key(name: Name, config: Config = None) -> None:
    """Make a key and print it. This is the only time that it is shown."""
    with _complaints():
        print(keys.add(_database(config), name))


@keys_command.command("list")
def list_keys(config: Config = None) -> None:
    """Show every key's public id, when it was made, and its name."""
    with _complaints():
        for key in keys.all_keys(_database(config)):
            made = datetime.fromtimestamp(key.created_at, UTC)
            print(f"{key.id}  {made:%Y-%m-%dT%H:%M:%SZ}  {key.name}")


@keys_command.command("remove")
def remove_key(name: Name, config: Config = None) -> None:
    """Revoke a key: from the next request on it opens nothing."""
    with _complaints():
        keys.remove(_database(config), name)


def _settings(config: Path | None) -> Settings:
    return read(config or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None), os.environ)


def _database(config: Path | None) -> Path:
    path = _settings(config).outbox.path
    migrate(path)
    return path


@contextmanager
def _complaints() -> Iterator[None]:
    """What the person who typed the command can mend is said in one line, not in a traceback."""
    try:
        yield
    except ConfigError as error:
        _fail(str(error), Exit.CONFIG)
    except (RelayError, EngineError, OSError) as error:
        _fail(str(error), Exit.FAILED)


def _fail(message: str, code: Exit) -> NoReturn:
    print(f"engine: {message}", file=sys.stderr)
    raise typer.Exit(code)
