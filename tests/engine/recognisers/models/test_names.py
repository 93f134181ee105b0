"""What names mean."""

from __future__ import annotations

import tomllib
from pathlib import Path

from faster_whisper import utils

from engine.recognisers.models.lock import PINNED
from engine.recognisers.models.names import REPOSITORIES, WHEELS, canonical, repository, short
from tests.cases import cases


def test_short_names_mean_what_faster_whisper_means_by_them() -> None:
    assert REPOSITORIES == utils._MODELS


@cases("name", ["../etc", "a/../b", "/etc", "a/b/c", "", "a/..", "-a/b", ".staging", "a%b", "a b"])
def test_what_is_no_name_is_never_looked_for_in_the_models_directory(name: str) -> None:
    assert canonical(name) is None
    assert repository(name) is None


def test_a_name_of_ones_own_is_one_but_stands_for_no_repository() -> None:
    assert canonical("our-model") == "our-model"
    assert repository("our-model") is None


@cases("name", ["small", "Systran/faster-whisper-small"])
def test_short_and_long_names_are_the_same_model(name: str) -> None:
    assert canonical(name) == repository(name) == "Systran/faster-whisper-small"


@cases("name", ["tiny.en", "large-v3", "large-v3-turbo", "our-model", "some/thing"])
def test_a_model_is_called_by_its_first_short_name(name: str) -> None:
    assert short(str(canonical(name))) == name


@cases("name", WHEELS)
def test_a_wheel_that_brings_a_model_is_required_in_its_version_and_its_files_are_pinned(name: str) -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    assert WHEELS[name].requirement in project["optional-dependencies"]["engine"]
    assert PINNED[name].name == name
