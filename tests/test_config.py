"""The configuration file is documentation under test: every setting stands in it, explained, with its default."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from typing import Any

import pytest

from engine.settings import EngineSettings, RecogniserSettings
from relay.app.settings import RelaySettings
from relay.outbox.errors import ConfigError
from relay.service.configfile import load_with_origins
from relay.service.effective import as_text, explained, in_force
from relay.service.section import Section
from tests.acceptance.stage import ROOT
from tests.cases import cases

# Names of one kind share an explanation.
_FAMILIES = ("general", "nova", "enhanced", "base", "whisper", "solaria")
OTHERS = frozenset({"relay"})
CONFIG = ROOT / "config" / "outspoken.toml"
WRITTEN: dict[str, Any] = tomllib.loads(CONFIG.read_text("utf-8"))


def _settings(section: Section, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for one in fields(section):
        inner = getattr(section, one.name)
        if isinstance(inner, Section):
            yield from _settings(inner, (*path, one.name))
        else:
            yield (*path, one.name)


def _names(kind: type[Section]) -> set[str]:
    return {one.name for one in fields(kind)}


def _written(path: tuple[str, ...]) -> object:
    value: Any = WRITTEN
    for key in path:
        value = value[key]
    return value


@cases("kind", [RelaySettings, EngineSettings])
def test_every_setting_stands_in_the_configuration_file(kind: type[Section]) -> None:
    missing = []
    for path in _settings(kind()):
        try:
            _written(path)
        except KeyError:
            missing.append(".".join(path))
    assert missing == []


@cases("kind", [RelaySettings, EngineSettings])
def test_the_configuration_file_holds_the_defaults(kind: type[Section]) -> None:
    sections = {name: value for name, value in WRITTEN.items() if name in _names(kind)}
    assert kind.of(sections) == kind()


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
    assert set(written) == _names(RecogniserSettings)
    assert RecogniserSettings.of(written) == RecogniserSettings()


def test_every_setting_says_what_it_means_and_what_it_would_be() -> None:
    kinds: list[type[Section]] = [RelaySettings, EngineSettings]
    for kind in kinds:
        settings = in_force(kind(), {})
        for section in _names(kind):
            for one in explained(section, kind, settings):
                assert one.meaning, one.setting
                assert one.value == one.default, one.setting


def test_an_explanation_tells_where_a_value_comes_from_and_no_secret() -> None:
    environ = {
        "OUTSPOKEN_ENGINE__RECOGNISERS__BIG__MODEL": "small",
        "OUTSPOKEN_ENGINE__AUDIO__SECRET_ACCESS_KEY": "hunter2",
        "OUTSPOKEN_ENGINE__AUDIO__ACCESS_KEY_ID": "ada",
    }
    settings = in_force(*load_with_origins(EngineSettings, None, environ, OTHERS))
    (big,) = explained("engine.recognisers.big.model", EngineSettings, settings)
    assert (big.value, big.default, big.origin) == ("small", "tiny.en", "environment")
    assert big.variable == "OUTSPOKEN_ENGINE__RECOGNISERS__BIG__MODEL"
    assert "hunter2" not in "".join(map(as_text, explained("engine.audio", EngineSettings, settings)))
    with pytest.raises(ConfigError, match=r"no such setting; perhaps engine\.workers\?"):
        explained("engine.wrokers", EngineSettings, settings)
