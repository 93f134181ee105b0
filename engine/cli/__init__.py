"""The `engine` command."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli import configuration, jobs, keys, models, run, status, transcribe
from relay.service.commands import sectioned

SECTIONS = {
    "To run": ("run", "migrate", "config"),
    "To see and act": ("status", "jobs"),
    "To keep": ("keys", "models"),
    "Without a server": ("transcribe",),
}

main = typer.Typer(
    cls=sectioned(SECTIONS),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (run, status, transcribe):
    main.registered_commands += group.commands.registered_commands
main.add_typer(jobs.commands, name="jobs")
main.add_typer(keys.commands, name="keys")
main.add_typer(models.commands, name="models")
main.add_typer(configuration.commands, name="config")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"engine {version('outspoken')}")
        raise typer.Exit


@main.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Turns speech into text and leaves each result in the outbox.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 78 bad configuration.
    """
