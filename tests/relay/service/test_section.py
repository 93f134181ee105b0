"""What a section takes, and what it says of what it does not take."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from relay.outbox.errors import ConfigError
from relay.service.section import Bounds, Read, Requirement, Secret, Section, setting
from relay.service.settings import Networks
from tests.cases import cases


class Shape(StrEnum):
    ROUND = "round"
    SQUARE = "square"


def _starts_with_a_letter(text: str) -> None:
    if text and not text[0].isalpha():
        raise ValueError("expected a letter first")


def _dozens(value: object) -> object:
    return 12 if value == "dozen" else value


Name = Annotated[str, Requirement(_starts_with_a_letter)]
Plate = Annotated[int, Bounds(ge=1, le=99), Read(_dozens)]


@dataclass(frozen=True, slots=True)
class Shelf(Section):
    width: float = setting(1.0, "In metres.", gt=0, le=10)


@dataclass(frozen=True, slots=True)
class Kitchen(Section):
    name: Name = setting("", "What it is called.", max_length=6)
    plates: Plate = setting(6, "How many.")
    warm: bool = setting(False, "Whether it is.")
    shape: Shape = setting(Shape.ROUND, "Of the table.")
    heat: Literal["gas", "wood", "none"] = setting("gas", "By what.")
    plan: Path = setting(Path("plan"), "Where it is drawn.")
    open_to: Networks = setting((), "Who may come in.")
    doors: frozenset[Annotated[int, Bounds(ge=1, le=9)]] = setting(frozenset(), "Their numbers.")
    dishes: list[str] = setting([], "What there is.")
    shelves: dict[str, Shelf] = setting({}, "By name.")
    safe: Secret = setting(Secret(), "Its combination.")

    def __post_init__(self) -> None:
        if self.plates > 50 and not self.shelves:
            raise ValueError("plates: more than 50 need a shelf")


@cases(
    ("key", "written", "value"),
    [
        ("name", "blue", "blue"),
        ("plates", 7, 7),
        ("plates", "7", 7),
        ("plates", 7.0, 7),
        ("plates", "dozen", 12),
        ("warm", True, True),
        ("warm", "Yes", True),
        ("warm", 0, False),
        ("shape", "square", Shape.SQUARE),
        ("heat", "wood", "wood"),
        ("plan", "a/b", Path("a/b")),
        ("open_to", ["10.0.0.0/8", "::1"], (ip_network("10.0.0.0/8"), ip_network("::1"))),
        ("doors", [1, "2"], frozenset({1, 2})),
        ("dishes", ["soup", 7], ["soup", "7"]),
        ("shelves", {"low": {"width": 2}}, {"low": Shelf(2.0)}),
        ("safe", 1234, Secret("1234")),
    ],
)
def test_a_value_is_taken_as_its_type(key: str, written: object, value: object) -> None:
    found = getattr(Kitchen.of({key: written}), key)
    assert (found, type(found)) == (value, type(value))


@cases(
    ("key", "written", "complaint"),
    [
        ("nmae", "x", "nmae: no such setting (misspelt?)"),
        ("name", True, "name: Input should be a valid string"),
        ("name", "7up", "name: expected a letter first"),
        ("name", "a" * 7, "name: String should have at most 6 characters"),
        ("plates", 0, "plates: Input should be greater than or equal to 1"),
        ("plates", 100, "plates: Input should be less than or equal to 99"),
        ("plates", 1.5, "plates: Input should be a valid integer, got a number with a fractional part"),
        ("plates", "few", "plates: Input should be a valid integer, unable to parse string as an integer"),
        ("plates", float("inf"), "plates: Input should be a finite number"),
        ("plates", [], "plates: Input should be a valid integer"),
        ("plates", 51, "plates: more than 50 need a shelf"),
        ("warm", "lukewarm", "warm: Input should be a valid boolean, unable to interpret input"),
        ("warm", [], "warm: Input should be a valid boolean"),
        ("shape", "oval", "shape: Input should be 'round' or 'square'"),
        ("heat", "sun", "heat: Input should be 'gas', 'wood' or 'none'"),
        ("heat", [], "heat: Input should be 'gas', 'wood' or 'none'"),
        ("plan", 7, "plan: Input should be a path in quotes"),
        ("open_to", ["::1", "10.0.0.1/8"], "open_to.1: value is not a valid IPv4 or IPv6 network"),
        ("doors", [0], "doors.0: Input should be greater than or equal to 1"),
        ("dishes", {}, "dishes: Input should be a valid list"),
        ("shelves", [], "shelves: Input should be a valid dictionary"),
        ("shelves", {"low": 2}, "shelves.low: Input should be a dictionary or an instance of Shelf"),
        ("shelves", {"low": {"width": "nan"}}, "shelves.low.width: Input should be less than or equal to 10"),
        ("shelves", {"low": {"width": 0}}, "shelves.low.width: Input should be greater than 0"),
        (
            "shelves",
            {"low": {"width": "wide"}},
            "shelves.low.width: Input should be a valid number, unable to parse string as a number",
        ),
        ("shelves", {"low": {"width": None}}, "shelves.low.width: Input should be a valid number"),
    ],
)
def test_what_is_wrong_is_said_with_its_key_and_what_would_be_right(key: str, written: object, complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Kitchen.of({key: written})
    assert str(refused.value) == complaint


def test_everything_that_is_wrong_is_said() -> None:
    with pytest.raises(ConfigError) as refused:
        Kitchen.of({"plates": 0, "shelves": {"low": {"width": 11, "depth": 1}}})
    said = [line.partition(": ")[0] for line in str(refused.value).splitlines()]
    assert said == ["plates", "shelves.low.width", "shelves.low.depth"]


def test_what_nobody_wrote_is_the_default_and_nobody_shares_it() -> None:
    one, other = Kitchen(), Kitchen.of({})
    assert one == other
    assert one.dishes is not other.dishes


def test_another_process_has_it_as_it_is() -> None:
    kitchen: Any = Kitchen.of({"safe": "1234", "shelves": {"low": {}}, "open_to": ["::1"]})
    assert pickle.loads(pickle.dumps(kitchen)) == kitchen
    assert "1234" not in repr(kitchen)
