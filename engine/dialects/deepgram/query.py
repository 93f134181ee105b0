"""Reads typed values from a query string the way Deepgram does: strictly, naming the parameter that is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine.dialects.deepgram.errors import BadRequest, invalid_parameter

MAX_TEXT = 2048
"""Characters in one value of a repeatable parameter: Deepgram's limit for `extra`."""

MAX_PARAMETERS = 512


class ParameterRefused(Exception):
    """A parameter cannot be honoured. Never leaves the dialect: `parse` turns it into its `reply`."""

    def __init__(self, reply: BadRequest) -> None:
        super().__init__(reply.line)
        self.reply = reply


def invalid(detail: str) -> ParameterRefused:
    """The refusal of one parameter, by name."""
    return ParameterRefused(invalid_parameter(detail))


def shown(value: str) -> str:
    """A caller's value as an error message may repeat it: short, and without control characters."""
    return repr(value[:64])


class Query:
    """The parameters of one request, by name, in the caller's order."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        if len(pairs) > MAX_PARAMETERS:
            raise invalid(f"{len(pairs)} parameters are too many, send at most {MAX_PARAMETERS}")
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name once, in the order of first appearance."""
        return tuple(self._values)

    def one(self, name: str) -> str | None:
        """The value of a parameter that may be sent once."""
        values = self._values.get(name, [])
        if len(values) > 1:
            raise invalid(f"duplicate field `{name}`, send it once")
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """The values of a repeatable parameter, each of a bounded length."""
        values = self._values.get(name, [])
        if any(len(value) > MAX_TEXT for value in values):
            raise invalid(f"{name}: a value is longer than {MAX_TEXT} characters, shorten it")
        return values

    def flag(self, name: str) -> bool:
        """A boolean, `true` or `false` to the letter; false when absent."""
        value = self.one(name)
        if value not in {None, "true", "false"}:
            raise invalid(f"{name}: provided string was not `true` or `false`, send {name}=true or {name}=false")
        return value == "true"

    def whole(self, name: str) -> int | None:
        """A whole number written in plain digits."""
        value = self.one(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) < 10):
            raise invalid(f"{name}: {shown(value)} is not a whole number, send digits only")
        return int(value)

    def seconds(self, name: str, default: float) -> float:
        """A positive number of seconds."""
        value = self.one(name)
        if value is None:
            return default
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 < number < math.inf:
            raise invalid(f"{name}: {shown(value)} is not a positive number of seconds, send one such as {default}")
        return number

    def pairs(self, name: str, form: str) -> list[tuple[str, str]]:
        """Repeatable values of the form `left:right`, cut at the first colon."""
        cut = [value.partition(":") for value in self.all(name)]
        if any(not (left and colon) for left, colon, _ in cut):
            raise invalid(f"{name}: a value has no name before a colon, send {name}={form}")
        return [(left, right) for left, _, right in cut]
