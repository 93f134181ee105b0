"""Reads one TOML file and the environment into sections of settings, and names every key that does not belong.

Order: environment (`OUTSPOKEN_RELAY__LISTEN=...`) over file. A program reads its own sections of the shared file;
the other program's sections are known by name only, and checked when that program starts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from relay.outbox.errors import ConfigError
from relay.service.section import Invalid, Section, valid

PREFIX = "OUTSPOKEN_"
CONFIG_VARIABLE = "OUTSPOKEN_CONFIG"
DEFAULT_CONFIG = Path("config/outspoken.toml")
ABSENT = f"{DEFAULT_CONFIG} is not here, and no other file was named (--config, {CONFIG_VARIABLE}): the defaults hold"

Settings = TypeVar("Settings", bound=Section)
Tree = dict[str, Any]


def config_file(named: Path | None) -> Path | None:
    """The file that is read: the one that was named, or the default one where there is one."""
    return named or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)


def log_file(named: Path | None) -> None:
    """Say which file a daemon has read, or where it looked for one."""
    import structlog  # commands read the file too, and log nothing

    log = structlog.get_logger()
    if file := config_file(named):
        log.info("config.read", file=str(file.absolute()))
    else:
        log.info("config.absent", looked_for=str(DEFAULT_CONFIG.absolute()))


def load(kind: type[Settings], path: Path | None, environ: Mapping[str, str], others: frozenset[str]) -> Settings:
    """The settings of one program. `others` names the sections that belong to another program.

    Raises ConfigError for a missing or unreadable file, a misspelt key in file or environment, or a bad value.
    """
    return load_with_origins(kind, path, environ, others)[0]


def load_with_origins(
    kind: type[Settings], path: Path | None, environ: Mapping[str, str], others: frozenset[str]
) -> tuple[Settings, dict[str, str]]:
    """The same, and where each value that is no default comes from: `relay.retry.delay` -> `environment`, or the file's
    name. The file is read once: it may be a pipe, which says it once."""
    known = {one.name for one in fields(kind)}
    file, environment = _from_file(path, known | others), _from_environment(environ, known | others)
    tree = _merge(file, environment)
    try:
        settings: Settings = valid(kind, {name: value for name, value in tree.items() if name in known})
    except Invalid as invalid:
        origin = f"{path} or environment" if path else "environment"
        raise ConfigError("\n".join(f"{origin}: {mistake}" for mistake in invalid.mistakes)) from None
    origins = dict.fromkeys(_dotted(file), str(path)) | dict.fromkeys(_dotted(environment), "environment")
    return settings, origins


def _dotted(tree: Tree, above: str = "") -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{above}{name}.")
        else:
            yield above + name


def _from_file(path: Path | None, sections: set[str] | frozenset[str]) -> Tree:
    if path is None:
        return {}
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: No such file or directory; name another with --config or {CONFIG_VARIABLE}"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    for name in tree:
        if name not in sections:
            raise ConfigError(f"{path}: unknown section [{name}]; there are {_listed(sections)}")
    return tree


def _from_environment(environ: Mapping[str, str], sections: set[str] | frozenset[str]) -> Tree:
    tree: Tree = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE:
            continue
        section, *rest = variable.removeprefix(PREFIX).lower().split("__")
        if section not in sections or not all(rest) or not rest:
            raise ConfigError(f"{variable}: no such setting; the form is {PREFIX}SECTION__KEY with {_listed(sections)}")
        tree = _merge(tree, _branch([section, *rest], _value(text)))
    return tree


def _branch(keys: list[str], value: object) -> Tree:
    return {keys[0]: _branch(keys[1:], value) if keys[1:] else value}


def _value(text: str) -> object:
    """A TOML value where it reads as one (numbers, lists, booleans), else the bare text."""
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return document["value"] if len(document) == 1 else text


def _merge(under: Tree, over: Tree) -> Tree:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _listed(names: set[str] | frozenset[str]) -> str:
    return ", ".join(f"[{name}]" for name in sorted(names))
