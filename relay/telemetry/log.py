"""The log of attempts: one canonical line each, and nothing in it that a receiver or caller keeps secret."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
import structlog
from msgspec import Struct

from relay.guard.url import without_secrets
from relay.outbox.model import Method
from relay.policy.attempt import Attempted, Dead, Delivered, Outcome, Postponed, Retry, Verdict
from relay.policy.outcome import remedy_for_413
from relay.service.log import Lines, Unfailing

# To ask an enumeration for a member takes half a microsecond.
_SUCCESS, _HTTP_413 = Outcome.SUCCESS, Outcome.HTTP_413
_FINISHED = "delivery.attempt.finished"
_SPELT = {
    "delivery_id": "delivery.id",
    "attempt_number": "attempt.number",
    "method": "http.request.method",
    "status": "http.response.status_code",
    "peer": "network.peer.address",
    "body_bytes": "request.body.bytes",
    "reused": "connection.reused",
    "retry_at": "retry.at",
}


class _AttemptLine(Struct, kw_only=True, omit_defaults=True, gc=False, rename=_SPELT.get):
    """The canonical line: one attempt, whole. What is None is left out."""

    event: str | None = None
    level: str | None = None
    timestamp: str | None = None
    service: str | None = None
    delivery_id: str
    attempt_number: int
    destination: str
    method: Method
    status: int | None = None
    peer: str | None = None
    outcome: Outcome
    duration_s: float
    queue_lag_s: float
    body_bytes: int
    reused: bool
    diagnosis: str | None = None
    traceparent: str | None = None
    verdict: str
    retry_at: float | None = None
    reason: str | None = None


class AttemptLog:
    """Writes one canonical line for each attempt, and one more for a 413.

    As JSON, the lines of a batch are rendered by msgspec alone and written at once, in the shape that structlog would
    give them: with thousands of attempts a second, its chain of processors would cost more than the deliveries.
    Those are counted in `lines`, which hears of the others from structlog.
    """

    def __init__(self, level: str, style: Literal["json", "console"], service: str, lines: Lines | None = None) -> None:
        self._log = structlog.get_logger()
        self._least = logging.getLevelNamesMapping()[level.upper()]
        self._service = service
        self._stream = Unfailing(sys.stdout.buffer) if style == "json" else None
        self._lines = lines or Lines()

    def __call__(self, attempts: Sequence[Attempted]) -> None:
        wanted = [attempt for attempt in attempts if _level(attempt) >= self._least]
        if self._stream is None:
            for attempt in wanted:
                self._log.log(_level(attempt), _FINISHED, **msgspec.to_builtins(_canonical(attempt)))
        elif wanted:
            self._write(self._stream, wanted)
        for attempt in attempts:
            if attempt.outcome is _HTTP_413:
                self._log.warning("delivery.attempt.too_large", **_too_large(attempt))

    def _write(self, stream: Unfailing, wanted: Sequence[Attempted]) -> None:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        lines = [_canonical(attempt) for attempt in wanted]
        for line, attempt in zip(lines, wanted, strict=True):
            line.event, line.timestamp, line.service = _FINISHED, now, self._service
            line.level = level = _LEVELS[_level(attempt)]
            self._lines.counts[level] += 1
        stream.write(_rendered(lines))
        stream.flush()


_LEVELS = {logging.INFO: "info", logging.WARNING: "warning"}
_encoder = msgspec.json.Encoder()


def _rendered(lines: Sequence[_AttemptLine]) -> bytes:
    try:
        return _encoder.encode_lines(lines)
    except UnicodeEncodeError:  # half a surrogate pair in the words of a receiver: it stands escaped in its line
        return b"".join(json.dumps(msgspec.to_builtins(line)).encode() + b"\n" for line in lines)


def _level(attempt: Attempted) -> int:
    return logging.INFO if attempt.outcome is _SUCCESS else logging.WARNING


def _canonical(attempt: Attempted) -> _AttemptLine:
    delivery, answer = attempt.delivery, attempt.answer
    line = _AttemptLine(
        delivery_id=delivery.id,
        attempt_number=delivery.number,
        destination=delivery.destination,
        method=delivery.method,
        status=answer.status,
        peer=answer.peer,
        outcome=attempt.outcome,
        duration_s=round(answer.timing.total, 6),
        queue_lag_s=round(attempt.lag, 6),
        body_bytes=delivery.body_bytes,
        reused=answer.reused,
        diagnosis=without_secrets(attempt.diagnosis) if attempt.diagnosis else None,
        traceparent=delivery.traceparent,
        verdict="delivered",
    )
    _add_verdict(line, attempt.verdict)
    return line


def _add_verdict(line: _AttemptLine, verdict: Verdict) -> None:
    match verdict:
        case Delivered():
            return
        case Postponed():
            line.verdict = "postponed"
        case Retry(due_at):
            line.verdict, line.retry_at = "retry", round(due_at, 3)
        case Dead(reason):
            line.verdict, line.reason = "dead", reason.value


def _too_large(attempt: Attempted) -> dict[str, object]:
    server = attempt.answer.header("server")
    delivery = attempt.delivery
    return {
        "delivery.id": delivery.id,
        "attempt.number": delivery.number,
        "destination": delivery.destination,
        "request.body.bytes": delivery.body_bytes,
        "largest_accepted_bytes": attempt.limits.largest_accepted,
        "smallest_refused_bytes": attempt.limits.smallest_refused,
        "server": server,
        "remedy": remedy_for_413(server),
    }
