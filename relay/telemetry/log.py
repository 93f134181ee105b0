"""Log lines: structlog JSON, one event name per fact, and nothing in them that a receiver or caller keeps secret."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import IO, Any, Literal

import orjson
import structlog

from relay.model import Attempted, Dead, Delivered, Outcome, Retry
from relay.policy.outcome import remedy_for_413

Event = MutableMapping[str, Any]

_SECRET_KEYS = frozenset(
    {"authorization", "api_key", "key", "secret", "token", "password", "url", "callback", "signature"}
)
_USERINFO_OR_QUERY = re.compile(r"(?P<scheme>\b\w+://)(?:[^\s/?#]*@)?(?P<rest>[^\s?#'\"]*)(?:[?#][^\s'\"]*)?")


def configure(level: str, style: Literal["json", "console"], service: str) -> None:
    """Send every log line of this process to standard output, one a line. `level` is a standard level name."""
    render: Any = structlog.processors.JSONRenderer(serializer=_serialise)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _stamp(service),
            structlog.processors.format_exc_info,
            redact,
            render if style == "json" else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.BytesLoggerFactory(_Unfailing(sys.stdout.buffer))  # type: ignore[arg-type]
        if style == "json"
        else structlog.PrintLoggerFactory(_Unfailing(sys.stdout)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )


class _Unfailing:
    """Standard output that may be a closed pipe or stand on a full disk: that costs a line, and never a delivery."""

    def __init__(self, stream: IO[Any]) -> None:
        self._stream = stream

    def write(self, line: Any) -> None:
        with suppress(OSError, ValueError):  # ValueError: closed, or text that it cannot encode
            self._stream.write(line)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def _serialise(event: Event, **_: object) -> bytes:
    try:
        return orjson.dumps(event, default=str)
    except TypeError:  # half a surrogate pair, as a receiver's header may become: it stands escaped in the line
        return json.dumps(event, default=str).encode()


def _stamp(service: str) -> Any:
    def add_service(_: object, __: str, event: Event) -> Event:
        event["service"] = service
        return event

    return add_service


def redact(_: object, __: str, event: Event) -> Event:
    """Strip what may be secret: known keys altogether, userinfo and query of every URL in a text."""
    for key, value in event.items():
        if key.lower() in _SECRET_KEYS:
            event[key] = "[redacted]"
        elif isinstance(value, str) and "://" in value:
            event[key] = _USERINFO_OR_QUERY.sub(r"\g<scheme>\g<rest>", value)
    return event


Line = dict[str, object]


class AttemptLog:
    """Writes one canonical line for each attempt, and one more for a 413.

    As JSON, the lines of a batch are rendered by orjson alone and written at once, in the shape that structlog would
    give them: with thousands of attempts a second, its chain of processors would cost more than the deliveries.
    """

    def __init__(self, level: str, style: Literal["json", "console"], service: str) -> None:
        self._log = structlog.get_logger()
        self._least = logging.getLevelNamesMapping()[level.upper()]
        self._stamps: Line = {"service": service}
        self._stream = _Unfailing(sys.stdout.buffer) if style == "json" else None

    def __call__(self, attempts: Sequence[Attempted]) -> None:
        """Hear of settled attempts."""
        levels = ((attempt, logging.INFO if _is_well(attempt) else logging.WARNING) for attempt in attempts)
        wanted = [(attempt, level) for attempt, level in levels if level >= self._least]
        if self._stream is None:
            for attempt, level in wanted:
                self._log.log(level, _FINISHED, **_canonical(attempt))
        elif wanted:
            self._write(self._stream, wanted)
        for attempt in attempts:
            if attempt.outcome is Outcome.HTTP_413:
                self._log.warning("delivery.attempt.too_large", **_too_large(attempt))

    def _write(self, stream: _Unfailing, wanted: Sequence[tuple[Attempted, int]]) -> None:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        lines = [
            _serialise(_fit(attempt) | {"event": _FINISHED, "level": _LEVELS[level], "timestamp": now} | self._stamps)
            for attempt, level in wanted
        ]
        stream.write(b"\n".join(lines) + b"\n")
        stream.flush()


_FINISHED = "delivery.attempt.finished"
_LEVELS = {logging.INFO: "info", logging.WARNING: "warning"}


def _is_well(attempt: Attempted) -> bool:
    return attempt.outcome is Outcome.SUCCESS


def _fit(attempt: Attempted) -> Line:
    """The fields of a line. Only a diagnosis is free text, in which a URL may stand."""
    fields = _canonical(attempt)
    return dict(redact(None, "", fields)) if attempt.diagnosis else fields


def _canonical(attempt: Attempted) -> Line:
    fields = {
        **_identity(attempt),
        "http.request.method": attempt.delivery.method.value,
        "http.response.status_code": attempt.answer.status,
        "network.peer.address": attempt.answer.peer,
        "outcome": attempt.outcome.value,
        "duration_s": round(attempt.answer.timing.total, 6),
        "queue_lag_s": round(attempt.lag, 6),
        "request.body.bytes": attempt.delivery.body_bytes,
        "connection.reused": attempt.answer.reused,
        "diagnosis": attempt.diagnosis or None,
        "traceparent": attempt.delivery.traceparent,
        **_verdict(attempt),
    }
    return {key: value for key, value in fields.items() if value is not None}


def _identity(attempt: Attempted) -> dict[str, object]:
    delivery = attempt.delivery
    return {"delivery.id": delivery.id, "attempt.number": delivery.number, "destination": delivery.destination}


def _verdict(attempt: Attempted) -> dict[str, object]:
    match attempt.verdict:
        case Delivered():
            return {"verdict": "delivered"}
        case Retry(due_at):
            return {"verdict": "retry", "retry.at": round(due_at, 3)}
        case Dead(reason):
            return {"verdict": "dead", "reason": reason.value}


def _too_large(attempt: Attempted) -> dict[str, object]:
    server = attempt.answer.header("server")
    return {
        **_identity(attempt),
        "request.body.bytes": attempt.delivery.body_bytes,
        "largest_accepted_bytes": attempt.limits.largest_accepted,
        "smallest_refused_bytes": attempt.limits.smallest_refused,
        "server": server,
        "remedy": remedy_for_413(server),
    }
