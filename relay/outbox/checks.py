"""Whether a delivery can be kept, and sent: each refusal names its field, and says what is expected. Pure.

The SQL functions say the same, in the same words. Whoever hands in what is as it should be pays for one look at each
field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set, Sized
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

from relay.guard.rules import ANYWHERE, Refusal
from relay.guard.url import LIVE, PRE_RECORDED, read
from relay.outbox.errors import DuplicateDelivery, InvalidDelivery
from relay.outbox.model import NewDelivery, Stream

LATEST = 253402300799.0
"""The last second of the year 9999, in epoch seconds: what comes after it has no date."""

MOST_BYTES = 64 * 1024 * 1024
"""How large the bodies of one batch may be, together."""

LONGEST_OWNER = 128
_LONGEST_NAME, _LONGEST_ID, _LONGEST_KEY, _MOST_TAGS = 128, 256, 256, 20
_HIGHEST_PRIORITY = 100
_SCHEDULES = (None, "fixed", "exponential")
_SOCKETS = LIVE - PRE_RECORDED

# A URL without credentials, in which nothing hangs on what stands behind its authority: many have the same beginning.
_PLAIN_URL = re.compile(r"([A-Za-z]+://[^/?#@\\]*)(?:[/?#][!-?A-\[\]-~]*)?")
_LONGEST_PLAIN_URL = 4096
_CREDENTIALS = re.compile(r"[^/]*//[^/?#]*@")

_ID = re.compile(r"[!-~](?:[ -~]{0,254}[!-~])?")
_PRINTABLE = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 (as HTTP calls it)
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN} *(?:;[\t -~]*)?")
_TRACEPARENT = re.compile(r"(?:[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]*)?)?")
_HEADER_NAME = re.compile(_TOKEN)
_UNFIT_VALUE = re.compile(r"[^\t -~\xa0-\xff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# What frames the message, chooses its receiver, or is said by the relay.
_RELAYS = re.compile(
    r"host|content-length|transfer-encoding|connection|keep-alive|proxy-connection|expect|upgrade|te|trailer|user-agent"
    r"|webhook-.*|sec-websocket-.*",
    re.IGNORECASE,
)


class CallbackTarget(NamedTuple):
    """What of a URL a producer has to know."""

    origin: str
    scheme: str

    @property
    def is_socket(self) -> bool:
        return self.scheme in _SOCKETS


def check(delivery: NewDelivery) -> CallbackTarget:
    """Where a delivery goes. Raises InvalidDelivery for one that could not be kept or sent."""
    check_id(delivery.id)
    target = target_of(delivery.url)
    if not _MEDIA_TYPE.fullmatch(delivery.content_type):
        raise _unfit("content_type", delivery.content_type, "expected a media type, such as application/json")
    if delivery.headers:
        check_headers(delivery.headers, delivery.url, traced=True)
    if delivery.traceparent is not None and not _TRACEPARENT.fullmatch(delivery.traceparent):
        words = "expected what W3C Trace Context says, 00-TRACE-PARENT-FLAGS in lower-case hexadecimal"
        raise _unfit("traceparent", delivery.traceparent, words)
    if delivery.schedule not in _SCHEDULES:
        raise _unfit("schedule", delivery.schedule or "", 'expected "fixed", "exponential" or None')
    if delivery.idempotency_key is not None:
        _check_key(delivery.idempotency_key)
    if delivery.due_at is not None:
        _check_due_at(delivery)
    if delivery.tags:
        _check_tags(delivery.tags)
    if delivery.owner or delivery.priority:
        _check_turn(delivery)
    if delivery.stream is not None:
        check_stream(delivery.stream)
    if target.is_socket:
        _check_message(delivery)
        if delivery.stream is not None:
            check_socket(delivery.stream)
    return target


def check_many(deliveries: Sequence[NewDelivery]) -> list[CallbackTarget]:
    """Where those of a batch go. Raises InvalidDelivery, which says at which place what is unfit."""
    targets: list[CallbackTarget] = []
    size = 0
    with behind(targets):
        for delivery in deliveries:
            target = check(delivery)
            if delivery.stream is not None:
                raise InvalidDelivery("stream: deliveries of a stream are added one by one: use add")
            targets.append(target)
            size += len(delivery.body)
    if size > MOST_BYTES:
        raise InvalidDelivery(f"deliveries: their bodies have {size} bytes: add at most {MOST_BYTES} at once")
    return targets


@contextmanager
def behind(done: Sized) -> Iterator[None]:
    """What is refused is said to be at the place of a batch that comes after those that are done, from 0."""
    try:
        yield
    except InvalidDelivery as error:
        raise InvalidDelivery(f"deliveries[{len(done)}].{error}") from error
    except DuplicateDelivery as error:
        raise DuplicateDelivery(f"deliveries[{len(done)}]: {error}") from error


def check_id(text: str) -> None:
    """It is sent as a header."""
    if _ID.fullmatch(text):
        return
    if text and not _PRINTABLE.fullmatch(text):
        words = "expected printable ASCII, without spaces around it: receivers get it as a header"
        raise _unfit("id", text, words)
    _check_length("id", text, _LONGEST_ID)


def check_stream(stream: Stream) -> None:
    """It can be kept."""
    _require_storable("stream", stream.key)
    _check_length("stream", stream.key, _LONGEST_NAME)
    _require_storable("producer", stream.producer or "")


def check_socket(stream: Stream) -> None:
    """The handshake of a stream to ws or wss sends its key."""
    if not _PRINTABLE.fullmatch(stream.key):
        words = "expected printable ASCII, without spaces around it: the handshake of a WebSocket sends it"
        raise InvalidDelivery(f"stream: {words}")


def check_headers(headers: Mapping[str, str], url: str, *, traced: bool) -> None:
    """Those of a request to that URL. `traced`: there is a field for the trace."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            words = "a name is one or more of the letters, digits and !#$%&'*+-.^_`|~"
            raise _unfit("headers", name, words)
        if _UNFIT_VALUE.search(value):
            if not is_storable(value):
                raise _unfit("headers", value, "")
            words = "its value holds a control character, or one beyond Latin-1"
            raise InvalidDelivery(f"headers.{name}: {words}")
        if overlap := _overlap(name, url, traced=traced):
            raise InvalidDelivery(f"headers.{name}: {overlap}")


def is_storable(text: str) -> bool:
    """Whether both databases can keep a text: no U+0000, and no half of a surrogate pair."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def target_of(url: str) -> CallbackTarget:
    """Raises InvalidDelivery for a URL that leads nowhere."""
    plain = _PLAIN_URL.fullmatch(url) if len(url) <= _LONGEST_PLAIN_URL else None
    found = _plain_place(plain[1]) if plain else _read(url)
    if isinstance(found, Refusal):
        raise _unfit("url", url, found.message)
    return found


@lru_cache(maxsize=1024)
def _plain_place(beginning: str) -> CallbackTarget | Refusal:
    return _read(f"{beginning}/")


def _read(url: str) -> CallbackTarget | Refusal:
    target = read(url, ANYWHERE, LIVE)
    return target if isinstance(target, Refusal) else CallbackTarget(target.origin, target.scheme)


@lru_cache(maxsize=256)
def _reserved(name: str) -> str | None:
    """Why no producer may set a header."""
    if _RELAYS.fullmatch(name):
        return "it is set by the relay: leave it out"
    return "use content_type" if name.lower() == "content-type" else None


def _overlap(name: str, url: str, *, traced: bool) -> str | None:
    if words := _reserved(name):
        return words
    if traced and name.lower() == "traceparent":
        return "use traceparent"
    if name.lower() == "authorization" and _CREDENTIALS.match(url):
        return "the URL brings credentials of its own: leave one of the two out"
    return None


def _check_turn(delivery: NewDelivery) -> None:
    _require_storable("owner", delivery.owner)
    if len(delivery.owner) > LONGEST_OWNER:
        raise InvalidDelivery(f"owner: expected 0 to {LONGEST_OWNER} characters, got {len(delivery.owner)}")
    if abs(delivery.priority) > _HIGHEST_PRIORITY:
        raise InvalidDelivery(f"priority: expected -{_HIGHEST_PRIORITY} to {_HIGHEST_PRIORITY}")


def _check_due_at(delivery: NewDelivery) -> None:
    if delivery.stream is not None:
        words = "a delivery of a stream is due when the one before it has ended: leave one of the two out"
        raise InvalidDelivery(f"due_at: {words}")
    if not isinstance(delivery.due_at, float) or not 0 <= delivery.due_at <= LATEST:
        raise InvalidDelivery("due_at: expected a time from 1970 to 9999")


def _check_key(key: str) -> None:
    if not 1 <= len(key) <= _LONGEST_KEY or _CONTROL.search(key) or not is_storable(key):
        words = f"expected 1 to {_LONGEST_KEY} characters, none of them a control character"
        raise _unfit("idempotency_key", key, words)


def _check_tags(tags: Set[str]) -> None:
    if len(tags) > _MOST_TAGS:
        raise InvalidDelivery(f"tags: expected at most {_MOST_TAGS}, got {len(tags)}")
    for tag in tags:
        if not 1 <= len(tag) <= _LONGEST_NAME or _CONTROL.search(tag) or not is_storable(tag):
            words = f"expected 1 to {_LONGEST_NAME} characters each, none of them a control character"
            raise _unfit("tags", tag, words)


def _check_message(delivery: NewDelivery) -> None:
    if delivery.stream is None:
        raise InvalidDelivery("stream: a delivery to a WebSocket is one message of a stream: name it")
    try:
        delivery.body.decode()
    except UnicodeDecodeError as error:
        raise InvalidDelivery("body: a WebSocket's message is text: it has to be UTF-8") from error


def _check_length(field: str, text: str, most: int) -> None:
    if not 1 <= len(text) <= most:
        raise InvalidDelivery(f"{field}: expected 1 to {most} characters, got {len(text)}")


def _require_storable(field: str, text: str) -> None:
    if not is_storable(text):
        raise _unfit(field, text, "")


def _unfit(field: str, text: str, words: str) -> InvalidDelivery:
    """What no database can keep is named first: it could not even be said why else it is unfit."""
    if not is_storable(text):
        words = "U+0000 and lone surrogates cannot be kept: leave them out"
    return InvalidDelivery(f"{field}: {words}")
