"""Looks over an installation: each finding is fine, worth a look, or broken, and says what to do.

Without `egress` nothing leaves this machine; with it, names are resolved and connections opened to the destinations
that have deliveries waiting, and closed again: nothing is sent.
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
import stat
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from relay.admin.access import is_missing, reading
from relay.admin.backup import last_backup_at
from relay.admin.destinations import destinations
from relay.admin.keys import keys
from relay.admin.overview import RELAY_SILENT_SECONDS
from relay.guard.resolver import Addresses, LookupShortage, Resolver, Unresolved
from relay.guard.rules import Refusal, Rules
from relay.guard.url import LIVE, read
from relay.outbox.errors import RelayError, StoreUnavailable
from relay.outbox.migrations import OUTBOX
from relay.outbox.queries import statement
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.sqlite.permissions import exposed, remedy
from relay.outbox.sqlite.side_files import split, users_of_deleted
from relay.outbox.store import Connection, Database

if TYPE_CHECKING:
    from relay.outbox.postgres.vitals import Vitals

_VERSION = statement("version", __package__)
_RIGHTS = statement("rights", __package__)
_MAY_NOT_MIGRATE = statement("may_not_migrate", __package__)

_MIB = 1 << 20
_LARGE_WAL = 64 * _MIB
_LITTLE_DISK, _NO_DISK = 1024 * _MIB, 64 * _MIB
_OLDEST_SERVER = 14
_LITTLE_ROOM = 20  # sessions: a relay holds half a dozen, and an engine as many
_CLOCK_TOLERANCE = 5.0
_SENSIBLE_SINCE = 1767225600.0  # 2026-01-01: a clock before this was never set
_OLD_BACKUP = 2 * 86400.0
_GRANT = "grant the role what docs/deployment.md lists for a relay, or name another role in outbox.url"
_DESTINATIONS_TRIED = 5
_CONNECT_SECONDS = 5.0
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One look: what was looked at, how it is, and the remedy (empty when it is fine)."""

    check: str
    level: Level
    message: str
    remedy: str = ""


def examine(database: Database, rules: Rules, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Everything that can be seen from here. A check that cannot be made is a finding too.

    Blocks, and may turn an event loop of its own: for threads without one.
    """
    if isinstance(database, SqliteDatabase):
        yield from _file(database)
    else:
        yield from _server(database)
    yield _certificates()
    yield _proxies(environ)
    yield _guard(rules)


async def egress(database: Database, resolver: Resolver) -> AsyncIterator[Finding]:
    """Whether the destinations with the most to do can be resolved and connected to."""
    try:
        places = await asyncio.to_thread(_busiest, database)
    except RelayError as error:
        yield Finding("egress", Level.FAIL, str(error), "mend what stands above, then look again")
        return
    if not places:
        yield Finding("egress", Level.OK, "no destination has anything waiting, so none was tried")
    for origin in places:
        yield await _reach(origin, resolver)


def _busiest(database: Database) -> list[str]:
    found = destinations(database, database.now())
    return [place.origin for place in found if place.waiting][:_DESTINATIONS_TRIED]


def _file(database: SqliteDatabase) -> Iterator[Finding]:
    if users := users_of_deleted(database.path):
        what, _, remedy = split(users).partition("; ")
        yield Finding("log", Level.FAIL, what, remedy)
    yield _schema(database)
    if database.path.exists():
        yield from _files(database.path)
        yield _disk(database.path)
    yield from _contents(database)


def _server(database: Database) -> Iterator[Finding]:
    from relay.outbox.postgres.vitals import look  # it needs an extra, which is there where such a database is named

    try:
        found = look(database.url)
    except StoreUnavailable as error:
        remedy = "start it, or name the right one in outbox.url"
        yield Finding("server", Level.FAIL, f"{database.name} cannot be used: {error}", remedy)
        return
    yield from fitness(found)
    if not (found.standby or found.read_only):
        schema = _schema(database)
        yield schema
        if schema.level is Level.OK:
            yield _rights(database)
        yield from _contents(database)


def fitness(found: Vitals) -> Iterator[Finding]:
    """What a PostgreSQL server says of itself."""
    yield _role(found)
    if found.pooled:
        yield _pooler(found)
    yield _room(found)
    yield _durability(found)
    yield Finding("disk", Level.OK, "how much is free, the server does not tell: watch it there")


def _role(found: Vitals) -> Finding:
    product = f"PostgreSQL {found.version}"
    if found.version < _OLDEST_SERVER:
        return Finding("server", Level.FAIL, f"{product} is too old", f"move to {_OLDEST_SERVER} or a newer one")
    if found.standby:
        remedy = "name the primary in outbox.url, or promote it"
        return Finding("server", Level.FAIL, f"{product}, a standby: it can be read and not written", remedy)
    if found.read_only:
        remedy = "find out why, as its disk may be full, and reset default_transaction_read_only"
        return Finding("server", Level.FAIL, f"{product}, a primary that was told to be read-only", remedy)
    return Finding("server", Level.OK, f"{product}, a primary")


def _pooler(found: Vitals) -> Finding:
    if found.hears:
        return Finding("pooler", Level.OK, "there is one between, and notifications come through it")
    message = "there is one between, and notifications do not come through it: what is added waits for a poll"
    return Finding("pooler", Level.WARN, message, "name the server in outbox.url, or a pool whose mode is session")


def _room(found: Vitals) -> Finding:
    left = max(0, found.room - found.sessions)
    message = f"room for {left} more sessions, of {found.room}"
    if left >= _LITTLE_ROOM:
        return Finding("sessions", Level.OK, message)
    return Finding("sessions", Level.WARN, message, "raise max_connections, or find who keeps sessions open")


def _durability(found: Vitals) -> Finding:
    if not found.off:
        return Finding("durability", Level.OK, "what is committed is on the server's disk")
    off = ", ".join(found.off)
    remedy = f"turn {off} on: what was confirmed may be lost when the server's machine fails"
    return Finding("durability", Level.WARN, f"{off} {'is' if len(found.off) == 1 else 'are'} off", remedy)


def _schema(database: Database) -> Finding:
    if is_missing(database):
        remedy = "start `relay run`, or run `relay migrate`"
        return Finding("schema", Level.FAIL, f"no database at {database.name}", remedy)
    try:
        with database.reading() as connection:
            found, known = database.schema(connection, OUTBOX)
            product = connection.execute(_VERSION).fetchone()[0]
            remedy = _migration(database, connection) if found < known else "install a newer Outspoken"
    except StoreUnavailable as error:
        why, _, known_remedy = str(error).removeprefix(f"outbox.url: {database.name}: ").partition("; ")
        remedy = _GRANT if error.kind == "forbidden" else known_remedy or "name the right database in outbox.url"
        return Finding("schema", Level.FAIL, f"{database.name} cannot be read: {why}", remedy)
    if found == known:
        return Finding("schema", Level.OK, f"version {found}, {product}")
    return Finding("schema", Level.FAIL, f"version {found}, this program needs {known}", remedy)


def _migration(database: Database, connection: Connection) -> str:
    """How a database is brought up to date, and by whom."""
    barred = None if isinstance(database, SqliteDatabase) else connection.execute(_MAY_NOT_MIGRATE).fetchone()
    if barred is None:
        return "run `relay migrate`"
    if barred["there"]:
        return f"run `relay migrate` under the role that owns the schema {barred['schema']}"
    make = f"CREATE SCHEMA {barred['schema']} AUTHORIZATION {barred['role']}"
    return f"have whoever may create in the database run `relay migrate`, or {make}"


def _rights(database: Database) -> Finding:
    """A relay's, in the server's database: that it has them on every table of the outbox, and of the engine's."""
    try:
        with database.reading() as connection:
            lacking = [f"{right} on {table}" for table, right in connection.execute(_RIGHTS)]
    except StoreUnavailable as error:
        return Finding("rights", Level.FAIL, str(error), _GRANT)
    if not lacking:
        return Finding("rights", Level.OK, "the role may read and write every table")
    more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
    return Finding("rights", Level.FAIL, f"the role may not {', '.join(lacking[:3])}{more}", _GRANT)


def _files(path: Path) -> Iterator[Finding]:
    yield _permissions(path)
    wal = Path(f"{path}-wal")
    size = wal.stat().st_size if wal.exists() else 0
    if size > _LARGE_WAL:
        remedy = "look for a program that keeps a read transaction open: `fuser` names it"
        yield Finding("wal", Level.WARN, f"the write-ahead log has {size // _MIB} MiB", remedy)
    else:
        yield Finding("wal", Level.OK, f"the write-ahead log has {size / _MIB:.1f} MiB")


def _permissions(path: Path) -> Finding:
    if files := exposed(path):
        names = " ".join(str(file) for file in files)
        return Finding("permissions", Level.FAIL, f"others may read {names}", remedy(files))
    if path.stat().st_mode & stat.S_IRWXG:
        return Finding("permissions", Level.OK, f"shared with the group {_group(path)}")
    return Finding("permissions", Level.OK, "readable by its owner only")


def _group(path: Path) -> str:
    try:
        return path.group()
    except KeyError:  # it has no name on this machine
        return str(path.stat().st_gid)


def _disk(path: Path) -> Finding:
    free = shutil.disk_usage(path.parent).free
    message = f"{free // _MIB} MiB free beside the database"
    if free >= _LITTLE_DISK:
        return Finding("disk", Level.OK, message)
    return Finding("disk", Level.FAIL if free < _NO_DISK else Level.WARN, message, "free some, or `relay retention`")


def _contents(database: Database) -> Iterator[Finding]:
    """What can only be said of a database that can be read."""
    try:
        now = database.now()
        yield _clock(database, now)
        yield _relays(database, now)
        if isinstance(database, SqliteDatabase):  # a server's copies are made by tools that leave no line in the audit
            yield _backup(database, now)
        yield _keys(database, now)
    except RelayError as error:
        yield Finding("contents", Level.FAIL, str(error), "mend what stands above, then look again")


def _clock(database: Database, now: float) -> Finding:
    with reading(database) as connection:
        newest = connection.execute("SELECT created_at FROM outspoken_deliveries ORDER BY seq DESC LIMIT 1").fetchone()
    ahead = newest[0] - now if newest else 0.0
    remedy = "synchronise the clocks of engine and relay (chrony, systemd-timesyncd)"
    if now < _SENSIBLE_SINCE:
        return Finding("clock", Level.FAIL, "the clock was never set", remedy)
    if ahead > _CLOCK_TOLERANCE:
        return Finding("clock", Level.FAIL, f"the newest delivery was added {ahead:.0f} s in the future", remedy)
    if abs(time.time() - now) > _CLOCK_TOLERANCE:
        message = f"this machine's clock is {time.time() - now:+.0f} s off the server's, which decides what is due"
        return Finding("clock", Level.WARN, message, remedy)
    return Finding("clock", Level.OK, time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(now)))


def _relays(database: Database, now: float) -> Finding:
    with reading(database) as connection:
        alive = connection.execute(
            "SELECT count(*) FROM outspoken_relays WHERE seen_at >= ?", (now - RELAY_SILENT_SECONDS,)
        )
        count = alive.fetchone()[0]
    if count:
        return Finding("relays", Level.OK, f"{count} at work on this database")
    remedy = "start `relay run`; one that runs says in its log what keeps it from the outbox (`store.error`)"
    return Finding("relays", Level.WARN, "no relay is at work on this database", remedy)


def _backup(database: Database, now: float) -> Finding:
    at = last_backup_at(database)
    if at is not None and now - at <= _OLD_BACKUP:
        return Finding("backup", Level.OK, f"the last one is {(now - at) / 3600:.1f} h old")
    message = "there is none" if at is None else f"the last one is {(now - at) / 86400:.0f} days old"
    return Finding("backup", Level.WARN, message, "run `relay backup PATH` by a timer")


def _keys(database: Database, now: float) -> Finding:
    signing = [key for key in keys(database) if key.signs(now)]
    if any(key.destination is None for key in signing):
        return Finding("signing", Level.OK, f"{len(signing)} keys sign")
    message = f"{len(signing)} keys sign, none of them for all" if signing else "callbacks go out unsigned"
    return Finding("signing", Level.WARN, message, "`relay keys add`, and give receivers the secret")


def _certificates() -> Finding:
    paths = ssl.get_default_verify_paths()
    folder = Path(paths.capath) if paths.capath else None
    if ssl.create_default_context().cert_store_stats()["x509_ca"] or (
        folder and folder.is_dir() and any(folder.iterdir())
    ):
        return Finding("certificates", Level.OK, f"trusted authorities from {paths.cafile or paths.capath}")
    return Finding(
        "certificates", Level.FAIL, "no trusted authorities: every https callback fails", "install ca-certificates"
    )


def _proxies(environ: Mapping[str, str]) -> Finding:
    found = sorted(name for name in _PROXIES if environ.get(name))
    if not found:
        return Finding("proxy", Level.OK, "no proxy in the environment")
    remedy = "unset it, so that nobody takes it to be in use"
    return Finding("proxy", Level.WARN, f"{', '.join(found)} is set, and the relay ignores it", remedy)


def _guard(rules: Rules) -> Finding:
    if not rules.networks:
        return Finding("guard", Level.OK, "callbacks reach public addresses only")
    opened = ", ".join(str(network) for network in rules.networks)
    remedy = "close what callers should not reach: outbox.guard.allow_networks"
    return Finding("guard", Level.WARN, f"callbacks may reach {opened}", remedy)


async def _reach(origin: str, resolver: Resolver) -> Finding:
    check = f"egress {origin}"
    target = read(origin, resolver.rules, LIVE)
    if isinstance(target, Refusal):
        return Finding(check, Level.FAIL, target.message, "its deliveries will be given up")
    match await resolver.resolve(target.host):
        case Refusal(_, message):
            return Finding(check, Level.FAIL, message, "its deliveries will be given up")
        case Unresolved(detail) | LookupShortage(detail):
            return Finding(check, Level.FAIL, detail, "look at /etc/resolv.conf and the name")
        case Addresses(values):
            return await _connect(check, values[0], target.port)


async def _connect(check: str, address: str, port: int) -> Finding:
    began = time.monotonic()
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "no answer"
        return Finding(check, Level.FAIL, f"no connection to {address}: {reason}", "look at firewalls and the receiver")
    writer.close()
    return Finding(check, Level.OK, f"{address} answered in {(time.monotonic() - began) * 1000:.0f} ms")
