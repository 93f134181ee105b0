"""What a database needs to be up to date: numbered SQL files, forward only, each applied once. A database that has none
of a room's tables gets them at once, by its newest baseline: the files up to its number count as applied.

All tables lie apart from those of the application whose database it may be: on PostgreSQL in a schema `outspoken`, on
SQLite under names that begin with `outspoken_`. Databases of versions that did not do so are moved by a migration.

The engine keeps its jobs in the same database; it brings its own set of migrations, under its own room name. What only
a migration needs is imported by it: a producer who adds a delivery should not wait for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from relay.outbox.errors import SchemaError, UnfinishedMove

UNFINISHED = 0
"""The number under which a database says that it is being filled from another one: see `relay.outbox.moving`."""

TABLE = "outspoken_migrations"
TABLE_BEFORE = "migrations"
"""The name of the table of migrations, now and in databases that are yet to be moved."""

_FILE_NAME = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of a room. `baseline`: what makes everything up to here where there is nothing."""

    room: str
    number: int
    name: str
    sql: str
    baseline: str | None = None

    @property
    def sha256(self) -> str:
        """The fingerprint by which a file changed after its release is noticed."""
        import hashlib

        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class MigrationSet:
    """Who keeps tables: a package with the files `sql/migrations/{sqlite,postgres}/NNNN_name.sql`, `sql/baselines` of
    the same numbers and names, and the name that they go by."""

    package: str
    name: str

    def migrations(self, dialect: str) -> tuple[Migration, ...]:
        """The room's files, in order."""
        baselines = self._files("baselines", dialect)
        named = ((_FILE_NAME.fullmatch(name), sql) for name, sql in self._files("migrations", dialect).items())
        found = (Migration(self.name, int(m[1]), m[2], sql, baselines.get(m[0])) for m, sql in named if m)
        return tuple(sorted(found, key=lambda migration: migration.number))

    def _files(self, *folder: str) -> Mapping[str, str]:
        from importlib.resources import files

        return {
            entry.name: entry.read_text("utf-8") for entry in files(self.package).joinpath("sql", *folder).iterdir()
        }


OUTBOX = MigrationSet("relay.outbox", "outbox")


@dataclass(frozen=True, slots=True)
class MigrationStep:
    """Some SQL, and the migrations that are done with it."""

    sql: str
    migrations: tuple[Migration, ...]


def missing(known: Sequence[Migration], applied: Mapping[int, str]) -> Iterator[MigrationStep]:
    """What is still to be done for a room; `applied` has the fingerprints of what was.

    Raises SchemaError for a database that is newer than this program, or whose applied files were changed since, and
    UnfinishedMove for one that is still being filled.
    """
    _require_known(known, applied)
    if not applied:
        newest = max((migration.number for migration in known if migration.baseline), default=0)
        begin = tuple(migration for migration in known if migration.number <= newest)
        if begin:
            yield MigrationStep(begin[-1].baseline or "", begin)
        applied = {migration.number: migration.sha256 for migration in begin}
    yield from (MigrationStep(one.sql, (one,)) for one in known if one.number not in applied)


def _require_known(known: Sequence[Migration], applied: Mapping[int, str]) -> None:
    if UNFINISHED in applied:
        raise UnfinishedMove("a move into this database was begun: run `relay migrate --from ... --to ...` once more")
    room, newest = known[-1].room, known[-1].number
    if max(applied, default=0) > newest:
        raise SchemaError(
            f"the database has {room} schema {max(applied)}, this program knows {newest}: install a newer one"
        )
    for migration in known:
        if applied.get(migration.number, migration.sha256) != migration.sha256:
            raise SchemaError(f"{room} migration {migration.number:04} was changed after it had been applied")


def is_ours(known: Sequence[Sequence[Migration]], rows: Sequence[tuple[str, int, str]]) -> bool:
    """Whether a table called `migrations`, with these rooms, numbers and fingerprints, is not another application's."""
    return not {(one.room, one.number, one.sha256) for room in known for one in room}.isdisjoint(rows)


def record(table: str, migrations: Sequence[Migration], now: str) -> str:
    """SQL that says that these were applied; `now` is SQL for the time."""
    rows = (f"('{one.room}', {one.number}, '{one.name}', '{one.sha256}', {now})" for one in migrations)
    return f"INSERT INTO {table} (room, number, name, sha256, applied_at) VALUES\n    " + ",\n    ".join(rows) + ";"


def script(opening: str, table: str, known: Sequence[Sequence[Migration]], now: str) -> str:
    """All of it in one transaction, for an empty place: what a person, or another tool for migrations, may run."""
    steps = [step for room in known for step in missing(room, {})]
    parts = [f"{step.sql.strip()}\n\n{record(table, step.migrations, now)}" for step in steps]
    return "\n\n".join(["BEGIN;", opening.strip(), *parts, "COMMIT;"])
