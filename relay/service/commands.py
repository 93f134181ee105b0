"""What the command lines of all programs share: exit codes, commands that are imported when they are typed, help in
sections, and an end when nobody reads any more."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from enum import IntEnum
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer import Typer
from typer.core import TyperGroup
from typer.main import get_command_name, get_group

_LONGEST = 400


class Exit(IntEnum):
    """What the exit code says; the same for every command. 2, wrong usage, is the parser's."""

    OK = 0
    FAILED = 1
    NOT_FOUND = 3
    NOTHING_MATCHED = 4
    REFUSED = 5
    CONFIG = 78  # sysexits' EX_CONFIG: systemd is told not to restart after it


@contextmanager
def while_read() -> Iterator[None]:
    """Whoever reads what a command prints may have seen enough (`relay list | head -1`): then it ends, and says
    nothing. Raises SystemExit."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it leaves.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.FAILED)


def version_option(program: str) -> Any:
    """`--version`, which says the program's name too."""

    def print_version(wanted: bool) -> None:
        if wanted:
            from importlib.metadata import version

            typer.echo(f"{program} {version('outspoken')}")
            raise typer.Exit

    return typer.Option("--version", callback=print_version, is_eager=True, help="Show it.")


class Listed(NamedTuple):
    """A command: the module whose `commands` has it, or is all of it where it has commands of its own; and the sentence
    that a list of all commands says of it. That list is written without an import of any module."""

    module: str
    said: str


def sectioned(sections: Mapping[str, Mapping[str, Listed]]) -> type[TyperGroup]:
    """A group of commands by name, whose help lists them in these sections, by title."""

    class Sectioned(TyperGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.commands = _Commands({name: one for named in sections.values() for name, one in named.items()})

        def format_commands(self, _: Any, formatter: Any) -> None:
            for title, named in sections.items():
                with formatter.section(title):
                    formatter.write_dl([(name, one.said) for name, one in named.items()])

    return Sectioned


class Subcommands(TyperGroup):
    """A group within a group. Its help gives the whole sentence of each command."""

    def format_commands(self, _: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(_LONGEST)) for name, one in self.commands.items()])


class _Commands(MutableMapping[str, Any]):
    """Commands by name, each imported when it is asked for."""

    def __init__(self, listed: Mapping[str, Listed]) -> None:
        self._listed = listed
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _command(import_module(self._listed[name].module).commands, name)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._listed

    def __setitem__(self, name: str, command: Any) -> None:
        raise TypeError("what commands there are is said in a table")

    def __delitem__(self, name: str) -> None:
        raise TypeError("what commands there are is said in a table")

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)


def _command(module: Typer, name: str) -> Any:
    alone = Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    alone.registered_commands = [
        one
        for one in module.registered_commands
        if name == (one.name or get_command_name(getattr(one.callback, "__name__", "")))
    ]
    if not alone.registered_commands:
        alone.add_typer(module, name=name)
    return get_group(alone).commands[name]
