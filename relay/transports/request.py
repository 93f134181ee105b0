"""What of an envelope may reach the wire, whichever transport carries it."""

from __future__ import annotations

import re
from functools import lru_cache

from relay.model import Envelope

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")
_LINE_BREAKING = re.compile(r"[\r\n\0]|[^\x00-\xff]")
# These frame the message or choose its receiver: a transport derives them from the target and the body alone.
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer"})


def flaw(envelope: Envelope) -> str | None:
    """Why an envelope must not be sent, as the end of a sentence that names the header and never its value."""
    if _UNPRINTABLE.search(envelope.target.path):
        return "its path holds a space, a control character or a character that is not ASCII"
    for name, value in envelope.headers:
        if not _sendable(name):
            return f"header {name!r} has a name that cannot be sent"
        if _LINE_BREAKING.search(value):
            return f"header {name!r} has a value with a line break, a NUL or a character beyond Latin-1"
    return None


@lru_cache(maxsize=1024)
def _sendable(name: str) -> bool:
    return _TOKEN.fullmatch(name) is not None and name.lower() not in _OURS


def headers(envelope: Envelope) -> tuple[tuple[str, str], ...]:
    """The envelope's headers, with the target's credential unless the envelope has one of its own."""
    credential = envelope.target.authorization
    if credential is None or any(name.lower() == "authorization" for name, _ in envelope.headers):
        return envelope.headers
    return (*envelope.headers, ("authorization", credential))
