"""Reads typed values from the fields of a form the way OpenAI does: the first that is wrong is named.

A list is sent under its name with brackets, `include[]`, and an object's fields with theirs, `chunking_strategy[type]`:
both are read by the name before the bracket. A field with nothing in it is an absent one.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.dialects.openai.errors import ErrorObject, refused

MAX_TEXT = 16 * 1024
"""Characters of one field."""


class FieldRefused(Exception):
    """A field cannot be honoured. Never leaves the dialect: `parse` turns it into its `error`."""

    def __init__(self, error: ErrorObject) -> None:
        super().__init__(error.message)
        self.error = error


def refuse(field: str, must: str) -> FieldRefused:
    """The refusal of one field, by name."""
    return FieldRefused(refused(field, must))


class FormFields:
    """The fields of one request but its file, by name, in the caller's order."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            plain = name.partition("[")[0]
            if len(value) > MAX_TEXT:
                raise refuse(plain[:64], f"be no longer than {MAX_TEXT} characters.")
            if value.strip():
                self._values.setdefault(plain, []).append(value)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name once, in the order of first appearance."""
        return tuple(self._values)

    def all(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def text(self, name: str) -> str | None:
        """The value of a field that is sent once."""
        values = self.all(name)
        if len(values) > 1:
            raise refuse(name, "be sent once.")
        return values[0] if values else None

    def flag(self, name: str) -> bool:
        """A boolean; false when absent."""
        value = (self.text(name) or "false").strip().lower()
        if value not in {"true", "false"}:
            raise refuse(name, "be true or false.")
        return value == "true"

    def number(self, name: str, least: float, most: float) -> float | None:
        """A number from `least` to `most`."""
        value = self.text(name)
        try:
            number = None if value is None else float(value)
        except ValueError:
            number = most + 1
        if number is not None and not least <= number <= most:
            raise refuse(name, f"be a number from {least:g} to {most:g}.")
        return number

    def choice(self, name: str, allowed: Sequence[str], default: str) -> str:
        value = self.text(name) or default
        if value not in allowed:
            raise refuse(name, f"be one of {', '.join(allowed)}.")
        return value

    def choices(self, name: str, allowed: Sequence[str]) -> list[str]:
        """A list of some of the allowed words, each once."""
        found = list(dict.fromkeys(self.all(name)))
        if not set(found) <= set(allowed):
            raise refuse(name, f"hold only {', '.join(allowed)}.")
        return found
