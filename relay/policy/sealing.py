"""The headers of a delivery's request."""

from __future__ import annotations

from urllib.parse import parse_qsl

from relay.model import Delivery, Method, Target

Headers = tuple[tuple[str, str], ...]

# The query parameters by which S3, Azure and Google Cloud Storage recognise a presigned URL.
_PRESIGNED = frozenset({"x-amz-signature", "sig", "x-goog-signature"})


def headers(delivery: Delivery, target: Target, user_agent: str) -> Headers:
    """All headers but those that frame the message (Host, Content-Length), which are the transport's."""
    plain = (("content-type", delivery.content_type), ("user-agent", user_agent), *_credentials(target))
    # A presigned signature covers the headers of the request: one that it does not know would break it.
    return plain if is_presigned(delivery.method, target) else plain + _ours(delivery)


def is_presigned(method: Method, target: Target) -> bool:
    """Whether this is an upload to a presigned URL, which must carry nothing unexpected."""
    query = target.path.partition("?")[2]
    names = {name.lower() for name, _ in parse_qsl(query, keep_blank_values=True)}
    return method is Method.PUT and not names.isdisjoint(_PRESIGNED)


def _credentials(target: Target) -> Headers:
    return (("authorization", target.authorization),) if target.authorization else ()


def _ours(delivery: Delivery) -> Headers:
    traceparent = (("traceparent", delivery.traceparent),) if delivery.traceparent else ()
    identity = (("webhook-id", delivery.id), ("webhook-attempt", str(delivery.number)))
    return (*identity, *traceparent, *delivery.headers.items())
