"""A PostgreSQL server of a test run's own: made, started, broken and thrown away."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import psycopg

from relay.outbox.store import Connection
from tests.acceptance.stage import ROOT
from tests.ports import free_port

REMEDY = "PostgreSQL's server was not found; install it with: apt-get install postgresql"
_TOOLS = ("postgres", "initdb", "psql", "pg_isready", "pg_basebackup", "pg_ctl")
_ANYBODYS = {"psql", "pg_isready"}
# Of relay and engine, as far as they are there. Referring tables first; jobs before the queues that count them.
_TABLES = """
SELECT name, pg_get_serial_sequence(name, (SELECT attname FROM pg_attribute
                                           WHERE attrelid = to_regclass(name) AND attidentity <> '')) AS sequence
FROM unnest(ARRAY['results', 'jobs', 'queues', 'uploads', 'api_keys',
                  'attempts', 'bodies', 'deliveries', 'streams', 'signing_keys', 'destinations', 'gone_urls', 'relays',
                  'audit'])
     WITH ORDINALITY AS tables (bare, place), LATERAL (SELECT 'outspoken.' || bare AS name) AS named
WHERE to_regclass(name) IS NOT NULL
ORDER BY place
"""
_CUT = """
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_STATEMENT = re.compile(r"LOG:  (?:statement|execute [^:]*): (.*)")
_NOBODY_ELSE = "127.0.0.1"
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
_LEAN = ("shared_buffers=32MB", "jit=off", "max_connections=60", "autovacuum=off", "unix_socket_directories=")


def binaries() -> Path | None:
    """The folder with the server and its tools, the newest where there are several."""
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]), reverse=True)
    onpath = shutil.which("postgres")
    folders = [*packaged, *([Path(onpath).resolve().parent] if onpath else [])]
    return next((folder for folder in folders if all((folder / tool).exists() for tool in _TOOLS)), None)


class Server:
    """One cluster in a folder of its own, on a port that does not change over restarts.

    `durable` leaves the server's own promises on; without it, a crash of the machine (not of the server) would lose
    data, and tests are faster.
    """

    def __init__(
        self, folder: Path, *settings: str, durable: bool = False, primary: Server | None = None, port: int = 0
    ) -> None:
        found = binaries()
        assert found is not None, REMEDY
        self._bin = found
        self._data = folder / "data"
        self.log = folder / "log"
        self._settings = (*_LEAN, *(() if durable else _FAST), *settings)
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port or free_port()
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(folder, self._user)
        if primary:
            self._run("pg_basebackup", "-d", primary.url(), "-D", self._data, "-R", "-c", "fast", "--no-sync")
        else:
            _copy(self._initialised(), self._data)

    def _initialised(self) -> Path:
        """A cluster as `initdb` makes it, in `build`: once for all test runs, as it takes a second of a processor, and
        whole before it has its name, so that several processes may ask at the same time."""
        ready = ROOT / "build" / f"postgres-{self._run('postgres', '--version').split()[2]}"
        if ready.exists():
            return ready
        ready.parent.mkdir(exist_ok=True)
        with TemporaryDirectory(prefix="outspoken-initdb-") as made, TemporaryDirectory(dir=ready.parent) as kept:
            if self._user:
                shutil.chown(made, self._user)
            self._run("initdb", "-D", made, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C")
            _copy(Path(made), Path(kept) / "data")
            with suppress(OSError):  # another process was first
                (Path(kept) / "data").rename(ready)
        return ready

    def url(self, name: str = "postgres") -> str:
        """Where a database is."""
        return f"postgresql://postgres@{_NOBODY_ELSE}:{self.port}/{name}"

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [part for setting in self._settings for part in ("-c", setting)]
        place = ("-c", f"listen_addresses={_NOBODY_ELSE}", "-p", str(self.port))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, *place, *settings], stdout=log, stderr=log, user=self._user
            )
        self._run("pg_isready", "-q", "-h", _NOBODY_ELSE, "-p", str(self.port), "-t", "30", patient=True)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGTERM waits for everybody to leave, SIGINT does not, SIGQUIT crashes, SIGKILL more so."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def pause(self) -> None:
        """Stop the server and every session of its where they are, as a machine does that swaps or is migrated."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """They go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, what: signal.Signals) -> None:
        """The postmaster first: while it stands still it starts nobody, and once it goes on it misses nobody."""
        os.kill(self.pid, what)
        for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(child), what)

    def cut(self) -> int:
        """End every session but the one that does it; returns how many there were."""
        return int(self.sql(_CUT))

    def wait_for_standby(self) -> None:
        """Acknowledge from now on only what a standby has too; returns when there is one that keeps up."""
        self.sql("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        for _ in range(2000):
            if self.sql("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"):
                return
        raise RuntimeError(f"no standby: {self.log.read_text()}")

    def move_to(self, port: int) -> None:
        """Go on at another port, which has become free."""
        self.stop()
        self.port = port
        self.start()

    def crash_for_want_of_room(self) -> None:
        """Write log until there is no room for it, which ends the server; returns when it is gone."""
        while self._process is not None and self._process.poll() is None:
            with suppress(RuntimeError):
                self.sql("SELECT pg_switch_wal()", "SELECT txid_current()")

    def promote(self) -> None:
        """Make a standby a primary, and wait until it is one."""
        self.sql("SELECT pg_promote()")

    @contextmanager
    def noting(self, name: str) -> Iterator[Callable[[], list[str]]]:
        """What is asked of a database in sessions that begin now; the first line of each statement."""
        self.sql(f"ALTER DATABASE {name} SET log_statement = 'all'")
        began = self.log.stat().st_size
        try:
            yield lambda: _STATEMENT.findall(self.log.read_bytes()[began:].decode())
        finally:
            self.sql(f"ALTER DATABASE {name} RESET log_statement")

    def create(self, template: str = "template1") -> str:
        """A fresh database, as a copy of another; returns its name."""
        name = f"d{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        """Whoever is still connected is thrown out."""
        self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def sql(self, *statements: str, name: str = "postgres") -> str:
        """What psql would print for some statements, each a transaction of its own; psql itself takes three times as
        long."""
        try:
            with psycopg.connect(self.url(name), autocommit=True) as connection:
                return "".join(_printed(connection.execute(statement.encode())) for statement in statements)
        except psycopg.Error as error:
            raise RuntimeError(f"{error}{self.log.read_text()}") from error

    def psql(self, *statements: str, name: str) -> str:
        """The same from psql itself, for what is said of it."""
        each = [part for statement in statements for part in ("-c", statement)]
        return self._run("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", self.url(name), *each)

    def script(self, text: str, name: str) -> None:
        """Have psql run a file, which may be longer than an argument can be."""
        self._run("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", self.url(name), "-f", "-", given=text)

    def _run(self, program: str, *arguments: object, patient: bool = False, given: str | None = None) -> str:
        command = [str(self._bin / program), *map(str, arguments)]
        # A process that becomes another user cannot share the memory of this one until it is a program.
        user = None if program in _ANYBODYS else self._user
        while True:
            done = subprocess.run(command, input=given, check=False, capture_output=True, text=True, user=user, cwd="/")
            if done.returncode == 0:
                return done.stdout
            if not patient or self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"{program}: {done.stderr}{self.log.read_text() if self.log.exists() else ''}")


@contextmanager
def running(
    *settings: str, durable: bool = False, primary: Server | None = None, on: Path | None = None, port: int = 0
) -> Iterator[Server]:
    """A server for the length of a block: a standby, where there is a `primary`; at any port, unless one is named."""
    memory = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    folder = Path(mkdtemp(prefix="outspoken-postgres-", dir=on or memory))
    try:
        server = Server(folder, *settings, durable=durable, primary=primary, port=port)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Disk:
    """A small one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave no room at all."""
        with suppress(OSError), self._ballast.open("ab", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))

    def free(self) -> None:
        """Give it back."""
        self._ballast.unlink()


@contextmanager
def small_disk(megabytes: int = 160) -> Iterator[Disk]:
    """For the length of a block."""
    folder = Path(mkdtemp(prefix="outspoken-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "outspoken", folder], check=True)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()


def _printed(cursor: psycopg.Cursor[Any]) -> str:
    """A line for each row, its columns as the server writes them."""
    found = cursor.pgresult
    assert found is not None
    columns = range(found.nfields)
    cells = [[(found.get_value(row, column) or b"").decode() for column in columns] for row in range(found.ntuples)]
    return "".join("|".join(row) + "\n" for row in cells)


def _copy(cluster: Path, target: Path) -> None:
    """With its owner, who alone may start it."""
    subprocess.run(["cp", "-a", cluster, target], check=True)


def empty(connection: Connection) -> None:
    """Forget all rows, and the numbers that they had."""
    for table, sequence in connection.execute(_TABLES).fetchall():
        connection.execute(f"DELETE FROM {table}")
        if sequence:
            connection.execute(f"ALTER SEQUENCE {sequence} RESTART")
