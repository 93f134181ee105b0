"""Operations' values as JSON, and the JSON that rows keep.

`plain` is for scripts that read the command line's output or the admin API: field names are those of the dataclasses,
times (`..._at`, `at`) are UTC in RFC 3339, durations seconds, sizes bytes. What rows keep is read tolerantly: a page
that shows a hundred rows must not fail at one that an earlier version, or somebody's hand, wrote otherwise. What cannot
be read is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from relay.admin.times import iso


def plain(value: object, name: str = "") -> Any:
    """A value that `json.dumps` takes. Bytes become text, what is not UTF-8 in them U+FFFD."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item, str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return iso(value) if isinstance(value, float) and is_time(name) else value


def is_time(name: str) -> bool:
    return name == "at" or name.endswith("_at")


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
