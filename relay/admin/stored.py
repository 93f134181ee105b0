"""What rows keep as JSON, read tolerantly: a page that shows a hundred rows must not fail at one that an earlier
version, or somebody's hand, wrote otherwise. What cannot be read is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def mapping(text: str) -> dict[str, Any]:
    """An object. An empty list is what was written before for an empty one."""
    found = _read(text)
    return found if isinstance(found, dict) else {}


def texts(text: str) -> dict[str, str]:
    """An object of texts, such as headers."""
    return {name: str(value) for name, value in mapping(text).items()}


def numbers(text: str) -> Mapping[str, float]:
    """An object of numbers, such as the time that each step took."""
    found = mapping(text).items()
    return {name: value for name, value in found if isinstance(value, int | float) and not isinstance(value, bool)}


def pairs(text: str) -> tuple[tuple[str, str], ...]:
    """A list of names and values, such as the headers of an answer."""
    found = _read(text)
    listed = found.items() if isinstance(found, dict) else found if isinstance(found, list) else ()
    return tuple((str(one[0]), str(one[1])) for one in listed if isinstance(one, list | tuple) and len(one) == 2)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
