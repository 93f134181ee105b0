"""The headers of a delivery's request, and what of them may be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import parse_qsl

from relay.guard.url import Target, without_secrets
from relay.outbox.model import Method
from relay.policy.attempt import Delivery
from relay.policy.signing import SigningKey, signature

Headers = tuple[tuple[str, str], ...]

# The query parameters by which S3, Azure and Google Cloud Storage recognise a presigned URL.
_PRESIGNED = frozenset({"x-amz-signature", "sig", "x-goog-signature"})
_PUT = Method.PUT
_KEPT_BYTES, _KEPT_VALUE = 4096, 512
_SECRET = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "webhook-signature", "www-authenticate"}
)


def headers(
    delivery: Delivery, target: Target, user_agent: str, body: bytes, keys: Sequence[SigningKey], now: float
) -> Headers:
    """All headers but those that frame the message (Host, Content-Length), which are the transport's."""
    sent = [("content-type", delivery.content_type), ("user-agent", user_agent)]
    if target.authorization:
        sent.append(("authorization", target.authorization))
    # A presigned signature covers the headers of the request: one that it does not know would break it.
    if not (delivery.method is _PUT and is_presigned(target)):
        _add_ours(sent, delivery)
        _add_signature(sent, delivery.id, body, keys, int(now))
    return tuple(sent)


def handshake(
    stream: int,
    key: str,
    target: Target,
    user_agent: str,
    asked: Mapping[str, str],
    keys: Sequence[SigningKey],
    now: float,
) -> Headers:
    """The headers that open a stream's WebSocket: its number, its key as the id, and what its producer `asked` for.

    The signature is over the id, the time and no body: it proves who calls. The messages that follow need none, since
    they come over the connection that it opened.
    """
    sent = [("user-agent", user_agent)]
    if target.authorization:
        sent.append(("authorization", target.authorization))
    sent += (("webhook-id", key), ("webhook-attempt", "1"), ("webhook-stream", str(stream)))
    sent += asked.items()
    _add_signature(sent, key, b"", keys, int(now))
    return tuple(sent)


@lru_cache(maxsize=4096)
def is_presigned(target: Target) -> bool:
    """Whether this is a presigned URL, to which nothing unexpected may be uploaded."""
    query = target.path.partition("?")[2]
    names = {name.lower() for name, _ in parse_qsl(query, keep_blank_values=True)}
    return not names.isdisjoint(_PRESIGNED)


def redacted(headers: Headers) -> Headers:
    """The same headers, fit to be kept: credentials, cookies and signatures by name only."""
    return tuple([(name, "[redacted]" if _is_secret(name) else without_secrets(value)) for name, value in headers])


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return name.lower() in _SECRET


def kept(headers: Headers) -> Headers:
    """What is kept of the headers that a receiver chose: redacted, each cut short, and as many as fit in 4 KiB."""
    room = _KEPT_BYTES
    fitting: list[tuple[str, str]] = []
    for name, value in redacted(headers):
        cut = name[:_KEPT_VALUE], value if len(value) <= _KEPT_VALUE else value[:_KEPT_VALUE] + "..."
        room -= len(cut[0]) + len(cut[1])
        if room < 0:
            return (*fitting, ("...", f"{len(headers) - len(fitting)} more"))
        fitting.append(cut)
    return tuple(fitting)


def _add_ours(sent: list[tuple[str, str]], delivery: Delivery) -> None:
    sent += (("webhook-id", delivery.id), ("webhook-attempt", str(delivery.number)))
    if delivery.position is not None:
        # A key may be used again once its stream is forgotten: the stream's number says which one the position is of.
        sent += (("webhook-stream", str(delivery.stream_id)), ("webhook-sequence", str(delivery.position)))
    if delivery.traceparent:
        sent.append(("traceparent", delivery.traceparent))
    sent += delivery.headers.items()


def _add_signature(
    sent: list[tuple[str, str]], delivery_id: str, body: bytes, keys: Sequence[SigningKey], timestamp: int
) -> None:
    sent.append(("webhook-timestamp", str(timestamp)))
    if keys:
        sent.append(("webhook-signature", signature(keys, delivery_id, timestamp, body)))
