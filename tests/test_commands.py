"""The commands of README and docs under test: each is one that there is, with the options that it names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command, get_command_name

import engine.cli
import outspoken.cli
import relay.cli
from relay.service.commands import Listed
from tests.acceptance.stage import ROOT

PROGRAMS: dict[str, Any] = {
    "relay": get_command(relay.cli.application),
    "engine": get_command(engine.cli.application),
    "outspoken": get_command(outspoken.cli.application),
}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "config").glob("*.md"))]
_SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:relay|engine|outspoken) [a-z][^`]*)`")
_CALL = re.compile(r"(?:^|[;&|(] *|=\S+ )(?:\.venv/bin/)?((?:relay|engine|outspoken) [a-z-].*)")


def calls(page: Path) -> Iterator[str]:
    """What is typed there, by way of one of our programs."""
    text = page.read_text("utf-8")
    for block in _SHELL.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if found := _CALL.search(line.partition(" #")[0]):
                yield found[1]
    yield from _INLINE.findall(text)


def flaw(call: str) -> str | None:
    """What is not so about a call; None where all is."""
    program, *words = shlex.split(call, comments=True)
    command = PROGRAMS[program]
    while words and hasattr(command, "commands"):
        name = words[0]
        if name.startswith("-"):
            break
        if name not in command.commands:
            return f"{call}: there is no {name}"
        command, words = command.commands[name], words[1:]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
    unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]
    return f"{call}: there is no {unknown[0]}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_command_is_one_that_there_is(page: Path) -> None:
    assert [found for call in calls(page) if (found := flaw(call))] == []


@pytest.mark.parametrize(("name", "sections"), [("relay", relay.cli.SECTIONS), ("engine", engine.cli.SECTIONS)])
def test_the_list_of_commands_says_of_each_what_it_says_itself_and_leaves_none_out(
    name: str, sections: Mapping[str, Mapping[str, Listed]]
) -> None:
    listed = {name: one for named in sections.values() for name, one in named.items()}
    itself = {name: command.get_short_help_str(1000) for name, command in PROGRAMS[name].commands.items()}
    assert {name: one.said for name, one in listed.items()} == itself
    for module in (ROOT / name / "cli").glob("*.py"):
        path = f"{name}.cli.{module.stem}".removesuffix(".__init__")
        if made := getattr(import_module(path), "commands", None):
            own = {name for name, one in listed.items() if one.module == path}
            typed = {one.name or get_command_name(one.callback.__name__) for one in made.registered_commands}
            assert own == typed or (len(own) == 1 and made.info.no_args_is_help is True), path


def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """All that can be typed, with what it is."""
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, f"{path} {name}")
        else:
            yield f"{path} {name}", one


def test_what_tells_something_tells_it_to_programs_too() -> None:
    """Whatever lists, shows, looks or changes the database, in each program."""
    told = {"list", "show", "status", "check", "migrate", "destinations", "tail", "stats", "audit", "doctor", "login"}
    every = {path: one for name, program in PROGRAMS.items() for path, one in commands(program, name)}
    asked = {path: one for path, one in every.items() if path.split()[-1] in told}
    assert len(asked) >= 18
    silent = [path for path, one in asked.items() if not any("--json" in option.opts for option in one.params)]
    assert silent == []


def test_one_that_there_is_not_is_found() -> None:
    assert flaw("relay keys add --ed25519") is None
    assert flaw("relay kyes add") == "relay kyes add: there is no kyes"
    assert flaw("engine run --fast") == "engine run --fast: there is no --fast"
    assert sum(1 for page in PAGES for _ in calls(page)) > 60
