"""The pages under test: what they name and link to is there, and every room stands in the drawing of the rooms."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.acceptance.stage import ROOT
from tests.cases import cases

_PATH = re.compile(r"`((?:relay|engine|outspoken|config|docs|grafana|tests)/[\w./-]*)`")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "config").glob("*.md")])
_MIDDLE = 45  # the column of the drawing at which the engine begins
_LINK = re.compile(r"\]\(((?!https?:)[^)]+)")


@cases("path", sorted(set(_PATH.findall(ARCHITECTURE + GLOSSARY))))
def test_a_path_that_the_architecture_names_exists(path: str) -> None:
    named = ROOT / path
    assert named.is_dir() if path.endswith("/") else named.is_file()


@cases("program", ["relay", "engine"])
def test_every_room_stands_in_the_architecture(program: str) -> None:
    rooms = {f"{program}/{one.parent.name}/" for one in (ROOT / program).glob("*/__init__.py")}
    assert rooms <= set(_PATH.findall(ARCHITECTURE))


@cases(("program", "column"), [("relay", 0), ("engine", 1)])
def test_the_storeys_are_drawn_as_they_are_held(program: str, column: int) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (held,) = (one["layers"] for one in contracts if one["name"].startswith(f"{program}: "))
    rooms = [room for layer in held for room in layer.split(" | ")]
    drawing = ARCHITECTURE.partition("## The arrows")[2].split("```")[1].splitlines()[2:]
    drawn = " ".join((line[:_MIDDLE], line[_MIDDLE:])[column] for line in drawing)
    assert [word for word in re.findall(r"\w+", drawn) if word in rooms] == rooms


def test_the_glossary_is_short() -> None:
    assert len(re.findall(r"^- \*\*", GLOSSARY, re.MULTILINE)) <= 12


@cases("page", PAGES)
def test_a_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(page.read_text("utf-8")):
        path, _, heading = link.partition("#")
        aim = page.parent / path if path else page
        if not aim.exists() or (heading and heading not in anchors(aim.read_text("utf-8"))):
            broken.append(link)
    assert broken == []


def anchors(text: str) -> set[str]:
    """The names by which a page's headings are linked to."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_leads_to_every_page() -> None:
    reached = {(ROOT / link).resolve() for link in _LINK.findall(README)}
    assert {page for page in PAGES if page.parent == ROOT / "docs"} <= reached
    assert README.count("\n") <= 125, "what is longer has a page of its own"
