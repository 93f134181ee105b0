"""What was not written here lies here as it was published: by its hash, and with its licence."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

from relay.admin import console
from tests.cases import cases

FOLDER = Path(console.__file__).parent
VENDORED = json.loads((FOLDER / "vendored.json").read_text("utf-8"))
OUR_OWN = {"console.css", "console.js", "mark.svg"}


@cases("name", VENDORED)
def test_a_file_is_the_one_that_was_published(name: str) -> None:
    assert sha256((FOLDER / "static" / name).read_bytes()).hexdigest() == VENDORED[name]["sha256"]
    assert (FOLDER / "static" / VENDORED[name]["licence_file"]).stat().st_size > 300


def test_every_file_is_either_ours_or_accounted_for() -> None:
    served = {file.name for file in (FOLDER / "static").iterdir() if file.is_file()}
    assert served == set(VENDORED) | OUR_OWN


def test_no_page_brings_script_or_style_of_its_own() -> None:
    for template in (FOLDER / "templates").iterdir():
        text = template.read_text("utf-8")
        assert "style=" not in text, template.name
        assert "onclick" not in text, template.name
        assert "<style" not in text, template.name
