"""Reads typed values from a JSON object the way Gladia does: every field that is wrong is named, all of them at once.

A null is an absent field: the typed Python client sends one for everything that it was not told.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

MAX_TEXT = 2048
"""Characters of one text. A URL may be longer: the guard judges it."""

_PLAIN = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)


class Fields:
    """The fields of one object. Flaws are gathered in `flaws`, which objects inside of one another share; what a flawed
    field reads as does not matter then."""

    def __init__(self, values: Mapping[str, Any], path: str = "", flaws: list[str] | None = None) -> None:
        self._values = {name: value for name, value in values.items() if value is not None}
        self._path = path
        self.flaws: list[str] = [] if flaws is None else flaws

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def flaw(self, name: str, must: str) -> None:
        """Note that a field must be something else; `must` says what, and never repeats the value."""
        self.flaws.append(f"{self._path}{_shown(name)} must {must}")

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that are there, in the caller's order."""
        return tuple(self._values)

    def raw(self, name: str) -> Any:
        """The value as it came, None where it is absent."""
        return self._values.get(name)

    def flag(self, name: str) -> bool:
        """A boolean; false when absent."""
        value = self._values.get(name, False)
        if not isinstance(value, bool):
            self.flaw(name, "be a boolean value")
        return value is True

    def text(self, name: str, limit: int = MAX_TEXT) -> str | None:
        """A string with something in it."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip():
            self.flaw(name, "be a string that is not empty")
            return None
        if len(value) > limit:
            self.flaw(name, f"be no longer than {limit} characters")
            return None
        return value

    def number(self, name: str, least: float, most: float = math.inf) -> float | None:
        """A number from `least` to `most`."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            self.flaw(name, f"be a number {_between(least, most)}")
            return None
        return float(value)

    def whole(self, name: str, least: int, most: int) -> int | None:
        """A whole number from `least` to `most`."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.flaw(name, f"be a whole number {_between(least, most)}")
            return None
        return value

    def choices(self, name: str, allowed: tuple[str, ...]) -> list[str]:
        """A list of some of the allowed words, each once."""
        found = self.texts(name)
        if not set(found) <= set(allowed):
            self.flaw(name, f"hold only {_listed(allowed)}")
            return []
        return found

    def choice(self, name: str, allowed: tuple[str, ...]) -> str | None:
        value = self._values.get(name)
        if value is not None and value not in allowed:
            self.flaw(name, f"be one of {_listed(allowed)}")
            return None
        return value

    def items(self, name: str, limit: int) -> list[Any]:
        value = self._values.get(name, [])
        if not isinstance(value, list):
            self.flaw(name, "be an array")
            return []
        if len(value) > limit:
            self.flaw(name, f"hold no more than {limit} items")
            return []
        return value

    def texts(self, name: str, limit: int = 1000) -> list[str]:
        """A list of strings with something in them, each once, in the order of first appearance."""
        found = self.items(name, limit)
        if not all(isinstance(item, str) and item.strip() and len(item) <= MAX_TEXT for item in found):
            self.flaw(name, f"hold only strings of 1 to {MAX_TEXT} characters")
            return []
        return list(dict.fromkeys(found))

    def inner(self, name: str) -> Fields:
        """An object inside of this one; one without fields where it is absent."""
        return self.within(name, self._values.get(name, {}))

    def within(self, name: str, value: object) -> Fields:
        """A value of this object, read as an object itself."""
        if not isinstance(value, dict):
            self.flaw(name, "be an object")
            value = {}
        return Fields(value, f"{self._path}{_shown(name)}.", self.flaws)

    def only(self, *known: str) -> None:
        """Note every field that nobody knows, unless it is switched off."""
        for name, value in self._values.items():
            if name not in known and value is not False:
                self.flaw(name, "be left out: this server does not know the field")


def _shown(name: str) -> str:
    """A caller's field name as a message may repeat it."""
    return name if _PLAIN.fullmatch(name) else repr(name[:64])


def _between(least: float, most: float) -> str:
    return f"of {least} or more" if most == math.inf else f"from {least} to {most}"


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(f"'{word}'" for word in words)
