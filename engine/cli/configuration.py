"""`engine config`: what the settings are, where they come from, and what they mean."""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.terminal import Config, Json, complain, complaints, print_json, settings
from relay.service.commands import Exit, Subcommands
from relay.service.configfile import ABSENT, config_file
from relay.service.terminal import print_table, print_validity, say

if TYPE_CHECKING:
    from relay.service.effective import Setting

commands = typer.Typer(
    cls=Subcommands, no_args_is_help=True, help="The settings, where they come from, and what they mean."
)


@commands.callback(invoke_without_command=True)
def explain(
    context: typer.Context,
    key: Annotated[
        str | None,
        typer.Option("--explain", metavar="KEY", help="Tell of one, such as engine.workers, or of a section."),
    ] = None,
    config: Config = None,
) -> None:
    if key:
        from engine.settings import EngineSettings
        from relay.service.effective import as_text, explained

        with complaints():
            found = explained(key, EngineSettings, _in_force(config))
            say("\n\n".join(map(as_text, found)))
        raise typer.Exit
    context.default_map = {name: {"config": config} for name in ("check", "show")}  # where it was said before them


@commands.command()
def check(as_json: Json = False, config: Config = None) -> None:
    """Say whether the engine would start with these settings. Exit code 78 when it would not."""
    with complaints():
        valid = print_validity(partial(settings, config), config_file(config), as_json=as_json)
    raise typer.Exit(Exit.OK if valid else Exit.CONFIG)


@commands.command()
def show(as_json: Json = False, config: Config = None) -> None:
    """Every setting with the value that is in force, and where that comes from. Credentials are not shown."""
    from relay.service.effective import written

    with complaints():
        rows = _in_force(config)
        if config_file(config) is None:
            complain(ABSENT)
        if as_json:
            print_json(*map(asdict, rows))
            return
        print_table(("SETTING", "VALUE", "FROM"), [(row.setting, written(row.value), row.origin) for row in rows])


def _in_force(config: Path | None) -> tuple[Setting, ...]:
    from engine.settings import OTHER_SECTIONS, EngineSettings
    from relay.service.configfile import load_with_origins
    from relay.service.effective import in_force

    return in_force(*load_with_origins(EngineSettings, config_file(config), os.environ, OTHER_SECTIONS))
