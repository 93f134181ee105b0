"""Who did what, when and by what means: written in the transaction of the act itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from relay.admin import json_values
from relay.admin.access import reading
from relay.outbox.store import Connection, Database

_WRITE = "INSERT INTO outspoken_audit (at, actor, source, act, detail) VALUES (?, ?, ?, ?, ?) RETURNING id"
_REWRITE = "UPDATE outspoken_audit SET detail = ? WHERE id = ?"
_NEWEST = """
SELECT * FROM outspoken_audit WHERE id < :older AND (CAST(:act AS text) IS NULL OR act = :act)
ORDER BY id DESC LIMIT :limit
"""
_FIRST_PAGE = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, by the name that the audit keeps, and by what means: command line, API or console."""

    name: str
    source: Literal["cli", "api", "console", "relay"]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the audit. `at` is in epoch seconds; `detail` holds no secret."""

    id: int
    at: float
    actor: str
    source: str
    act: str
    detail: Mapping[str, Any]


def note(connection: Connection, actor: Actor, act: str, now: float, /, **detail: object) -> int:
    """Write a line on the act's own transaction; returns its id."""
    values = (now, actor.name, actor.source, act, json.dumps(detail))
    line: int = connection.execute(_WRITE, values).fetchone()[0]
    return line


def amend(connection: Connection, line: int, **detail: object) -> None:
    """Bring a line up to date, for an act of many transactions."""
    connection.execute(_REWRITE, (json.dumps(detail), line))


def acts(
    database: Database, *, act: str | None = None, limit: int = 50, older: int | None = None
) -> tuple[AuditEntry, ...]:
    """The newest lines first, all or those of one kind of act; `older` is the id of the last one of the page before."""
    values = {"act": act, "limit": limit, "older": _FIRST_PAGE if older is None else older}
    with reading(database) as connection:
        rows = connection.execute(_NEWEST, values).fetchall()
    return tuple(AuditEntry(**{**dict(row), "detail": json_values.mapping(row["detail"])}) for row in rows)
