"""A section of the configuration file: a frozen dataclass, whose fields say what they mean and what they may be.

What reads one stands here, and is no library for it: pydantic would stay in a daemon for as long as that lives, with
10 MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import Field, dataclass, field, fields
from functools import partial
from ipaddress import ip_network
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar, cast, get_args, get_origin, get_type_hints

from relay.guard.rules import Network
from relay.outbox.errors import ConfigError

T = TypeVar("T")

_FLAGS = dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True) | dict.fromkeys(
    ("0", "false", "f", "no", "n", "off"), False
)
_BOUNDS: tuple[tuple[str, str, Callable[[Any, Any], bool]], ...] = (
    ("le", "Input should be less than or equal to {}", lambda value, bound: value <= bound),
    ("ge", "Input should be greater than or equal to {}", lambda value, bound: value >= bound),
    ("gt", "Input should be greater than {}", lambda value, bound: value > bound),
    ("longest", "String should have at most {} characters", lambda value, bound: len(value) <= bound),
)


class Mistake(NamedTuple):
    """What is wrong with one value, by the keys that lead to it. The value is not told: it may be a secret."""

    keys: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (".".join(self.keys), self.message)))


class Invalid(Exception):
    """What was written cannot be taken: everything that is wrong with it."""

    def __init__(self, *mistakes: Mistake) -> None:
        super().__init__(*map(str, mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a number may be, or how long a text."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    longest: int | None = None

    def __call__(self, value: Any) -> None:
        """Raises ValueError for a value beyond them."""
        for name, message, holds in _BOUNDS:
            bound = getattr(self, name)
            if bound is not None and not holds(value, bound):
                raise ValueError(message.format(bound))


@dataclass(frozen=True, slots=True)
class Requirement:
    """In Annotated: what a value has to keep to besides. `check` raises ValueError, which says what would be right."""

    check: Callable[[Any], object]

    def __call__(self, value: Any) -> None:
        self.check(value)


@dataclass(frozen=True, slots=True)
class Read:
    """In Annotated: another way to write a value. `read` makes of it what the type takes, and leaves alone what it does
    not know; or raises ValueError."""

    read: Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that no list of settings shows."""

    value: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.value)


def setting(
    default: T,
    meaning: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    longest: int | None = None,
    repr: bool = True,  # noqa: A002 (as dataclasses.field has it)
) -> T:
    """A field of a section: what it is when nobody says anything, what it means in a sentence, and its bounds."""
    told = {"meaning": meaning, "bounds": Bounds(ge, gt, le, longest)}
    if isinstance(default, (list, dict)):
        return cast("T", field(default_factory=lambda: copy(default), repr=repr, metadata=told))
    return field(default=default, repr=repr, metadata=told)


def meaning_of(one: Field[Any]) -> str:
    """What was said of a setting."""
    return str(one.metadata.get("meaning", ""))


@dataclass(frozen=True, slots=True)
class Section:
    """A misspelt key is an error. What `__post_init__` raises as ValueError is said of the section as a whole; whoever
    makes one by its constructor has no more checked than that."""

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> Self:
        """The section from what a file would say, with everything checked. Raises ConfigError, which names each key."""
        try:
            found: Self = valid(cls, written)
        except Invalid as invalid:
            raise ConfigError("\n".join(map(str, invalid.mistakes))) from None
        return found


def valid(kind: Any, value: object) -> Any:
    """The value as a section, or another type that a setting can have. Raises Invalid."""
    if simple := _SIMPLE.get(kind):
        return simple(value)
    if made := _MADE_OF_OTHERS.get(get_origin(kind)):
        return made(get_args(kind), value)
    return _section(kind, value) if issubclass(kind, Section) else _one_of({one.value: one for one in kind}, value)


def _section(kind: type[Section], value: object) -> Section:
    written = _table(value, f" or instance of {kind.__name__}")
    known, types = {one.name: one for one in fields(kind)}, get_type_hints(kind, include_extras=True)

    def parts() -> Iterator[tuple[str, Any, object]]:
        for name, each in written.items():
            bounds = known[name].metadata.get("bounds") if name in known else None
            yield name, Annotated[types[name], bounds] if bounds else types.get(name, _Misspelt), each

    try:
        return kind(**_gathered(parts()))
    except ValueError as error:
        raise _invalid(str(error)) from None


class _Misspelt:
    """The type of what there is not."""


def _annotated(of: Sequence[Any], value: object) -> Any:
    kind, *marks = of
    try:
        for mark in marks:
            value = mark.read(value) if isinstance(mark, Read) else value
        found = valid(kind, value)
        for mark in marks:
            if not isinstance(mark, Read):
                mark(found)
    except ValueError as error:
        raise _invalid(str(error)) from None
    return found


def _literal(choices: Sequence[Any], value: object) -> Any:
    return _one_of(dict(zip(choices, choices, strict=True)), value)


def _dictionary(of: Sequence[Any], value: object) -> dict[str, Any]:
    return _gathered((name, of[1], each) for name, each in _table(value).items())


def _listed(made: type[Any], of: Sequence[Any], value: object) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _invalid(f"Input should be a valid {made.__name__}")
    return made(_gathered((str(at), of[0], each) for at, each in enumerate(value)).values())


def _gathered(parts: Iterable[tuple[str, Any, object]]) -> dict[str, Any]:
    """The values by their keys, each as its type; or all that is wrong with any of them."""
    found: dict[str, Any] = {}
    mistakes: list[Mistake] = []
    for key, kind, value in parts:
        try:
            found[key] = valid(kind, value)
        except Invalid as invalid:
            mistakes += [Mistake((key, *one.keys), one.message) for one in invalid.mistakes]
    if mistakes:
        raise Invalid(*mistakes)
    return found


def _invalid(message: str) -> Invalid:
    return Invalid(Mistake((), message))


def _table(value: object, otherwise: str = "") -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _invalid(f"Input should be a valid dictionary{otherwise}")
    return value


def _one_of(choices: Mapping[Any, Any], value: object) -> Any:
    if not isinstance(value, str) or value not in choices:
        *others, last = map(repr, choices)
        raise _invalid(f"Input should be {', '.join(others)} or {last}")
    return choices[value]


def _text(value: object) -> str:
    """What an environment variable says may read as a number."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _invalid("Input should be a valid string")
    return str(value)


def _whole_number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _invalid("Input should be a valid integer")
    if isinstance(value, float) and not isfinite(value):
        raise _invalid("Input should be a finite number")
    try:
        number = int(value)
    except ValueError:
        raise _invalid("Input should be a valid integer, unable to parse string as an integer") from None
    if isinstance(value, float) and number != value:
        raise _invalid("Input should be a valid integer, got a number with a fractional part")
    return number


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _invalid("Input should be a valid number")
    try:
        return float(value)
    except ValueError:
        raise _invalid("Input should be a valid number, unable to parse string as a number") from None


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, (str, int)):
        raise _invalid("Input should be a valid boolean")
    found = _FLAGS.get(str(value).lower())
    if found is None:
        raise _invalid("Input should be a valid boolean, unable to interpret input")
    return found


def _path(value: object) -> Path:
    if not isinstance(value, str):
        raise _invalid("Input is not a valid path")
    return Path(value)


def _network(value: object) -> Network:
    if not isinstance(value, str):
        raise _invalid("value is not a valid IPv4 or IPv6 network")
    try:
        return ip_network(value)
    except ValueError:
        raise _invalid("value is not a valid IPv4 or IPv6 network") from None


def _misspelt(_: object) -> Any:
    raise _invalid("no such setting (misspelt?)")


_MADE_OF_OTHERS: Mapping[Any, Callable[[Sequence[Any], object], Any]] = {
    Annotated: _annotated,
    Literal: _literal,
    dict: _dictionary,
    **{made: partial(_listed, made) for made in (tuple, list, frozenset)},
}
_SIMPLE: Mapping[Any, Callable[[object], Any]] = {
    str: _text,
    int: _whole_number,
    float: _number,
    bool: _flag,
    Path: _path,
    Network: _network,
    Secret: lambda value: Secret(_text(value)),
    _Misspelt: _misspelt,
}
