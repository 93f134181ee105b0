"""`relay config`: what the settings are, where they come from, and what they mean."""

from __future__ import annotations

import os
from functools import partial
from typing import Annotated

import typer

from relay.cli.terminal import Config, Json, complain, print_json, settings
from relay.service.commands import Exit, Subcommands
from relay.service.configfile import ABSENT, config_file
from relay.service.terminal import print_table, print_validity, say

commands = typer.Typer(
    cls=Subcommands, no_args_is_help=True, help="The settings, where they come from, and what they mean."
)


@commands.callback(invoke_without_command=True)
def explain(
    context: typer.Context,
    key: Annotated[
        str | None,
        typer.Option("--explain", metavar="KEY", help="Tell of one, such as relay.retry.delay, or of a section."),
    ] = None,
    config: Config = None,
) -> None:
    if key:
        from relay.app.settings import RelaySettings, read_all
        from relay.service.effective import as_text, explained

        found = explained(key, RelaySettings, read_all(config_file(config), os.environ)[1])
        say("\n\n".join(map(as_text, found)))
        raise typer.Exit
    context.default_map = {name: {"config": config} for name in ("check", "show")}  # where it was said before them


@commands.command()
def check(as_json: Json = False, config: Config = None) -> None:
    """Say whether the relay would start with these settings. Exit code 78 when it would not."""
    valid = print_validity(partial(settings, config), config_file(config), as_json=as_json)
    raise typer.Exit(Exit.OK if valid else Exit.CONFIG)


@commands.command()
def show(as_json: Json = False, config: Config = None) -> None:
    """Every setting with the value that is in force, and where that comes from. Credentials are not shown."""
    from relay.app.settings import read_all
    from relay.service.effective import written

    _, rows = read_all(config_file(config), os.environ)
    if config_file(config) is None:
        complain(ABSENT)
    if as_json:
        print_json(*rows)
        return
    print_table(("SETTING", "VALUE", "FROM"), [(row.setting, written(row.value), row.origin) for row in rows])
