"""The keys that sign deliveries: made, listed without their secrets, replaced with an overlap, retired.

A destination with keys of its own is signed for with those; every other with the global ones. The relay looks at every
attempt, so a new key signs at once.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any

from relay.admin import audit
from relay.admin.access import NotFound, Refused, acting, reading
from relay.admin.audit import Actor
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database
from relay.policy.signing import PrivateKey, SigningKey, parse_key

_KEYS = statement("keys", __package__)
_RETIRE = statement("retire_key", __package__)
_LOCK = statement("lock_keys", __package__)
_INSERT = "INSERT INTO outspoken_signing_keys (origin, key, created_at) VALUES (:origin, :key, :now) RETURNING id"

OVERLAP = 86400.0


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key without its secret. `destination` None: it signs for all that have none of their own.

    `kind` is v1 (shared secret) or v1a (ed25519); `fingerprint` the start of the secret's SHA-256, by which two people
    can tell that they hold the same one; `public` what receivers verify v1a with. Times are epoch seconds.
    """

    id: int
    destination: str | None
    kind: str
    fingerprint: str
    public: str | None
    created_at: float
    retires_at: float | None

    def signs(self, now: float) -> bool:
        return self.retires_at is None or self.retires_at > now


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made. `handover` is what the receiver needs, and is never shown again."""

    info: KeyInfo
    handover: str = field(repr=False)
    retiring: tuple[int, ...] = ()


def generate(*, ed25519: bool = False) -> str:
    """A new key in its written form: 32 random bytes."""
    return ("whsk_" if ed25519 else "whsec_") + base64.b64encode(secrets.token_bytes(32)).decode()


def keys(database: Database) -> tuple[KeyInfo, ...]:
    """All keys that are kept, the oldest first."""
    with reading(database) as connection:
        return tuple(_info(row) for row in connection.execute(_KEYS))


def active(database: Database, origin: str | None, now: float) -> tuple[SigningKey, ...]:
    """The keys themselves that sign for a destination now: its own, or else the global ones."""
    with reading(database) as connection:
        rows = [row for row in connection.execute(_KEYS) if _info(row).signs(now)]
    own = [row for row in rows if origin and row["destination"] == origin]
    return tuple(parse_key(row["key"]) for row in own or [row for row in rows if row["destination"] is None])


def add(database: Database, key: str, origin: str | None, actor: Actor, now: float) -> NewKey:
    """Sign with one more key. Raises Refused for a malformed one, or one that signs there already."""
    with acting(database) as connection:
        connection.execute(_LOCK)
        return _add(connection, key, origin, actor, now, "key.add")


def rotate(
    database: Database, key: str, origin: str | None, actor: Actor, now: float, overlap: float = OVERLAP
) -> NewKey:
    """Sign with a new key, and for `overlap` seconds with those it replaces: the ones of the same scope and kind."""
    with acting(database) as connection:
        connection.execute(_LOCK)
        before = tuple(_info(row) for row in connection.execute(_KEYS))
        new = _add(connection, key, origin, actor, now, "key.rotate")
        replaced = [
            info.id for info in before if (info.destination, info.kind) == (origin, new.info.kind) and info.signs(now)
        ]
        for id_ in replaced:
            connection.execute(_RETIRE, {"id": id_, "at": now + overlap})
        return NewKey(new.info, new.handover, tuple(replaced))


def retire(
    database: Database, id_: int, actor: Actor, now: float, *, after: float = 0.0, force: bool = False
) -> KeyInfo:
    """Let a key sign no more after so many seconds. Raises NotFound, and Refused for the last one of its scope unless
    forced: what receivers verify would come unsigned, or signed by other keys."""
    with acting(database) as connection:
        connection.execute(_LOCK)
        infos = [_info(row) for row in connection.execute(_KEYS)]
        info = next((info for info in infos if info.id == id_), None)
        if info is None:
            raise NotFound(f"no key {id_}")
        others = [o for o in infos if o.destination == info.destination and o.id != id_ and o.retires_at is None]
        if not others and not force:
            raise Refused(f"key {id_} is the last one that signs there: `relay keys rotate` replaces it")
        connection.execute(_RETIRE, {"id": id_, "at": now + after})
        audit.note(connection, actor, "key.retire", now, key=id_, fingerprint=info.fingerprint, at=now + after)
        return next(_info(row) for row in connection.execute(_KEYS) if row["id"] == id_)


def _add(connection: Connection, key: str, origin: str | None, actor: Actor, now: float, act: str) -> NewKey:
    try:
        parsed = parse_key(key)
    except ValueError as error:
        raise Refused(f"key: {error}") from None
    present = [_info(row) for row in connection.execute(_KEYS)]
    if any(o.fingerprint == _fingerprint(key) and o.destination == origin and o.signs(now) for o in present):
        raise Refused("key: it signs there already")
    id_ = connection.execute(_INSERT, {"origin": origin, "key": key, "now": now}).fetchone()[0]
    audit.note(connection, actor, act, now, key=id_, fingerprint=_fingerprint(key), destination=origin)
    info = next(_info(row) for row in connection.execute(_KEYS) if row["id"] == id_)
    return NewKey(info, parsed.public if isinstance(parsed, PrivateKey) else key)


def _info(row: Any) -> KeyInfo:
    key = parse_key(row["key"])
    return KeyInfo(
        row["id"],
        row["destination"],
        "v1a" if isinstance(key, PrivateKey) else "v1",
        _fingerprint(row["key"]),
        key.public if isinstance(key, PrivateKey) else None,
        row["created_at"],
        row["retires_at"],
    )


def _fingerprint(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:12]
