"""Every answer that is an error, in the shape that the path's own SDKs know, and the request id on every answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus

import structlog
import uuid_utils
from aiohttp import web
from aiohttp.typedefs import Handler

from engine.dialects.deepgram import BadRequest, render_refusal
from engine.dialects.gladia import GladiaProblem, render_problem
from engine.dialects.openai import ErrorObject, render_error
from engine.dialects.statuses import status_name
from engine.errors import StorageFull, TooLarge
from engine.jobs.admission import QueueFull
from relay.guard.resolver import LookupShortage, Unresolved
from relay.outbox.errors import StoreUnavailable

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
"""The id of the request being answered: time-ordered, unique, and the id of the job that it becomes."""

GLADIA = "/v2/"
"""Where Gladia's paths begin, but for one; what is neither Gladia's nor OpenAI's speaks as Deepgram does."""

FLUX = "/v2/listen"
"""The one path of Deepgram's among them."""

_OPENAI = ("/v1/audio/", "/v1/models")

TOO_MANY = "Too many requests. Please try again later."
"""The vendor's words for 429, which say nothing of why."""

_STORAGE_FULL = BadRequest(
    "INSUFFICIENT_STORAGE", "The server's disk is full: nothing was stored. Send the request again later.", 507
)
_UNAVAILABLE = BadRequest(
    "SERVICE_UNAVAILABLE", "The server's storage cannot be used now: nothing was stored. Send the request again.", 503
)
_INTERNAL = BadRequest("INTERNAL_SERVER_ERROR", "The server failed to handle the request. Its log says why.", 500)

_log = structlog.get_logger()

Reply = BadRequest | GladiaProblem | ErrorObject


class Rejected(Exception):
    """A request that is answered with an error. A step that vendors share words it in either's way."""

    def __init__(self, reply: Reply, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reply.line if isinstance(reply, BadRequest) else reply.message)
        self.reply = reply
        self.headers = headers or {}


def not_looked_up(field: str, unknown: Unresolved | LookupShortage) -> Rejected:
    """The answer where DNS did not answer: whether the host exists is not known, and may be in a moment."""
    reply = BadRequest("SERVICE_UNAVAILABLE", f"{field}: {unknown.detail} Send the request again later.", 503)
    return Rejected(reply, {"Retry-After": "5"})


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, and every answer that id and, where it is an error, its vendor's error shape."""
    request[REQUEST_ID] = str(uuid_utils.uuid7())
    response = await answered(request, handler)
    if not response.prepared:
        response.headers.update(identity(request))
    return response


def identity(request: web.Request) -> dict[str, str]:
    """The headers with the id, for a handler that sends its answer itself."""
    request_id = request[REQUEST_ID]
    if speaks_openai(request):
        return {"dg-request-id": request_id, "x-request-id": request_id}
    return {"dg-request-id": request_id} | ({"x-aipi-call-id": request_id} if speaks_gladia(request) else {})


def speaks_gladia(request: web.Request) -> bool:
    return request.path.startswith(GLADIA) and request.path != FLUX


def speaks_openai(request: web.Request) -> bool:
    """Whether a path is one of OpenAI's. Deepgram's clients too ask for models, and send `Authorization: Token`."""
    deepgrams = request.headers.get("Authorization", "").lower().startswith("token ")
    return request.path.startswith(_OPENAI) and not (deepgrams and request.path.startswith("/v1/models"))


async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The handler's answer, or the error in its vendor's shape that it ended with."""
    try:
        return await handler(request)
    except Rejected as rejected:
        return _error(request, rejected.reply, rejected.headers)
    except TooLarge as large:
        return _error(request, _too_large(large.limit))
    except QueueFull as full:
        return _error(request, *_queue_full(full))
    except web.HTTPException as exception:
        return _error(request, *_of_http(request, exception))
    except Exception as exception:  # noqa: BLE001 (the caller must get an answer, whatever broke)
        return _error(request, *_own_fault(exception, request[REQUEST_ID]))


def _error(request: web.Request, reply: Reply, headers: Mapping[str, str] | None = None) -> web.Response:
    if speaks_openai(request):
        return _as_openai(reply, headers or {})
    shape = _as_gladia if speaks_gladia(request) else _as_deepgram
    return shape(request, reply, headers or {})


def _as_openai(reply: Reply, headers: Mapping[str, str]) -> web.Response:
    if isinstance(reply, BadRequest):
        reply = ErrorObject(reply.status, reply.line)
    elif isinstance(reply, GladiaProblem):
        reply = ErrorObject(reply.status, reply.message)
    return web.json_response(render_error(reply), status=reply.status, headers=headers)


def _as_deepgram(request: web.Request, reply: Reply, headers: Mapping[str, str]) -> web.Response:
    """What went wrong in the body, and in `dg-error`."""
    if not isinstance(reply, BadRequest):
        reply = BadRequest(status_name(reply.status), reply.message, reply.status)
    document = render_refusal(reply, request[REQUEST_ID])
    return web.json_response(document, status=reply.status, headers={**headers, "dg-error": _line(reply.line)})


def _as_gladia(request: web.Request, reply: Reply, headers: Mapping[str, str]) -> web.Response:
    if isinstance(reply, BadRequest):
        reply = GladiaProblem(reply.status, reply.line)
    elif isinstance(reply, ErrorObject):
        reply = GladiaProblem(reply.status, reply.message)
    document = render_problem(reply, path=request.path, request_id=request[REQUEST_ID], now=time.time())
    return web.json_response(document, status=reply.status, headers=headers)


def _line(message: str) -> str:
    """A message as a header can carry it."""
    return "".join(char if " " <= char <= "~" else "?" for char in message[:1024])


def _own_fault(exception: Exception, request_id: str) -> tuple[BadRequest, Mapping[str, str]]:
    """What is for us to mend: the log says why, the caller learns whether to come again."""
    match exception:
        case StorageFull():
            _log.error("http.storage_full", request_id=request_id)
            return _STORAGE_FULL, {}
        case StoreUnavailable():
            _log.error("http.store_unavailable", request_id=request_id, kind=str(exception))
            return _UNAVAILABLE, {"Retry-After": "5"}
        case _:
            _log.error("http.request.failed", request_id=request_id, exc_info=exception)
            return _INTERNAL, {}


def _too_large(limit: int) -> BadRequest:
    return BadRequest("PAYLOAD_TOO_LARGE", f"The body is larger than {limit} bytes. Send less audio at a time.", 413)


def _queue_full(full: QueueFull) -> tuple[BadRequest, Mapping[str, str]]:
    reply = BadRequest("TOO_MANY_REQUESTS", TOO_MANY, 429, f"{full} Retry in {full.wait} s.")
    return reply, {"Retry-After": str(full.wait)}


def _of_http(request: web.Request, exception: web.HTTPException) -> tuple[BadRequest, Mapping[str, str]]:
    """What aiohttp itself refuses: a path or a method that is not there."""
    allow = exception.headers.get("Allow")
    status, name = exception.status, status_name(exception.status)
    if status == HTTPStatus.NOT_FOUND:
        endpoint = "/v2/pre-recorded" if speaks_gladia(request) else "/v1/listen"
        endpoint = "/v1/audio/transcriptions" if speaks_openai(request) else endpoint
        message = f"There is nothing at this path. Send audio to POST {endpoint}."
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        message = f"This path does not take this method. Use {allow}."
    else:
        message = f"{name.replace('_', ' ').capitalize()}."
    return BadRequest(name, message, status), {"Allow": allow} if allow else {}
