"""Who may operate the relay over HTTP: whoever holds the token, and whoever a browser session was opened for with it.

The token is made at the first start, into a file that only its owner may read, or stands in the configuration. In
memory there is its hash alone. A session is a signed cookie, so that it outlives a restart and ends with the token.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from relay.outbox.errors import ConfigError

LEAST_TOKEN = 16
SESSION_SECONDS = 12 * 3600.0
_NAME_LENGTH = 64


class Gate:
    """Tells those who hold the token from those who do not."""

    def __init__(self, token: str) -> None:
        self._digest = _digest(token)
        self._key = hmac.digest(self._digest, b"relay console session", "sha256")

    def admits(self, token: str) -> bool:
        """Compared in constant time, so that it cannot be found out letter by letter."""
        return hmac.compare_digest(_digest(token), self._digest)

    def session(self, name: str, now: float) -> str:
        """A cookie's value, for somebody who showed the token and goes by this name; good for 12 hours."""
        said = f"{int(now + SESSION_SECONDS)}.{base64.urlsafe_b64encode(name.encode()).decode()}"
        return f"{said}.{self._sign(said)}"

    def visitor(self, session: str, now: float) -> str | None:
        """The name that the session was opened for; None for a forged, foreign or expired one."""
        said, _, signature = session.rpartition(".")
        if not hmac.compare_digest(signature.encode(errors="replace"), self._sign(said).encode()):
            return None
        until, _, name = said.partition(".")
        with suppress(ValueError, binascii.Error):
            if float(until) > now:
                return base64.urlsafe_b64decode(name).decode()
        return None

    def _sign(self, said: str) -> str:
        return hmac.new(self._key, said.encode(errors="replace"), hashlib.sha256).hexdigest()


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
        with suppress(FileExistsError):
            file.hardlink_to(temporary)
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
