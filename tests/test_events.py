"""The list of log events under test: what the source can say stands in it, and nothing else does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from tests.acceptance.stage import ROOT
from tests.cases import cases

_LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def events(room: str) -> Iterator[str]:
    """The names of a program's events: the first argument of every call of its log, and constants that stand there."""
    for path in (ROOT / room).rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        constants: Mapping[str, object] = {
            target.id: node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and _is_log(call.func):
                yield from _names(call.args[call.func.attr == "log"], constants, f"{path}:{call.lineno}")


def _is_log(function: ast.Attribute) -> bool:
    owner = function.value
    name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
    return name in {"log", "_log"} and function.attr in _LEVELS | {"log"}


def _names(said: ast.expr, constants: Mapping[str, object], place: str) -> Iterator[str]:
    match said:
        case ast.Constant(value=str(name)):
            yield name
        case ast.Name(id=id_) if isinstance(constants.get(id_), str):
            yield str(constants[id_])
        case ast.IfExp(body=one, orelse=other):
            yield from _names(one, constants, place)
            yield from _names(other, constants, place)
        case _:
            raise AssertionError(f"{place}: the event's name is not written where it is logged")


@cases("room", ["relay", "engine"])
def test_the_list_of_events_is_complete_and_nothing_in_it_is_made_up(room: str) -> None:
    text = (ROOT / "config" / "events.md").read_text("utf-8")
    section = text.partition(f"## {room.capitalize()}\n")[2].partition("\n## ")[0]
    listed = {
        name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`(.*?)`", row)
    }
    said = set(events(room))
    # The engine serves its health, turns its loops and hears libraries by the relay's room.
    shared = {
        "config.read",
        "config.absent",
        "http.readiness.failed",
        "store.recovered",
        "store.replaced",
        "loop.failed",
        "loop.recovered",
    }
    shared |= {"library.logged"}
    assert said - listed == set()
    assert listed - said - (shared if room == "engine" else set()) == set()
