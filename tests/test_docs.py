"""The drawing of the rooms under test: what it names is there, and every room stands in it."""

from __future__ import annotations

import re

import pytest

from tests.acceptance.stage import ROOT

_PATH = re.compile(r"`((?:relay|engine|config|docs|grafana|tests)/[\w./-]*)`")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
PRODUCERS = (ROOT / "docs" / "producers.md").read_text("utf-8")
SQL = (ROOT / "docs" / "sql.md").read_text("utf-8")
_LINK = re.compile(r"\]\(((?!https?:|#)[^)#]+)")


@pytest.mark.parametrize("path", sorted(set(_PATH.findall(ARCHITECTURE + GLOSSARY))))
def test_a_path_that_the_architecture_names_exists(path: str) -> None:
    named = ROOT / path
    assert named.is_dir() if path.endswith("/") else named.is_file()


@pytest.mark.parametrize("program", ["relay", "engine"])
def test_every_room_stands_in_the_architecture(program: str) -> None:
    rooms = {f"{program}/{one.parent.name}/" for one in (ROOT / program).glob("*/__init__.py")}
    assert rooms <= set(_PATH.findall(ARCHITECTURE))


def test_the_glossary_is_short() -> None:
    assert len(re.findall(r"^- \*\*", GLOSSARY, re.MULTILINE)) <= 12


@pytest.mark.parametrize("link", _LINK.findall(README))
def test_a_link_of_the_readme_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize("link", _LINK.findall(PRODUCERS + SQL))
def test_a_link_of_the_producers_guides_leads_somewhere(link: str) -> None:
    assert (ROOT / "docs" / link).exists()
