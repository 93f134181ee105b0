"""API keys: who may call. A key is shown once, when it is made; only its SHA-256 is kept, beside a public id.

A key is `osk_<id>_<secret>`: the id finds the row, the secret is 256 random bits, so a plain hash is enough. A token
that a key grants for a while is `osg_<id>_<expiry>_<signature>`: signed with that hash, it is good on every engine of
the database, until the key is removed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Any

from engine.errors import EngineError
from relay.outbox.store import Database

_KEY = re.compile(r"osk_(?P<id>[0-9a-f]{16})_[0-9a-f]{64}")
_GRANT = re.compile(r"osg_(?P<id>[0-9a-f]{16})_(?P<expires>[0-9]{1,12})_[0-9a-f]{64}")
_NAME = re.compile(r"[\w.@:+-][\w.@:+ -]{0,63}")

_SHORTEST_BEGINNING = 4

_ANY = "SELECT EXISTS (SELECT 1 FROM outspoken_api_keys)"
_FIND = "SELECT sha256 FROM outspoken_api_keys WHERE id = ?"
_LIST = "SELECT id, name, created_at, max_queued, max_running FROM outspoken_api_keys ORDER BY name"
_ADD = (
    "INSERT INTO outspoken_api_keys (id, name, sha256, created_at, max_queued, max_running) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (name) DO NOTHING"
)
_REMOVE = "DELETE FROM outspoken_api_keys WHERE id = ?"
_COUNT = "SELECT count(*) FROM outspoken_api_keys"


@dataclass(frozen=True, slots=True)
class Key:
    """What may be shown of a key. `id` is public: receivers get it as `dg-token`. `max_queued` bounds the jobs that it
    may have waiting (None: the settings' bound), `max_running` those at work at once (None: no bound)."""

    id: str
    name: str
    created_at: float
    max_queued: int | None = None
    max_running: int | None = None


def add(database: Database, name: str, *, max_queued: int | None = None, max_running: int | None = None) -> str:
    """Make a key and return it, for the only time. EngineError for a name that is taken or cannot be one, and for a
    bound below one."""
    if not _NAME.fullmatch(name):
        raise EngineError(f"name: {name!r} cannot name a key; use 1 to 64 letters, digits, spaces and . _ @ : + -")
    for field, bound in (("max-queued", max_queued), ("max-running", max_running)):
        if bound is not None and bound < 1:
            raise EngineError(f"{field}: {bound} lets nothing through; give at least 1, or remove the key instead")
    key_id = secrets.token_hex(8)
    key = f"osk_{key_id}_{secrets.token_hex(32)}"
    with database.writing() as connection:
        values = (key_id, name, _hash(key), database.now(), max_queued, max_running)
        added = connection.execute(_ADD, values).rowcount
    if not added:
        raise EngineError(f"name: a key named {name!r} exists; choose another, or remove that one first")
    return key


def remove(database: Database, name: str) -> None:
    """Revoke a key by its name or its public id, or by as much of that as no other begins with, from the next request
    on. EngineError when there is none, or more than one."""
    with database.writing() as connection:
        keys = [Key(*row) for row in connection.execute(_LIST)]
        found = [key for key in keys if name in (key.name, key.id)] or [key for key in keys if _begins(key.id, name)]
        if not found:
            raise EngineError(f"name: there is no key named {name!r}; `engine keys list` shows those there are")
        if len(found) > 1:
            which = ", ".join(f"{key.id} ({key.name})" for key in found)
            raise EngineError(f"name: {name!r} is how several ids begin: {which}")
        connection.execute(_REMOVE, (found[0].id,))


def _begins(key_id: str, beginning: str) -> bool:
    """Nothing at all, as from a script whose variable is empty, begins no id."""
    return len(beginning) >= _SHORTEST_BEGINNING and key_id.startswith(beginning)


def count(database: Database) -> int:
    """How many there are: while there is none, and the engine listens on loopback, everybody may call."""
    with database.reading() as connection:
        return int(connection.execute(_COUNT).fetchone()[0])


def all_keys(database: Database) -> tuple[Key, ...]:
    """Every key, by name."""
    with database.reading() as connection:
        return tuple(Key(*row) for row in connection.execute(_LIST))


class ApiKeys:
    """Who may call. It asks the database every time (some 10 us with SQLite), so that a new key or a removed one counts
    at once."""

    def __init__(self, database: Database, *, open_without_keys: bool) -> None:
        """`open_without_keys`: whether everybody may call while there are no keys; only ever true on loopback."""
        self._reader = database.reader()
        self._now = database.now
        self._open_without_keys = open_without_keys

    async def required(self) -> bool:
        """Whether a caller needs a key. Raises StoreUnavailable when the database cannot be asked."""
        return not self._open_without_keys or await self.exist()

    async def exist(self) -> bool:
        """Whether there is any key at all. Raises StoreUnavailable."""
        return bool((await self._row(_ANY))[0])

    async def key_id(self, secret: str) -> str | None:
        """The public id of a caller's key; None for anything that is not a key of ours."""
        match = _KEY.fullmatch(secret)
        if match is None:
            return None
        row = await self._row(_FIND, match["id"])
        return match["id"] if row and hmac.compare_digest(row[0], _hash(secret)) else None

    async def grant(self, key_id: str | None, seconds: int) -> str:
        """A token for the key that is good for so long. Where no key is required none is looked at, so anything will
        do. Raises StoreUnavailable."""
        row = await self._row(_FIND, key_id) if key_id else None
        return _grant(key_id or "", int(self._now()) + seconds, row[0] if row else secrets.token_bytes(32))

    async def granted(self, token: str) -> str | None:
        """The public id of the key that granted a token; None for one that has expired, or is none."""
        match = _GRANT.fullmatch(token)
        if match is None or self._now() >= int(match["expires"]):
            return None
        row = await self._row(_FIND, match["id"])
        true = row and hmac.compare_digest(_grant(match["id"], int(match["expires"]), row[0]), token)
        return match["id"] if true else None

    async def _row(self, sql: str, *values: str) -> Any:
        return await self._reader.run(lambda connection: connection.execute(sql, values).fetchone())

    async def close(self) -> None:
        await self._reader.close()


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _grant(key_id: str, expires: int, sha256: bytes) -> str:
    signed = hmac.new(sha256, f"grant.{key_id}.{expires}".encode(), hashlib.sha256).hexdigest()
    return f"osg_{key_id}_{expires}_{signed}"
