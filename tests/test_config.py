"""The configuration file is documentation under test: every setting stands in it, explained, with its default."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from engine.settings import RecogniserSettings
from engine.settings import Settings as EngineSettings
from relay.app.settings import Configuration as RelaySettings
from tests.acceptance.stage import ROOT
from tests.cases import cases

# Names of one kind share an explanation.
_FAMILIES = ("general", "nova", "enhanced", "base", "whisper", "solaria")
CONFIG = ROOT / "config" / "outspoken.toml"
WRITTEN: dict[str, Any] = tomllib.loads(CONFIG.read_text("utf-8"))


def _settings(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _settings(inner, (*path, name))
        else:
            yield (*path, name)


def _written(path: tuple[str, ...]) -> object:
    value: Any = WRITTEN
    for key in path:
        value = value[key]
    return value


@cases("model", [RelaySettings, EngineSettings])
def test_every_setting_stands_in_the_configuration_file(model: type[BaseModel]) -> None:
    missing = []
    for path in _settings(model):
        try:
            _written(path)
        except KeyError:
            missing.append(".".join(path))
    assert missing == []


@cases("model", [RelaySettings, EngineSettings])
def test_the_configuration_file_holds_the_defaults(model: type[BaseModel]) -> None:
    sections = {name: value for name, value in WRITTEN.items() if name in model.model_fields}
    assert model.model_validate(sections) == model()


def test_every_setting_is_explained() -> None:
    lines = CONFIG.read_text("utf-8").splitlines()
    unexplained = [
        line
        for before, line in pairwise(lines)
        if re.match(r"\w+ = ", line) and not before.startswith(("#", *_FAMILIES))
    ]
    assert unexplained == []


def test_the_default_recogniser_stands_there_with_every_setting_and_its_default() -> None:
    written = WRITTEN["engine"]["recognisers"]["default"]
    assert set(written) == set(RecogniserSettings.model_fields)
    assert RecogniserSettings(**written) == RecogniserSettings()
