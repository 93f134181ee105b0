"""The settings that are in force, each with where its value comes from and what it means. Secrets are masked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from relay.outbox.errors import ConfigError
from relay.service.configfile import PREFIX
from relay.service.section import Secret, Section, meaning_of

_CREDENTIALS = re.compile(r"//.*@")
_MASK = "**********"
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


def in_force(settings: Section, origins: Mapping[str, str]) -> tuple[Setting, ...]:
    """Every setting with its value and where it comes from: file, environment or default. `origins` as
    `load_with_origins` tells them."""
    values = _dotted(_plain(settings))
    return tuple(Setting(name, _shown(value), origins.get(name, "default")) for name, value in values)


def explained(key: str, kind: type[Section], settings: Sequence[Setting]) -> tuple[Explanation, ...]:
    """What is known of a setting, or of each in a section (`relay.retry`). Raises ConfigError for one that is none."""
    found = [one for one in settings if one.setting == key or one.setting.startswith(f"{key}.")]
    if not found:
        from difflib import get_close_matches

        close = get_close_matches(key, [one.setting for one in settings], n=1)
        raise ConfigError(f"{key}: no such setting" + (f"; perhaps {close[0]}?" if close else ""))
    return tuple(_explained(one, _field(kind(), one.setting.split("."))) for one in found)


def _explained(setting: Setting, field: Field[Any]) -> Explanation:
    return Explanation(setting.setting, meaning_of(field), setting.value, setting.origin, _plain(_default(field)))


def _default(field: Field[Any]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _field(section: Section, keys: Sequence[str]) -> Field[Any]:
    """The one to which the keys lead. Of sections that operators name, any is like the default one."""
    found = next(one for one in fields(section) if one.name == keys[0])
    below, rest = getattr(section, keys[0]), keys[1:]
    if rest and isinstance(below, dict):
        below, rest = next(iter(below.values()), None), rest[1:]
    return _field(below, rest) if isinstance(below, Section) else found


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


def _plain(value: object) -> Any:
    """As JSON has it, and secrets masked."""
    match value:
        case Section():
            return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
        case Secret():
            return _MASK if value else ""
        case Mapping():
            return {name: _plain(one) for name, one in value.items()}
        case list() | tuple() | frozenset():
            return [_plain(one) for one in (sorted(value) if isinstance(value, frozenset) else value)]
        case StrEnum() | Path() | IPv4Network() | IPv6Network():
            return str(value)
    return value


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
