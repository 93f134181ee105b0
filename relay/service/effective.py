"""The settings that are in force, each with where its value comes from and what it means. Secrets are masked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from relay.outbox.errors import ConfigError
from relay.service.configfile import PREFIX, origins

_CREDENTIALS = re.compile(r"//.*@")
_OPTION = re.compile(r"(?P<name>[?&][^=&]*=)[^&]*")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is in force, secrets masked, and where it comes from."""

    setting: str
    value: object
    origin: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """One setting, what it means, and what it would be if nobody had set it."""

    setting: str
    meaning: str
    value: object
    origin: str
    default: object

    @property
    def variable(self) -> str:
        """What sets it in the environment."""
        return PREFIX + self.setting.upper().replace(".", "__")


def in_force(
    settings: BaseModel, path: Path | None, environ: Mapping[str, str], others: frozenset[str]
) -> tuple[Setting, ...]:
    """Every setting with its value and where it comes from: file, environment or default. `others` as in `load`."""
    sources = origins(path, environ, frozenset(type(settings).model_fields) | others)
    values = _dotted(settings.model_dump(mode="json"))
    return tuple(Setting(name, _shown(value), sources.get(name, "default")) for name, value in values)


def explained(key: str, model: type[BaseModel], settings: Sequence[Setting]) -> tuple[Explanation, ...]:
    """What is known of a setting, or of each in a section (`relay.retry`). Raises ConfigError for one that is none."""
    found = [one for one in settings if one.setting == key or one.setting.startswith(f"{key}.")]
    if not found:
        from difflib import get_close_matches

        close = get_close_matches(key, [one.setting for one in settings], n=1)
        raise ConfigError(f"{key}: no such setting" + (f"; perhaps {close[0]}?" if close else ""))
    return tuple(_explained(one, _field(model, one.setting.split("."))) for one in found)


def _explained(setting: Setting, field: FieldInfo) -> Explanation:
    default = field.get_default(call_default_factory=True)
    default = to_jsonable_python(sorted(default) if isinstance(default, frozenset) else default)
    return Explanation(setting.setting, field.description or "", setting.value, setting.origin, default)


def _field(model: type[BaseModel], keys: Sequence[str]) -> FieldInfo:
    field, rest = model.model_fields[keys[0]], keys[1:]
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        return _field(field.annotation, rest)
    named = next((kind for kind in get_args(field.annotation) if isinstance(kind, type) and kind is not str), None)
    if named and issubclass(named, BaseModel) and rest:  # a table of sections, each under a name of the operator's
        return _field(named, rest[1:])
    return field


def as_text(one: Explanation) -> str:
    section, _, key = one.setting.rpartition(".")
    rows = {
        "value": f"{written(one.value)}  ({one.origin})",
        "default": written(one.default),
        "in a file": f"{key} under [{section}]",
        "variable": one.variable,
    }
    return "\n".join((one.setting, f"  {one.meaning}", *(f"  {name:<9}  {text}" for name, text in rows.items())))


def written(value: object) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


def _dotted(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{above}{name}.")
        else:
            yield above + name, value


def _shown(value: object) -> object:
    if not isinstance(value, str) or "://" not in value:
        return value
    return _OPTION.sub(r"\g<name>***", _CREDENTIALS.sub("//***@", value))
