"""A section of the configuration file: a frozen dataclass, whose fields say what they mean and what they may be.

Whoever reads one has pydantic check it (relay/service/reading.py). Who is handed one has no need of pydantic: a daemon
would keep it for as long as it lives, with 10 MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import Field, dataclass, field
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, cast

from relay.outbox.errors import ConfigError

T = TypeVar("T")


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


class _Mark:
    """In Annotated: something that pydantic does with a value of that type."""

    __slots__ = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from relay.service.reading import schema_of

        return schema_of(self, source, handler)


@dataclass(frozen=True, slots=True)
class Bounds(_Mark):
    """First after int: what it may be, both ends included."""

    ge: int
    le: int


@dataclass(frozen=True, slots=True)
class Requirement(_Mark):
    """What a value has to keep to besides. `check` raises ValueError, which says what would be right."""

    check: Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Read(_Mark):
    """Another way to write a value. `read` makes of it what the type takes, and leaves alone what it does not know; or
    raises ValueError."""

    read: Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Parsed(_Mark):
    """A type that `parse` alone makes of what is written. It raises ValueError."""

    parse: Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that no list of settings shows."""

    value: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from relay.service.reading import schema_of

        return schema_of(cls, str, handler)


def setting(
    default: T,
    meaning: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    max_length: int | None = None,
    repr: bool = True,  # noqa: A002 (as dataclasses.field has it)
) -> T:
    """A field of a section: what it is when nobody says anything, what it means in a sentence, and its bounds."""
    bounds = {"ge": ge, "gt": gt, "le": le, "max_length": max_length}
    # Under the names by which pydantic knows them.
    told = {"description": meaning, **{name: bound for name, bound in bounds.items() if bound is not None}}
    if isinstance(default, (list, dict)):
        return cast("T", field(default_factory=lambda: copy(default), repr=repr, metadata=told))
    return field(default=default, repr=repr, metadata=told)


def meaning_of(one: Field[Any]) -> str:
    """What was said of a setting."""
    return str(one.metadata.get("description", ""))


@dataclass(frozen=True, slots=True)
class Section:
    """A misspelt key is an error. What `__post_init__` raises as ValueError is said of the section as a whole; whoever
    makes one by its constructor has no more checked than that."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = {"extra": "forbid", "coerce_numbers_to_str": True}

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> Self:
        """The section from what a file would say, with everything checked. Raises ConfigError, which names each key."""
        try:
            found: Self = valid(cls, written)
        except Invalid as invalid:
            raise ConfigError("\n".join(map(str, invalid.mistakes))) from None
        return found


def valid(kind: Any, written: object) -> Any:
    """The value as a section, or another type that a setting can have. Raises Invalid."""
    from relay.service import reading  # it loads pydantic, for which who is handed settings need not wait

    return reading.valid(kind, written)
