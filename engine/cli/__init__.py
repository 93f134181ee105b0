"""The `engine` command."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli import configuration, jobs, keys, models, run, status, transcribe
from relay.service.commands import sectioned, while_read

SECTIONS = {
    "To run": ("run", "migrate", "config"),
    "To see and act": ("status", "jobs"),
    "To keep": ("keys", "models"),
    "Without a server": ("transcribe",),
}

application = typer.Typer(
    cls=sectioned(SECTIONS),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (run, status, transcribe):
    application.registered_commands += group.commands.registered_commands
application.add_typer(jobs.commands, name="jobs")
application.add_typer(keys.commands, name="keys")
application.add_typer(models.commands, name="models")
application.add_typer(configuration.commands, name="config")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"engine {version('outspoken')}")
        raise typer.Exit


@application.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Turns speech into text and leaves each result in the outbox.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 78 bad configuration.
    """


def main() -> None:
    """Run a command; what went wrong is one line and an exit code."""
    with while_read():
        application(prog_name="engine")
