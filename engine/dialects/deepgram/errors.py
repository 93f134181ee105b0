"""The error shape that every Deepgram SDK knows."""

from __future__ import annotations

from dataclasses import dataclass

from engine.request import Failed, FailureCode

_FAILURES = {
    FailureCode.AUDIO: ("Bad Request", 400, "Bad Request: failed to process audio: corrupt or unsupported data. "),
    FailureCode.REMOTE_CONTENT: ("REMOTE_CONTENT_ERROR", 400, ""),
    FailureCode.TOO_LARGE: ("PAYLOAD_TOO_LARGE", 413, ""),
    FailureCode.TIMEOUT: ("GATEWAY_TIMEOUT", 504, ""),
    FailureCode.INTERNAL: ("INTERNAL_SERVER_ERROR", 500, ""),
}


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A refusal as the vendor words it: `err_msg` begins with Deepgram's sentence, then names the field and the
    remedy."""

    err_code: str
    err_msg: str
    status: int = 400


def invalid_parameter(detail: str) -> BadRequest:
    """A query parameter that cannot be read or honoured; `detail` begins with the parameter's name."""
    return BadRequest("INVALID_QUERY_PARAMETER", f"Failed to deserialize query parameters: {detail}")


def invalid_callback(reason: str) -> BadRequest:
    """A callback URL that no result will ever be sent to; `reason` is a sentence without secrets."""
    return BadRequest("INVALID_QUERY_PARAMETER", f"Invalid callback url. {reason}")


def unresolved_callback(detail: str) -> BadRequest:
    """A callback URL whose host has no address at this moment."""
    return BadRequest("Bad Request", f"Failed to resolve callback. {detail}")


def no_such_model(detail: str) -> BadRequest:
    """A model, version or language that this engine does not have; `detail` lists what there is."""
    return BadRequest("Bad Request", f"No such model/language/tier combination found. {detail}")


def failure_reply(failed: Failed) -> BadRequest:
    """The answer to a synchronous request that failed."""
    err_code, status, sentence = _FAILURES[failed.code]
    return BadRequest(err_code, sentence + failed.message, status)
