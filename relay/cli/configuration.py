"""`relay config`: what the settings are and where they come from."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from relay.cli.terminal import Config, Json, config_file, print_json, print_table, say, settings

commands = typer.Typer(no_args_is_help=True, help="The settings, and where they come from.")


@commands.command()
def check(config: Config = None) -> None:
    """Say whether the relay would start with these settings. Exit code 78 when it would not."""
    settings(config)
    say(f"{config_file(config) or 'the defaults'}: in order")


@commands.command()
def show(
    origin: Annotated[bool, typer.Option("--origin", help="And where each value comes from.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Every setting with the value that is in force. Credentials are not shown."""
    from relay.app.settings import in_force

    rows = in_force(settings(config), config_file(config), os.environ)
    if as_json:
        print_json(*rows)
        return
    headings = ("SETTING", "VALUE", "FROM") if origin else ("SETTING", "VALUE")
    print_table(headings, [(row.setting, _written(row.value), row.origin)[: len(headings)] for row in rows])


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
