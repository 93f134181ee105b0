"""`engine config`: what the settings are, where they come from, and what they mean."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.terminal import Config, Json, complain, complaints, print_table, settings
from relay.service.configfile import ABSENT, config_file

if TYPE_CHECKING:
    from relay.service.effective import Setting

commands = typer.Typer(no_args_is_help=True, help="The settings, where they come from, and what they mean.")


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
        from engine.settings import Settings
        from relay.service.effective import as_text, explained

        with complaints():
            found = explained(key, Settings, _in_force(config))
            print("\n\n".join(map(as_text, found)))
        raise typer.Exit
    context.default_map = {name: {"config": config} for name in ("check", "show")}  # where it was said before them


@commands.command()
def check(config: Config = None) -> None:
    """Say whether the engine would start with these settings. Exit code 78 when it would not."""
    with complaints():
        settings(config)
        print(f"{config_file(config) or ABSENT}: in order")


@commands.command()
def show(as_json: Json = False, config: Config = None) -> None:
    """Every setting with the value that is in force, and where that comes from. Credentials are not shown."""
    from relay.service.effective import written

    with complaints():
        rows = _in_force(config)
        if config_file(config) is None:
            complain(ABSENT)
        if as_json:
            print("\n".join(json.dumps(asdict(row)) for row in rows))
            return
        print_table(("SETTING", "VALUE", "FROM"), [(row.setting, written(row.value), row.origin) for row in rows])


def _in_force(config: Path | None) -> tuple[Setting, ...]:
    from engine.settings import OTHER_SECTIONS
    from relay.service.effective import in_force

    return in_force(settings(config), config_file(config), os.environ, OTHER_SECTIONS)
