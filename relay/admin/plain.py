"""Operations' values as JSON: for scripts that read the command line's output or the admin API.

Field names are those of the dataclasses, times (`..._at`, `at`) are UTC in RFC 3339, durations seconds, sizes bytes.
"""

from __future__ import annotations

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
