"""Statements as the server takes them, `$1` for `:name` and `?`, and as drivers with placeholders of their own do.

What is called `outspoken_deliveries` in a statement is the table, view or function `deliveries` of the schema
`outspoken`:
so that no name depends on a search path, and that of no application is ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from relay.outbox.queries import Statement

SCHEMA = "outspoken"

# A string, a quoted name, a comment or a cast is left as it is. What the first two groups match is a value, and what
# the last one does a name of ours.
_TOKEN = re.compile(rf"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|::|:([a-z_]\w*)|(\?)|\b{SCHEMA}_(\w+)""")


@dataclass(frozen=True, slots=True)
class NumberedStatement:
    """A statement, and the names of its values in their order."""

    text: str
    names: tuple[str, ...]

    def arguments(self, values: Mapping[str, Any] | Sequence[Any]) -> Sequence[Any]:
        """The values as the statement numbers them; those that it does not name are left out."""
        return [values[name] for name in self.names] if isinstance(values, Mapping) else values


@lru_cache(maxsize=1024)
def numbered(sql: str) -> NumberedStatement:
    """What to send for a statement."""
    numbers: dict[str, int] = {}
    text = _TOKEN.sub(_numbering(numbers), _text(sql))
    return NumberedStatement(text, tuple(numbers))


@lru_cache(maxsize=64)
def pyformat(sql: str) -> str:
    """The same statement with `%(name)s` for `:name`."""
    return in_schema(named(_text(sql)))


@lru_cache(maxsize=64)
def named(sql: str) -> str:
    """`%(name)s` for `:name`, and nothing else: as Django has it on SQLite too."""
    return _TOKEN.sub(lambda found: f"%({found[1]})s" if found[1] else found[0], sql.replace("%", "%%"))


def in_schema(sql: str) -> str:
    """The same with our names where they are."""
    return _TOKEN.sub(_placed, sql)


def _placed(found: re.Match[str]) -> str:
    return f"{SCHEMA}.{found[3]}" if found[3] else found[0]


def _text(sql: str) -> str:
    return sql.postgres if isinstance(sql, Statement) else sql


def _numbering(numbers: dict[str, int]) -> Callable[[re.Match[str]], str]:
    def number(found: re.Match[str]) -> str:
        name, unnamed, _ = found.groups()
        if unnamed:
            name = f"?{len(numbers)}"
        return f"${numbers.setdefault(name, len(numbers) + 1)}" if name else _placed(found)

    return number
