"""The `relay` command."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from relay.cli import configuration, inspection, keys, maintenance, operations, receivers, urls
from relay.cli.terminal import complain, exit_of
from relay.outbox.errors import RelayError
from relay.service.commands import sectioned, while_read

SECTIONS = {
    "To run": ("run", "login", "migrate", "config"),
    "To see": ("status", "destinations", "list", "show", "tail", "stats", "audit"),
    "To act": ("replay", "cancel", "pause", "resume", "disable", "enable", "keys"),
    "To keep it well": ("doctor", "backup", "retention"),
    "For receivers and callers": ("listen", "sign", "verify", "verify-url", "owner-key"),
    "For shells": ("completion",),
}

application = typer.Typer(
    cls=sectioned(SECTIONS),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (inspection, operations, maintenance, receivers, urls):
    application.registered_commands += group.commands.registered_commands
application.add_typer(keys.commands, name="keys")
application.add_typer(configuration.commands, name="config")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"relay {version('outspoken')}")
        raise typer.Exit


@application.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Carries speech-to-text results from the outbox to their callback URLs.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 nothing matched, 5 refused, 78 bad configuration.
    """


@application.command()
def completion(shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument()]) -> None:
    """Print the completion script of a shell: `source <(relay completion bash)`."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    print(get_completion_script(prog_name="relay", complete_var="_RELAY_COMPLETE", shell=shell))


def main() -> None:
    """Run a command; what went wrong is one line and an exit code."""
    try:
        with while_read():
            application(prog_name="relay")
    except RelayError as error:
        complain(str(error))
        sys.exit(exit_of(error))
