"""Reads the SQL statements of a room: named blocks in `sql/sqlite.sql` and `sql/postgres.sql`.

A block begins with a line `-- name --`; a sentence on what it is for follows, then the statement. `{name}` in one is
another block of the room, and `{relay.queue.name}` one of another room, so that one round trip can answer several
questions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pkgutil import get_data  # half the import of the outbox would be importlib.resources

_NAME = re.compile(r"^-- (\w+) --\n", re.MULTILINE)
_INCLUDED = re.compile(r"\{(?:([\w.]+)\.)?(\w+)\}")


class Statement(str):
    """A statement in SQLite's words. `postgres` has PostgreSQL's, the same where it has no block of its own."""

    __slots__ = ("postgres",)
    postgres: str

    def __new__(cls, sqlite: str, postgres: str) -> Statement:
        made = super().__new__(cls, sqlite)
        made.postgres = postgres
        return made


@cache
def statement(name: str, package: str) -> Statement:
    """The statement of that name in a package, for both databases. Raises KeyError."""
    ours, theirs = blocks(package, "sqlite").get(name), blocks(package, "postgres").get(name)
    sqlite = ours or theirs or _missing(name, package)
    return Statement(
        _INCLUDED.sub(lambda found: statement(found[2], found[1] or package), sqlite),
        _INCLUDED.sub(lambda found: statement(found[2], found[1] or package).postgres, theirs or sqlite),
    )


@cache
def blocks(package: str, dialect: str) -> Mapping[str, str]:
    """The statements that a package has for `sqlite` or `postgres`, by name."""
    text = get_data(package, f"sql/{dialect}.sql") or b""
    _, *parts = _NAME.split(text.decode())
    return dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))


def _missing(name: str, package: str) -> str:
    raise KeyError(f"{package} has no statement {name!r}")
