"""A move from its first question to its last: who is at work, what is there, copy, compare, open the target."""

from __future__ import annotations

import hashlib
import marshal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from relay.outbox.errors import MoveRefused, SchemaError, UnfinishedMove
from relay.outbox.migrations import OUTBOX
from relay.outbox.moving import progress
from relay.outbox.moving.postgres import PostgresDialect
from relay.outbox.moving.progress import MoveProgress
from relay.outbox.moving.sqlite import SqliteDialect
from relay.outbox.moving.tables import (
    Row,
    SqlDialect,
    Table,
    TableReader,
    in_order,
    insertion,
    place,
    quoted,
    require_room,
)
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Connection, Database

Tell = Callable[[MoveProgress], None]

# What a database says about itself, and who is at work on it: neither is moved.
_STAYS = frozenset({"migrations", "relays", progress.TABLE})
# What a migration put there is replaced.
_MADE_BY_MIGRATIONS = frozenset({"secrets"})
# Columns that tell of somebody at work: how many seconds ago counts, and what it says.
_SIGNS_OF_WORK = {"lease_until": (0.0, "leased"), "holder_until": (0.0, "held"), "seen_at": (15.0, "seen lately")}
_LEAVING_SECONDS = 2.0
_BY_VALUE = 2  # the last version of marshal's format in which rows that are equal give bytes that are
_ASK_AGAIN_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Moved:
    """What is in the target now, and was compared with the source: rows by table."""

    rows: Mapping[str, int]


def move(source: Database, target: Database, tell: Tell, *, anyway: bool = False) -> Moved:
    """Copy everything, compare it, and only then let the target be used. Blocks.

    What was begun and killed goes on where it was. `anyway` believes that nobody is at work on the source although it
    looks like it; while the move lasts nobody can write there. Raises MoveRefused, SchemaError and StoreUnavailable.
    """
    if is_same(source, target):
        raise MoveRefused(f"{source.name}: is both the source and the target: name another target")
    _require_up_to_date(source)
    if not anyway:
        _require_rest(source)
    _make(target)
    with _held(source) as (connection, tables):
        one = _Move(source, target, connection, tables, tell)
        one.begin()
        for table in tables:
            one.copy(table)
        rows = {table.name: one.compare(table) for table in tables}
        one.end()
    return Moved(rows)


class _Move:
    """One source, which holds still, and one target."""

    def __init__(
        self, source: Database, target: Database, connection: Connection, tables: tuple[Table, ...], tell: Tell
    ) -> None:
        self._here, self._there = dialect_of(source), dialect_of(target)
        self._target = target
        self._connection = connection
        self._tables = tables
        self._tell = tell
        self._places: Mapping[str, Table] = {}

    def begin(self) -> None:
        """Take possession of the target, or find that it is ours."""
        source = _fingerprint(self._connection)
        with self._target.writing() as connection:
            self._there.lift_timeouts(connection)
            found = self._there.tables(connection)
            self._places = {table.name: table for table in found}
            require_room(self._target.name, self._tables, found)
            if progress.TABLE in self._places:
                self._require_same(source, progress.read(connection).source)
            else:
                self._require_empty(connection)
                progress.begin(connection, source, self._there.disable_triggers(connection, self._tables))

    def copy(self, table: Table) -> None:
        """Fill what is missing: each part and how far it goes in one transaction."""
        with self._target.reading() as connection:
            done = self._reading_there(connection, table).count()
            last = progress.read(connection).last.get(table.name, [])
        reading = TableReader(self._here, self._connection, table, table.columns)
        rows = reading.count()
        self._tell(MoveProgress("copy", table.name, done, rows))
        sql = insertion(table, self._there.insertion_clause)
        for part in reading.parts(last):
            self._require_keepable(table, part)
            with self._target.writing() as connection:
                connection.executemany(sql, part)
                progress.advance(connection, table, reading.key_of(part[-1]))
            done += len(part)
            self._tell(MoveProgress("copy", table.name, done, rows))

    def compare(self, table: Table) -> int:
        """Read both again; returns the rows. Raises MoveRefused if they are not the same."""
        here = TableReader(self._here, self._connection, table, table.columns)
        rows = here.count()
        with self._target.reading() as connection:
            self._there.lift_timeouts(connection)
            there = self._reading_there(connection, table)
            count = there.count()
            if count == rows and self._digest(there, MoveProgress("compare", table.name, 0, 2 * rows)) == self._digest(
                here, MoveProgress("compare", table.name, rows, 2 * rows)
            ):
                return rows
        raise MoveRefused(
            f"{table.name}: {rows} rows at the source, {count} at the target, and they are not the same: the source "
            "was changed after the move began. Begin again with an empty target"
        )

    def end(self) -> None:
        """Numbers go on where they were, triggers wake, and the target is open."""
        numbers = self._here.numbers(self._connection, self._tables)
        with self._target.writing() as connection:
            self._there.set_numbers(connection, numbers)
            self._there.enable_triggers(connection, self._tables, progress.read(connection).triggers)
            progress.end(connection)

    def _reading_there(self, connection: Connection, table: Table) -> TableReader:
        return TableReader(self._there, connection, table, self._places[table.name].columns)

    def _digest(self, reading: TableReader, began: MoveProgress) -> str:
        digest, done = hashlib.sha256(), began.done
        for part in reading.parts():
            for row in part:
                digest.update(marshal.dumps(row, _BY_VALUE))
            done += len(part)
            self._tell(MoveProgress(began.step, began.table, done, began.rows))
        return digest.hexdigest()

    def _require_same(self, source: str, begun: str) -> None:
        if source != begun:
            raise MoveRefused(f"{self._target.name}: a move from another database was begun there: name that one")

    def _require_empty(self, connection: Connection) -> None:
        for table in self._tables:
            if table.name in _MADE_BY_MIGRATIONS:
                connection.execute(f"DELETE FROM {place(table.name)}")  # noqa: S608
            elif self._reading_there(connection, table).count():
                raise MoveRefused(f"{self._target.name}: there are {table.name} in it already: name an empty database")

    def _require_keepable(self, table: Table, part: Iterable[Row]) -> None:
        if self._there.keeps_nul:
            return
        for row in part:
            for column, value in zip(table.columns, row, strict=True):
                if isinstance(value, str) and "\0" in value:
                    key = ", ".join(str(row[list(table.columns).index(name)]) for name in table.key)
                    raise MoveRefused(
                        f"{table.name} {key}: {column} holds U+0000, which {self._target.name} cannot keep: take it out"
                    )


@contextmanager
def _held(source: Database) -> Iterator[tuple[Connection, tuple[Table, ...]]]:
    """The source, which nobody changes meanwhile, and what there is to move."""
    dialect = dialect_of(source)
    with source.writing() as connection:
        dialect.lift_timeouts(connection)
        tables = in_order(table for table in dialect.tables(connection) if table.name not in _STAYS)
        dialect.lock(connection, tables)
        yield connection, tables


def _make(target: Database) -> None:
    try:
        target.migrate([OUTBOX])
    except UnfinishedMove:
        return  # ours, as will be seen


def _require_up_to_date(source: Database) -> None:
    with source.reading() as connection:
        found, known = source.schema(connection, OUTBOX)
    if found != known:
        raise SchemaError(
            f"{source.name} has outbox schema {found}, this program knows {known}: run `relay migrate` on it"
        )


def _require_rest(source: Database) -> None:
    processes = _processes_that_stay(source)
    with source.reading() as connection:
        signs = [f"{processes} process{'es' * (processes > 1)} on it"] if processes else []
        signs += _signs(connection, dialect_of(source).tables(connection), source.now())
    if signs:
        raise MoveRefused(
            f"{source.name}: somebody is at work there: {', '.join(signs)}. Stop the engine and the relay first; "
            "--anyway, if they are stopped"
        )


def _processes_that_stay(source: Database) -> int:
    """Who was just stopped may still be on the way out."""
    dialect, give_up = dialect_of(source), time.monotonic() + _LEAVING_SECONDS
    while True:
        with source.reading() as connection:
            processes = dialect.processes(connection)
        if not processes or time.monotonic() > give_up:
            return processes
        time.sleep(_ASK_AGAIN_SECONDS)


def _signs(connection: Connection, tables: Iterable[Table], now: float) -> Iterator[str]:
    """What others would know them by."""
    for table in tables:
        for column, (seconds, words) in _SIGNS_OF_WORK.items():
            if column not in table.columns:
                continue
            sql = f"SELECT count(*) FROM {place(table.name)} WHERE {quoted(column)} > ?"  # noqa: S608
            count = connection.execute(sql, (now - seconds,)).fetchone()[0]
            if count:
                yield f"{count} {table.name} {words}"


def _fingerprint(connection: Connection) -> str:
    """Tells one outbox from another, and nothing else."""
    secret: Any = connection.execute("SELECT value FROM outspoken_secrets WHERE name = 'pointer'").fetchone()[0]
    return hashlib.sha256(b"move " + bytes(secret)).hexdigest()


def dialect_of(database: Database) -> SqlDialect:
    """How moving asks a database of this kind."""
    return SqliteDialect(database.path) if isinstance(database, SqliteDatabase) else PostgresDialect()


def is_same(source: Database, target: Database) -> bool:
    """Whether both names lead to one place."""
    if isinstance(source, SqliteDatabase) and isinstance(target, SqliteDatabase):
        return source.path.resolve() == target.path.resolve()
    return source.url == target.url
