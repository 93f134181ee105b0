"""What a database needs to be up to date: numbered SQL files, forward only, each applied once.

The engine keeps its jobs in the same database; it brings its own set of migrations, under its own room name. What only
a migration needs is imported by it: a producer who adds a delivery should not wait for that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relay.outbox.errors import SchemaError, UnfinishedMove

UNFINISHED = 0
"""The number under which a database says that it is being filled from another one: see `relay.outbox.moving`."""

_FILE_NAME = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of a room."""

    room: str
    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The fingerprint by which a file changed after its release is noticed."""
        import hashlib

        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Room:
    """Who keeps tables: a package with the files `sql/migrations/{sqlite,postgres}/NNNN_name.sql`, and the name that
    they go by."""

    package: str
    name: str

    def migrations(self, dialect: str) -> tuple[Migration, ...]:
        """The room's files, in order."""
        from importlib.resources import files

        folder = files(self.package).joinpath("sql", "migrations", dialect)
        named = ((_FILE_NAME.fullmatch(entry.name), entry) for entry in folder.iterdir())
        found = (Migration(self.name, int(m[1]), m[2], entry.read_text("utf-8")) for m, entry in named if m)
        return tuple(sorted(found, key=lambda migration: migration.number))


OUTBOX = Room("relay.outbox", "outbox")


def missing(migration: Migration, known: Sequence[Migration], applied: Mapping[int, str]) -> bool:
    """Whether a migration of a room is still to be applied; `applied` has the fingerprints of those that were.

    Raises SchemaError for a database that is newer than this program, or whose applied files were changed since, and
    UnfinishedMove for one that is still being filled.
    """
    if UNFINISHED in applied:
        raise UnfinishedMove("a move into this database was begun: run `relay migrate --from ... --to ...` once more")
    newest = known[-1].number
    if max(applied, default=0) > newest:
        raise SchemaError(
            f"the database has {migration.room} schema {max(applied)}, this program knows {newest}: install a newer one"
        )
    if migration.number in applied and applied[migration.number] != migration.sha256:
        raise SchemaError(f"{migration.room} migration {migration.number:04} was changed after it had been applied")
    return migration.number not in applied
