"""What the rooms ask of the database, whichever it is: statements, transactions, a notifier, and the time.

A statement is written for SQLite, and again for PostgreSQL where the two differ (`queries`). What is done with
statements is written once: as `work` on a connection, which a reader or a writer runs where it holds nobody up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from relay.outbox.migrations import Migration, MigrationSet

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

POLL_SECONDS = 0.25
"""How often to ask for what nobody told of."""

BUSY_SECONDS = 5.0
"""How long a writer asks a database that is locked."""


def in_step(seconds: float) -> float:
    """So many seconds, give or take half a poll: until a moment that is the same for all who wait like this. Timers
    that fire together wake a process once, and to be woken is most of what an idle one does. Less than a poll stays as
    it is."""
    if seconds < POLL_SECONDS:
        return seconds
    now = int(1000 * time.monotonic()) / 1000  # event loops count whole milliseconds
    return round((now + seconds) / POLL_SECONDS) * POLL_SECONDS - now


class Cursor(Protocol):
    """What a statement brought."""

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""

    def fetchone(self) -> Any:
        """The next row, or None."""

    def fetchall(self) -> list[Any]:
        """The rows that are left."""

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """Where statements run. sqlite3's own connection is one. Values are named (`:id`) or in order (`?`)."""

    def execute(self, sql: str, values: Any = ..., /) -> Cursor: ...

    def executemany(self, sql: str, values: Iterable[Any], /) -> Cursor:
        """Run one statement for each of some values."""


class Reader(Protocol):
    """For an event loop, on a connection that others may write on in their turn."""

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Do `work`, which only reads. Raises StoreUnavailable."""

    async def close(self) -> None:
        """Give the connection back."""


class BodyReader(Protocol):
    """Reads what is large, in threads, and has it used there: either takes milliseconds."""

    async def read(self, sql: str, values: Mapping[str, Any], use: Callable[[bytes], T], /) -> T:
        """What `use` makes of the body that a statement finds. Raises StoreUnavailable."""

    async def close(self) -> None:
        """Wait for what is being read, then give the connections back."""


class Writer(Protocol):
    """A connection that writes, for an event loop: one transaction at a time; beside it, on a server, one that is not
    durable."""

    async def execute(self, sql: str, values: Mapping[str, Any], /, *, durable: bool = True) -> list[Any]:
        """Run one statement, which is a transaction of its own; returns its rows. A durable one may be run twice.
        Raises StoreUnavailable."""

    async def run(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Do `work` in a transaction: durable on return, undone if it raises. Raises StoreUnavailable when the
        database cannot be written. PostgreSQL may run `work` again from its start: it changes only the database.

        Where it is not `durable`, all others see it on return, and a power cut may undo it: whole, and together with
        nothing that is durable. It waits for no disk.
        """

    def reader(self) -> Reader:
        """For reads beside its transactions, which see what it has committed. To be closed before it."""

    async def close(self) -> None:
        """Wait for the transaction under way, then give the connection back."""


class Notifier(Protocol):
    """The producer's side: hold one, and notify after every commit that added a delivery."""

    def notify(self) -> None:
        """Tell every relay on this database that there is something to do. Never fails."""

    def close(self) -> None:
        """Give its socket back."""


class Liveness(Protocol):
    """A process says that it lives, by a name, until it closes this or ends. That it has ended is known at once where
    all share one machine; elsewhere it has to be overdue."""

    @property
    def name(self) -> str:
        """A name that no other process has, or ever had."""

    def close(self) -> None:
        """It lives no longer, as far as others are concerned."""


class Listener(Protocol):
    """The listening side, one per relay. A lost notification costs a safety poll and nothing else."""

    @property
    def poll_seconds(self) -> float:
        """How long to hear nothing before asking all the same: a moment where a notification can be lost."""

    @property
    def hears(self) -> bool:
        """Whether notifications come through, as far as was seen since it was opened."""

    def check(self) -> None:
        """Raises StoreUnavailable while there is nothing to listen with: the session for it was refused, or lost."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class Hold(Protocol):
    """Keeps a database open for as long as this process works with it, and knows what is done to its log meanwhile."""

    def is_intact(self) -> bool:
        """Whether its log is still the one that was opened."""

    def close(self) -> None:
        """After all others are closed."""


@dataclass(frozen=True, slots=True)
class Files:
    """Bytes: of the database, of its log, and free on their disk; None: the database does not tell."""

    database: int
    log: int | None
    free: int | None


class Database(Protocol):
    """Where an outbox lives: a value that opens connections. What blocks is for threads without an event loop."""

    @property
    def url(self) -> str:
        """What names it in the configuration, secrets and all."""

    @property
    def name(self) -> str:
        """What to call it before people: its file, or its URL without what is secret."""

    @property
    def is_distant(self) -> bool:
        """Whether a statement is a journey to a server, and one that answers several questions is worth its length."""

    def beside(self, suffix: str) -> Path:
        """A file for what belongs to it and not into it, such as the token of its operators."""

    def migrate(self, rooms: Sequence[MigrationSet]) -> tuple[Migration, ...]:
        """Make the database, or bring it up to date; returns what was applied. Blocks.

        Raises SchemaError for one that is newer than this program, or changed by hand; StoreUnavailable.
        """

    def migration_script(self, rooms: Sequence[MigrationSet]) -> str:
        """The SQL that makes all of it where there is nothing yet, for people and for other tools. Asks nobody."""

    def schema(self, connection: Connection, room: MigrationSet) -> tuple[int, int]:
        """The number of the newest migration of a room that was applied (0: none), and of the newest there is."""

    def reading(self) -> AbstractContextManager[Connection]:
        """One snapshot, whose rows come by index and by name. Blocks. Raises StoreUnavailable, with words."""

    def writing(self) -> AbstractContextManager[Connection]:
        """One transaction, whose rows come by index and by name: durable once the block is left, undone if it raises.
        Blocks. Raises StoreUnavailable, with words."""

    def reader(self, *, slow: bool = False) -> Reader:
        """For reads out of an event loop, which have to be quick. Those of a `slow` one hold nobody up."""

    def body_reader(self) -> BodyReader:
        """For bodies that are too large to be read in an event loop."""

    def writer(self, busy_seconds: float = BUSY_SECONDS) -> Writer:
        """For transactions out of an event loop, one after another. `busy_seconds`: how long a lock is waited for."""

    def notifier(self) -> Notifier:
        """For a producer, who notifies after each commit."""

    def liveness(self) -> Liveness:
        """For whoever holds streams, or promises to end them."""

    def listener(self, *heard: asyncio.Event) -> Listener:
        """For a relay: a notification sets all of `heard`; whoever acts on one of them clears it."""

    def now(self) -> float:
        """Epoch seconds on the clock that decides what is due: this host's for a file, else the server's."""

    def files(self, connection: Connection) -> Files:
        """How many bytes it takes, and has left."""

    def identity(self) -> tuple[int, int] | None:
        """Which file stands in its place, (0, 0) where there is none. None for a server, which keeps its own."""

    def hold(self) -> Hold | None:
        """For whoever works with it for long. None for a server. Raises StoreUnavailable, with words."""

    def exposed(self) -> tuple[Path, ...]:
        """Its files that others than their owner and their group may read or write. It is for whoever starts to say so:
        an application of somebody else's may rely on it."""

    def tidy(self, connection: Connection) -> bool:
        """Give a little of what was freed back to the disk; returns whether there is more."""
