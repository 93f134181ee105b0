"""Reads the named SQL statements that stand beside this file, one statement a file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def statement(name: str, package: str = __package__) -> str:
    """The statement in `sql/<name>.sql` of a package."""
    return files(package).joinpath("sql", f"{name}.sql").read_text("utf-8")
