"""`relay config` and `relay completion`: what the settings are and where they come from; words for the shell."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from relay.cli.terminal import Config, Json, config_file, print_json, print_table, say, settings
from relay.configfile import origins
from relay.settings import OTHER_SECTIONS, Settings

commands = typer.Typer(no_args_is_help=True, help="The settings, and where they come from.")

_CREDENTIALS = re.compile(r"//[^/]*@")


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
    values = dict(_dotted(settings(config).model_dump(mode="json")))
    sources = origins(config_file(config), os.environ, frozenset(Settings.model_fields) | OTHER_SECTIONS)
    rows = [(name, _shown(value), sources.get(name, "default")) for name, value in values.items()]
    if as_json:
        print_json(*({"setting": name, "value": value, "origin": source} for name, value, source in rows))
        return
    headings = ("SETTING", "VALUE", "FROM") if origin else ("SETTING", "VALUE")
    print_table(headings, [(name, _written(value), source)[: len(headings)] for name, value, source in rows])


def _dotted(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{above}{name}.")
        else:
            yield above + name, value


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _shown(value: object) -> object:
    return _CREDENTIALS.sub("//***@", value) if isinstance(value, str) else value
