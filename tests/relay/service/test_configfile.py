from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.outbox.errors import ConfigError
from relay.service.configfile import load
from relay.service.section import Section


@dataclass(frozen=True, slots=True)
class Oven(Section):
    degrees: int = 180
    fan: bool = False


@dataclass(frozen=True, slots=True)
class Kitchen(Section):
    name: str = "kitchen"
    dishes: tuple[str, ...] = ()
    oven: Oven = Oven()


@dataclass(frozen=True, slots=True)
class House(Section):
    kitchen: Kitchen = Kitchen()


Read = Callable[..., House]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads a file with this text, or none, under this environment."""

    def reading(text: str | None = None, environ: Mapping[str, str] | None = None) -> House:
        path = tmp_path / "house.toml"
        if text is not None:
            path.write_text(text)
        return load(House, path if text is not None else None, environ or {}, frozenset({"garden"}))

    return reading


def test_without_file_and_environment_there_are_the_defaults(read: Read) -> None:
    assert read() == House()
    assert read("") == House()


def test_the_file_over_the_defaults_and_the_environment_over_the_file(read: Read) -> None:
    text = "[kitchen]\nname = 'file'\n[kitchen.oven]\ndegrees = 200\nfan = true\n"
    house = read(text, {"OUTSPOKEN_KITCHEN__OVEN__DEGREES": "220"})
    assert house == House(kitchen=Kitchen(name="file", oven=Oven(degrees=220, fan=True)))


@pytest.mark.parametrize(
    ("text", "dishes"),
    [('["a", "b"]', ("a", "b")), ("[]", ()), ('["with, comma"]', ("with, comma",))],
)
def test_a_list_in_the_environment_is_written_as_in_toml(read: Read, text: str, dishes: tuple[str, ...]) -> None:
    assert read(environ={"OUTSPOKEN_KITCHEN__DISHES": text}).kitchen.dishes == dishes


@pytest.mark.parametrize(
    "text", ["plain words", "", "a = b", "x # y", "sqlite:///a.db", '"un', "one\ntwo", '"1"\nz = 2']
)
def test_what_is_no_toml_value_is_taken_as_it_is(read: Read, text: str) -> None:
    assert read(environ={"OUTSPOKEN_KITCHEN__NAME": text}).kitchen.name == text


def test_other_programs_variables_and_other_variables_are_left_alone(read: Read) -> None:
    environ = {
        "OUTSPOKEN_GARDEN__FLOWERS": "many",
        "OUTSPOKEN_CONFIG": "x.toml",
        "PATH": "/bin",
        "KITCHEN__NAME": "no",
        "outspoken_kitchen__name": "no",
    }
    assert read("[garden]\nflowers = 3\n", environ) == House()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[kitchen]\nnmae = 'x'\n", "kitchen.nmae"),
        ("[kitchen.oven]\ndegree = 1\n", "kitchen.oven.degree"),
        ("[kitchen.ovne]\ndegrees = 1\n", "kitchen.ovne"),
    ],
)
def test_a_misspelt_key_in_the_file_is_named(read: Read, text: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"house\.toml.*: {key}: no such setting \(misspelt\?\)"):
        read(text)


@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ("OUTSPOKEN_KITCHEN__NMAE", "kitchen.nmae: no such setting"),
        ("OUTSPOKEN_KITCHEN__OVEN__DEGREE", "kitchen.oven.degree: no such setting"),
        ("OUTSPOKEN_KICHTEN__NAME", "OUTSPOKEN_KICHTEN__NAME: no such setting"),
        ("OUTSPOKEN_KITCHEN_NAME", "OUTSPOKEN_KITCHEN_NAME: no such setting"),
        ("OUTSPOKEN_KITCHEN", "OUTSPOKEN_KITCHEN: no such setting"),
        ("OUTSPOKEN_KITCHEN__", "OUTSPOKEN_KITCHEN__: no such setting"),
        ("OUTSPOKEN_", "OUTSPOKEN_: no such setting"),
    ],
)
def test_a_misspelt_variable_is_named(read: Read, variable: str, named: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(environ={variable: "canary"})
    assert named in str(refused.value)
    assert "canary" not in str(refused.value)


def test_a_section_that_nobody_has_is_named_with_those_that_there_are(read: Read) -> None:
    with pytest.raises(ConfigError, match=r"unknown section \[kichten\]; there are \[garden\], \[kitchen\]"):
        read("[kichten]\nname = 'x'\n")


def test_every_fault_is_said_at_once(read: Read) -> None:
    with pytest.raises(ConfigError) as refused:
        read("[kitchen]\nnmae = 1\n[kitchen.oven]\ndegrees = 'hot'\n")
    assert len(str(refused.value).splitlines()) == 2
    assert "kitchen.nmae" in str(refused.value)
    assert "kitchen.oven.degrees" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[kitchen.oven]\ndegrees = 'canary'\n", "kitchen.oven.degrees"),
        ("[kitchen]\nname = ['canary']\n", "kitchen.name"),
        ("[kitchen]\noven = 'canary'\n", "kitchen.oven"),
        ("kitchen = 'canary'\n", "kitchen"),
    ],
)
def test_a_bad_value_is_named_by_its_key_and_not_repeated(read: Read, text: str, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(text)
    assert f": {key}: " in str(refused.value)
    assert "canary" not in str(refused.value)


def test_a_bad_value_in_the_environment_is_named_by_its_key_and_not_repeated(read: Read) -> None:
    with pytest.raises(ConfigError) as refused:
        read(environ={"OUTSPOKEN_KITCHEN__OVEN__DEGREES": "canary"})
    assert str(refused.value).startswith("environment: kitchen.oven.degrees: ")
    assert "canary" not in str(refused.value)


def test_a_variable_for_a_table_and_one_for_its_key_do_not_crash(read: Read) -> None:
    environ = {"OUTSPOKEN_KITCHEN__OVEN": "7", "OUTSPOKEN_KITCHEN__OVEN__DEGREES": "220"}
    assert read(environ=environ).kitchen.oven.degrees == 220
    with pytest.raises(ConfigError, match=r"kitchen\.oven"):
        read(environ=dict(reversed(environ.items())))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file or directory; name another"):
        load(House, Path("nowhere.toml"), {}, frozenset())


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load(House, tmp_path, {}, frozenset())


def test_text_that_is_no_toml_is_named_with_its_place(read: Read) -> None:
    with pytest.raises(ConfigError, match=r"house\.toml: not valid TOML: .*line 2"):
        read("[kitchen]\nname = canary\n")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "house.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"house\.toml: not valid TOML"):
        load(House, path, {}, frozenset())
