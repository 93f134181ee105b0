"""How a command line tells of its commands: in sections, each with its first sentence whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from typer.core import TyperGroup

_WHOLE = 400


def sectioned(sections: Mapping[str, Sequence[str]]) -> type[TyperGroup]:
    """A group of commands whose help lists them in these sections, by title."""

    class Sectioned(TyperGroup):
        def format_commands(self, ctx: Any, formatter: Any) -> None:
            listed = {name for names in sections.values() for name in names}
            rest = [name for name in self.list_commands(ctx) if name not in listed]
            for title, names in (*sections.items(), *([("Besides", rest)] if rest else [])):
                found = [(name, self.get_command(ctx, name)) for name in names]
                with formatter.section(title):
                    formatter.write_dl([(name, one.get_short_help_str(_WHOLE)) for name, one in found if one])

    return Sectioned
