"""What of a request may reach the wire, and the head that it begins with."""

from __future__ import annotations

import re
from functools import lru_cache

from relay.guard.url import Target
from relay.policy.attempt import Envelope
from relay.policy.request_headers import Headers
from relay.transports import fault
from relay.transports.fault import Fault

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")
_LINE_BREAKING = re.compile(r"[\r\n\0]|[^\x00-\xff]")
# These frame the message or choose its receiver: a transport derives them from the target and the body alone.
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer"})


def flaw(target: Target, headers: Headers) -> str | None:
    """Why a request must not be sent, as the end of a sentence that names the header and never its value."""
    if _UNPRINTABLE.search(target.path):
        return "its path holds a space, a control character or a character that is not ASCII"
    for name, value in headers:
        if not _sendable(name):
            return f"header {name!r} has a name that cannot be sent"
        if _LINE_BREAKING.search(value):
            return f"header {name!r} has a value with a line break, a NUL or a character beyond Latin-1"
    return None


@lru_cache(maxsize=1024)
def _sendable(name: str) -> bool:
    return _TOKEN.fullmatch(name) is not None and name.lower() not in _OURS


def head(envelope: Envelope) -> bytes | Fault:
    """A whole HTTP/1.1 request head, ready to be followed by the envelope's body."""
    target = envelope.target
    sent = envelope.headers
    if target.authorization and not any(name.lower() == "authorization" for name, _ in sent):
        sent = (*sent, ("authorization", target.authorization))
    try:
        opening = _opening(envelope.method, target.path, target.scheme, target.host, target.port)
        names, values = zip(*sent, strict=True) if sent else ((), ())
        fields = _fields(names) % values
        encoded = f"{opening}{fields}\r\ncontent-length: {len(envelope.body)}\r\n\r\n".encode("latin-1")
    except ValueError:
        return _flawed(envelope)
    # Counting line ends is the cheapest proof that no value has brought its own.
    lines = len(values) + 4
    if encoded.count(b"\n") != lines or encoded.count(b"\r") != lines or b"\0" in encoded:
        return _flawed(envelope)
    return encoded


@lru_cache(maxsize=1024)
def _fields(names: tuple[str, ...]) -> str:
    """What is left to be filled in with the values."""
    if not all(map(_sendable, names)):
        raise ValueError(names)
    return "".join(f"\r\n{name.replace('%', '%%')}: %s" for name in names)


@lru_cache(maxsize=4096)
def _opening(method: str, path: str, scheme: str, host: str, port: int) -> str:
    """What all requests to one URL have in common."""
    if _UNPRINTABLE.search(path):
        raise ValueError(path)
    return f"{method} {path} HTTP/1.1\r\nhost: {Target(scheme, host, port, '/').authority}"


def _flawed(envelope: Envelope) -> Fault:
    return fault.unsendable(flaw(envelope.target, envelope.headers) or "its head cannot be encoded")
