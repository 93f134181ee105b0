"""The error shape that every Deepgram SDK knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.request import Failed, FailureCode

_FAILURES = {
    FailureCode.AUDIO: ("Bad Request", 400, "Bad Request: failed to process audio: corrupt or unsupported data"),
    FailureCode.REMOTE_CONTENT: ("REMOTE_CONTENT_ERROR", 400, ""),
    FailureCode.TOO_LARGE: ("PAYLOAD_TOO_LARGE", 413, ""),
    FailureCode.TIMEOUT: ("GATEWAY_TIMEOUT", 504, ""),
    FailureCode.INTERNAL: ("INTERNAL_SERVER_ERROR", 500, ""),
}

_WHY = " url: "
"""Behind the vendor's sentence about audio that cannot be fetched: the field, and why."""


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A refusal as the vendor words it: `err_msg` is Deepgram's own sentence, where it has one for the case, and then
    `details` name the field and the remedy; else `err_msg` does."""

    err_code: str
    err_msg: str
    status: int = 400
    details: str = ""

    @property
    def line(self) -> str:
        """All of it, for whoever has room for one line."""
        return f"{self.err_msg.removesuffix('.')}. {self.details}" if self.details else self.err_msg


def invalid_parameter(detail: str) -> BadRequest:
    """A query parameter that cannot be read or honoured; `detail` begins with the parameter's name."""
    return BadRequest("INVALID_QUERY_PARAMETER", f"Failed to deserialize query parameters: {detail}")


def invalid_callback(reason: str) -> BadRequest:
    """A callback URL that no result will ever be sent to; `reason` is a sentence without secrets."""
    return BadRequest("INVALID_QUERY_PARAMETER", "Invalid callback url.", details=reason)


def unresolved_callback(detail: str) -> BadRequest:
    """A callback URL whose host has no address at this moment."""
    return BadRequest("Bad Request", "Failed to resolve callback.", details=detail)


def no_such_model(detail: str) -> BadRequest:
    """A model, version or language that this engine does not have; `detail` lists what there is."""
    return BadRequest("Bad Request", "No such model/language/tier combination found.", details=detail)


def failure_reply(failed: Failed) -> BadRequest:
    """The answer to a synchronous request that failed."""
    err_code, status, sentence = _FAILURES[failed.code]
    if sentence:
        return BadRequest(err_code, sentence, status, failed.message)
    told, field, why = failed.message.partition(_WHY)
    return BadRequest(err_code, told, status, (field + why).strip())


def render_refusal(reply: BadRequest, request_id: str) -> dict[str, Any]:
    """The body of an error answer, and the beginning of a failure's callback."""
    told = {"err_code": reply.err_code, "err_msg": reply.err_msg, "request_id": request_id}
    return told | ({"details": reply.details} if reply.details else {})
