"""The error shape that every Gladia SDK knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.record import timestamp
from engine.request import Failed, FailureCode

_STATUS = {FailureCode.TOO_LARGE: 413, FailureCode.TIMEOUT: 504, FailureCode.INTERNAL: 500}
_MOST_ERRORS = 50


@dataclass(frozen=True, slots=True)
class GladiaProblem:
    """A refusal as the vendor words it. Each of `validation_errors` begins with the field's path and "must": the SDKs
    read the field from that, and show nothing but these where there are any."""

    status: int
    message: str
    validation_errors: tuple[str, ...] = ()


def invalid(*validation_errors: str) -> GladiaProblem:
    """A request whose fields cannot be read or honoured; the message, which some clients show alone, holds the first
    flaw. Of very many the first are named: an answer does not grow with the nonsense that it answers."""
    return GladiaProblem(422, f"Invalid parameter(s): {validation_errors[0]}", validation_errors[:_MOST_ERRORS])


def render_problem(problem: GladiaProblem, *, path: str, request_id: str, now: float) -> dict[str, Any]:
    """The body of an error answer. `path` comes without its query, which may hold secrets."""
    document: dict[str, Any] = {
        "timestamp": timestamp(now),
        "path": path,
        "request_id": debug_id(request_id),
        "statusCode": problem.status,
        "message": problem.message,
    }
    if problem.validation_errors:
        document["validation_errors"] = list(problem.validation_errors)
    return document


def status_of(failed: Failed) -> int:
    """A failure as a number: the HTTP status that it would have as an answer."""
    return _STATUS.get(failed.code, 400)


def debug_id(request_id: str) -> str:
    """The vendor's short form of an id. The end of it: ours begin with the time, which neighbours share."""
    return "G-" + request_id[-8:]
