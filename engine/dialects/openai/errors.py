"""The error shape that OpenAI's SDKs read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.dialects.statuses import status_name
from engine.request import Failed, FailureCode

_CODES = {400: None, 401: "invalid_api_key", 429: "rate_limit_exceeded"}
_STATUS = {FailureCode.TOO_LARGE: 413, FailureCode.TIMEOUT: 504, FailureCode.INTERNAL: 500}


@dataclass(frozen=True, slots=True)
class ErrorObject:
    """A refusal as the vendor words it: `param` is the field that it is about, `code` a word for programs where the
    status does not say enough."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None


def refused(field: str, must: str, code: str | None = None) -> ErrorObject:
    """A field that cannot be read or honoured; `must` says what it is to be, and is the remedy."""
    return ErrorObject(400, f"{field} must {must}", field, code)


def failure_error(failed: Failed) -> ErrorObject:
    """A request that was taken and has no transcript."""
    status = _STATUS.get(failed.code, 400)
    param = "file" if failed.code in {FailureCode.AUDIO, FailureCode.TOO_LARGE} else None
    return ErrorObject(status, failed.message, param, failed.code.value)


def render_error(error: ErrorObject) -> dict[str, Any]:
    """The body of an error answer, and of an event that ends a stream."""
    code = error.code or _CODES.get(error.status, status_name(error.status).lower())
    return {"error": {"message": error.message, "type": _type(error.status), "param": error.param, "code": code}}


def _type(status: int) -> str:
    if status == 429:
        return "requests"
    return "server_error" if status >= 500 else "invalid_request_error"
