"""Statements as the server takes them, `$1` for `:name` and `?`, and as drivers with placeholders of their own do.

What is called `outspoken_deliveries` in a statement is the table, view or function `deliveries` of the outbox's schema:
so that no name depends on a search path, and that of no application is ours. The schema is called `outspoken`, or
otherwise where a database has several outboxes; the text 'outspoken' in a statement is its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from relay.outbox.errors import ConfigError
from relay.outbox.queries import Statement

SCHEMA = "outspoken"

# Any other string, a quoted name, a comment or a cast is left as it is. What the first two groups match is a value, and
# what the last two do a name of ours.
_TOKEN = re.compile(rf"""('{SCHEMA}')|'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|::|:([a-z_]\w*)|(\?)|\b{SCHEMA}_(\w+)""")
_IN_FILES = re.compile(rf"\b{SCHEMA}\.(?=\w)|'{SCHEMA}'")
# What needs no quotes in a name, or in a text that is one; PostgreSQL keeps what begins with pg_ for itself.
_NAME = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")
_TAKEN = frozenset({"public", "information_schema"})


@dataclass(frozen=True, slots=True)
class NumberedStatement:
    """A statement, and the names of its values in their order."""

    text: str
    names: tuple[str, ...]

    def arguments(self, values: Mapping[str, Any] | Sequence[Any]) -> Sequence[Any]:
        """The values as the statement numbers them; those that it does not name are left out."""
        return [values[name] for name in self.names] if isinstance(values, Mapping) else values


def check_schema(schema: str) -> None:
    """Raises ConfigError for what no outbox's schema is called."""
    if not _NAME.fullmatch(schema) or schema in _TAKEN:
        raise ConfigError(
            "outbox.postgres_schema: expected a name of its own, of up to 63 letters a-z, digits and underscores, that"
            " begins with no digit and not with pg_, such as outspoken"
        )


@lru_cache(maxsize=1024)
def numbered(sql: str, schema: str = SCHEMA) -> NumberedStatement:
    """What to send for a statement."""
    numbers: dict[str, int] = {}
    text = _TOKEN.sub(_numbering(numbers, schema), _text(sql))
    return NumberedStatement(text, tuple(numbers))


@lru_cache(maxsize=64)
def pyformat(sql: str) -> str:
    """The same statement with `%(name)s` for `:name`."""
    return in_schema(named(_text(sql)))


@lru_cache(maxsize=64)
def named(sql: str) -> str:
    """`%(name)s` for `:name`, and nothing else: as Django has it on SQLite too."""
    return _TOKEN.sub(lambda found: f"%({found[2]})s" if found[2] else found[0], sql.replace("%", "%%"))


def in_schema(sql: str, schema: str = SCHEMA) -> str:
    """The same with our names where they are."""
    return _TOKEN.sub(lambda found: _placed(found, schema), sql)


@lru_cache(maxsize=64)
def statement_in(sql: Statement, schema: str) -> Statement:
    """A statement whose names are those of a schema, for whoever would look for them in another. It is told by its text
    from what is the same in other schemas."""
    text = in_schema(sql.postgres, schema)
    return Statement(text, text)


def file_in(sql: str, schema: str) -> str:
    """A file of migrations, in which names are written as `outspoken.deliveries`."""
    if schema == SCHEMA:
        return sql
    return _IN_FILES.sub(lambda found: f"'{schema}'" if found[0][0] == "'" else f"{quoted(schema)}.", sql)


def quoted(schema: str) -> str:
    """The name of a schema in a statement: it may be a word of SQL's."""
    return schema if schema == SCHEMA else f'"{schema}"'


def _placed(found: re.Match[str], schema: str) -> str:
    if found[1]:
        return f"'{schema}'"
    return f"{quoted(schema)}.{found[4]}" if found[4] else found[0]


def _text(sql: str) -> str:
    return sql.postgres if isinstance(sql, Statement) else sql


def _numbering(numbers: dict[str, int], schema: str) -> Callable[[re.Match[str]], str]:
    def number(found: re.Match[str]) -> str:
        _, name, unnamed, _ = found.groups()
        if unnamed:
            name = f"?{len(numbers)}"
        return f"${numbers.setdefault(name, len(numbers) + 1)}" if name else _placed(found, schema)

    return number
