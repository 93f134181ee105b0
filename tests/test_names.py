"""Names under test: whoever searches for a class finds one, in whichever program, and every module is named after its
work."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tests.acceptance.stage import ROOT
from tests.cases import cases

PROGRAMS = ["relay", "engine", "outspoken"]
NAMELESS = frozenset({"common", "helper", "helpers", "misc", "util", "utils"})


def modules(program: str) -> Iterator[Path]:
    return (ROOT / program).rglob("*.py")


def classes() -> dict[str, list[str]]:
    """Where each name stands, by program and line."""
    places: dict[str, list[str]] = defaultdict(list)
    for module in chain.from_iterable(map(modules, PROGRAMS)):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{module.relative_to(ROOT)}:{node.lineno}")
    return places


def test_a_class_name_stands_once_in_the_whole_tree() -> None:
    places = classes()
    assert len(places) > 400  # it looked where the classes are
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


@cases("program", PROGRAMS)
def test_a_module_and_its_folders_are_named_after_their_work(program: str) -> None:
    named = {part for module in modules(program) for part in module.relative_to(ROOT).with_suffix("").parts}
    assert named.isdisjoint(NAMELESS)
