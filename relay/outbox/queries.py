"""Reads the named SQL statements that stand beside the rooms, one statement a file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


class Statement(str):
    """A statement in SQLite's words. `postgres` has PostgreSQL's: the same, unless a file of its own says otherwise."""

    __slots__ = ("postgres",)
    postgres: str


@cache
def statement(name: str, package: str = __package__) -> Statement:
    """The statement in `sql/<name>.sql` of a package, and in `sql/postgres/<name>.sql` where that exists."""
    sql = files(package).joinpath("sql")
    result = Statement(sql.joinpath(f"{name}.sql").read_text("utf-8"))
    own = sql.joinpath("postgres", f"{name}.sql")
    result.postgres = own.read_text("utf-8") if own.is_file() else str(result)
    return result
