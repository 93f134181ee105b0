"""Who may operate the relay over HTTP: whoever holds the token, and whoever a browser session was opened for with it.

The token is made at the first start, into a file that only its owner may read, or stands in the configuration. In
memory there is its hash alone. A session is a signed cookie, so that it outlives a restart and ends with the token.
Whoever can read the token can also hand out a ticket: a link that opens one session, once; and to owners of deliveries
keys by which each sees its own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

from relay.outbox.errors import ConfigError
from relay.service.disk import sync

LEAST_TOKEN = 16
SESSION_SECONDS = 12 * 3600.0
TICKET_SECONDS = 900.0
OWNER_KEY_SECONDS = 90 * 86400.0
_NAME_LENGTH = 64


class Authenticator:
    """Tells those who hold the token from those who do not."""

    def __init__(self, token: str) -> None:
        self._digest = _digest(token)
        self._key = hmac.digest(self._digest, b"relay console session", "sha256")
        self._ticket_key = hmac.digest(self._digest, b"relay console ticket", "sha256")
        self._owners_key = hmac.digest(self._digest, b"relay key of an owner", "sha256")
        self._spent: dict[str, float] = {}

    def admits(self, token: str) -> bool:
        """Compared in constant time, so that it cannot be found out letter by letter."""
        return hmac.compare_digest(_digest(token), self._digest)

    def session(self, name: str, now: float) -> str:
        """A cookie's value, for somebody who showed the token and goes by this name; good for 12 hours."""
        return _signed(self._key, name, now + SESSION_SECONDS)

    def visitor(self, session: str, now: float) -> str | None:
        """The name that the session was opened for; None for a forged, foreign or expired one."""
        return _name_in(self._key, session, now)

    def ticket(self, name: str, now: float) -> str:
        """What opens a session for somebody of this name without the token: once, within a quarter of an hour."""
        return _signed(self._ticket_key, name, now + TICKET_SECONDS, secrets.token_urlsafe(9))

    def redeem(self, ticket: str, now: float) -> str | None:
        """The name that a ticket was made for; None for a forged, expired or spent one. It is spent by that."""
        name = _name_in(self._ticket_key, ticket, now)
        self._spent = {spent: until for spent, until in self._spent.items() if until > now}
        if name is None or ticket in self._spent:
            return None
        self._spent[ticket] = now + TICKET_SECONDS
        return name

    def owner_key(self, owner: str, until: float) -> str:
        """By which whoever holds it sees the deliveries of one owner, until then; it ends with the token too."""
        return _signed(self._owners_key, owner, until)

    def owner(self, key: str, now: float) -> str | None:
        """Whose deliveries a key shows; None for a forged, foreign or expired one."""
        return _name_in(self._owners_key, key, now)


def _signed(key: bytes, name: str, until: float, *more: str) -> str:
    said = ".".join((str(int(until)), base64.urlsafe_b64encode(name.encode()).decode(), *more))
    return f"{said}.{_signature(key, said)}"


def _name_in(key: bytes, text: str, now: float) -> str | None:
    said, _, signature = text.rpartition(".")
    if not hmac.compare_digest(signature.encode(errors="replace"), _signature(key, said).encode()):
        return None
    until, name = said.split(".")[:2]
    return base64.urlsafe_b64decode(name).decode() if float(until) > now else None


def _signature(key: bytes, said: str) -> str:
    return hmac.new(key, said.encode(errors="replace"), hashlib.sha256).hexdigest()


def proper_name(text: str, otherwise: str) -> str:
    """How somebody is called in the audit: what they say, if it is a printable word or two."""
    name = text.strip()
    return name if name and name.isprintable() and len(name) <= _NAME_LENGTH else otherwise


def token_of(configured: str, file: Path) -> str:
    """The configured token, or the one in the file, which is made if it is not there.

    Raises ConfigError for a short token, and for a file that others may read.
    """
    if configured:
        return _long_enough(configured, "relay.admin.token")
    try:
        if not file.exists():
            _make(file)
        return _read(file)
    except OSError as error:
        raise ConfigError(
            f"relay.admin.token_file: {file}: {error.strerror or error}; name a file that can be written"
        ) from error


def _read(file: Path) -> str:
    if stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise ConfigError(f"relay.admin.token_file: others may read {file}: chmod 600 {file}")
    return _long_enough(file.read_text("utf-8").strip(), f"relay.admin.token_file: {file}")


def _make(file: Path) -> None:
    """All at once or not at all: another relay may start at the same moment."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as writer:
        writer.write(secrets.token_urlsafe(32) + "\n")
    try:
        sync(temporary)  # or a power cut would leave an empty one, with which no relay starts
        with suppress(FileExistsError):
            file.hardlink_to(temporary)
        sync(file.parent)
    finally:
        temporary.unlink()


def _long_enough(token: str, where: str) -> str:
    if len(token) < LEAST_TOKEN:
        raise ConfigError(
            f"{where}: a token has at least {LEAST_TOKEN} characters; `openssl rand -base64 32` makes a good one"
        )
    return token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()


def login_url(host: str, port: int, ticket: str) -> str:
    """The link by which the ticket lets a browser on this machine into the console that is served there."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (where everybody is listened to)
    authority = f"[{here}]" if ":" in here else here
    return f"http://{authority}:{port}/login?{urlencode({'ticket': ticket})}"
