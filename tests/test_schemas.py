"""The schemas of callbacks: well-formed, named by the receivers' guide, and no wider than what is sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tests.acceptance.stage import ROOT
from tests.cases import cases
from tests.schemas import SCHEMAS, hold

GOLDEN = ROOT / "tests" / "engine" / "dialects" / "deepgram" / "golden"


@cases("file", sorted(SCHEMAS.glob("*.json")))
def test_a_schema_is_one_and_the_guide_names_it(file: Path) -> None:
    Draft202012Validator.check_schema(json.loads(file.read_text("utf-8")))
    assert f"](schemas/{file.name})" in (ROOT / "docs" / "receivers.md").read_text("utf-8")


@cases("name", ["everything", "failure", "plain", "silence"])
def test_what_is_sent_fits(name: str) -> None:
    hold("deepgram", (GOLDEN / f"{name}.json").read_text("utf-8"))


def test_a_key_that_nobody_described_does_not_fit() -> None:
    document = json.loads((GOLDEN / "plain.json").read_text("utf-8"))
    document["results"]["channels"][0]["alternatives"][0]["words"][0]["loudness"] = 3
    with pytest.raises(AssertionError, match="loudness"):
        hold("deepgram", json.dumps(document))
    del document["metadata"]["sha256"], document["results"]["channels"][0]["alternatives"][0]["words"][0]["loudness"]
    with pytest.raises(AssertionError, match="sha256"):
        hold("deepgram", json.dumps(document))
