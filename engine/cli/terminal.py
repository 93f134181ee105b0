"""What every command shares: the configuration, and how a mistake is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import EngineError
from relay.outbox.errors import ConfigError, RelayError
from relay.service.commands import Exit
from relay.service.configfile import CONFIG_VARIABLE, DEFAULT_CONFIG, config_file
from relay.service.terminal import as_json_line

if TYPE_CHECKING:
    from engine.settings import EngineSettings

Config = Annotated[
    Path | None,
    typer.Option("--config", envvar=CONFIG_VARIABLE, help=f"The configuration file. [default: {DEFAULT_CONFIG}]"),
]

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def settings(config: Path | None) -> EngineSettings:
    """The settings by which the engine would run. Raises ConfigError."""
    from engine.settings import read

    return read(config_file(config), os.environ)


def print_json(*records: object) -> None:
    """One line each."""
    for record in records:
        print(as_json_line(record), flush=True)


def span(seconds: float) -> str:
    """A stretch of time in its largest unit."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


@contextmanager
def complaints() -> Iterator[None]:
    """What the person who typed the command can mend is said in one line, not in a traceback."""
    try:
        yield
    except ConfigError as error:
        complain(str(error))
        raise typer.Exit(Exit.CONFIG) from None
    except BrokenPipeError:
        raise  # not a mistake: whoever read has seen enough
    except (RelayError, EngineError, OSError) as error:
        complain(str(error))
        raise typer.Exit(Exit.FAILED) from None


def complain(text: str) -> None:
    """One line on standard error."""
    print(f"engine: {text}", file=sys.stderr)
