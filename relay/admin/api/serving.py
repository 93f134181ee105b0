"""Serves the endpoints: reads a question, has it carried out in a thread, and writes what came of it."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import ValidationError

from relay.admin.access import NotFound, NothingMatched, Refused
from relay.admin.api.endpoints import ENDPOINTS, Endpoint
from relay.admin.api.openapi import PREFIX, document
from relay.admin.api.requests import RequestModel, TailRequest
from relay.admin.api.responses import ErrorDetail, ErrorResponse, FieldError
from relay.admin.audit import Actor
from relay.admin.auth import proper_name
from relay.admin.context import AdminContext
from relay.admin.inspection import DeliveryAttempt, Tail
from relay.admin.json_values import plain
from relay.outbox.errors import RelayError, StoreUnavailable

ACTOR_HEADER = "x-relay-actor"
OWNER = web.RequestKey("owner", str)
"""Under what a request tells whose key it came with."""
_FOR_OWNERS = frozenset(f"{PREFIX}{endpoint.path}" for endpoint in ENDPOINTS if endpoint.for_owners)
_POLL_SECONDS = 0.5
_STREAMS = 8  # each asks the outbox twice a second
_STATUSES = ((NotFound, 404, "not_found"), (NothingMatched, 404, "nothing_matched"), (Refused, 409, "refused"))

log = structlog.get_logger()


def routes(context: AdminContext) -> list[web.RouteDef]:
    """Every endpoint, the stream of attempts, and the document that describes them."""
    served = [_route(endpoint, _serve(context, endpoint)) for endpoint in ENDPOINTS]

    async def described(_: web.Request) -> web.Response:
        return web.json_response(document(context.version))

    # Before /deliveries/{id} and the like: a name of its own wins over one that could be anything.
    return [
        web.get(f"{PREFIX}/openapi.json", described),
        web.get(f"{PREFIX}/attempts/stream", _streaming(context)),
        *served,
    ]


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Everything that goes wrong under the API's prefix, in the API's own form."""
    try:
        return await handler(request)
    except Exception as error:
        if not request.path.startswith(f"{PREFIX}/"):
            raise
        return _why_not(error)


def _why_not(error: Exception) -> web.Response:
    match error:
        case ValidationError():
            return _invalid(error)
        case RelayError():
            return _refused(error)
        case web.HTTPException():
            return _http(error)
        case ValueError():
            return failed(400, ErrorDetail("invalid", str(error)))
    log.error("admin.failed", exc_info=error)
    return failed(500, ErrorDetail("internal", "the relay failed at this, and its log says how"))


def failed(status: int, problem: ErrorDetail) -> web.Response:
    """An answer that is no success."""
    return web.json_response(plain(ErrorResponse(problem)), status=status)


def is_for_owners(request: web.Request) -> bool:
    """Whether somebody with the key of an owner may ask this."""
    resource = request.match_info.route.resource
    return request.method == "GET" and resource is not None and resource.canonical in _FOR_OWNERS


def actor_of(request: web.Request) -> Actor:
    """Who asks, as they say; the token is one for all."""
    return Actor(proper_name(request.headers.get(ACTOR_HEADER, ""), "api"), "api")


def _route(endpoint: Endpoint, handler: Handler) -> web.RouteDef:
    # Spelt out: by itself aiohttp takes no braces for a part of a path.
    path = PREFIX + re.sub(r"\{(\w+)\}", r"{\1:[^/]+}", endpoint.path)
    return web.get(path, handler) if endpoint.method == "GET" else web.post(path, handler)


def _serve(context: AdminContext, endpoint: Endpoint) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        parsed = await _parsed(request, endpoint.request)
        answer = await asyncio.to_thread(endpoint.carry_out, context, actor_of(request), parsed)
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/octet-stream")
        return web.json_response(plain(answer))

    return handle


async def _parsed(request: web.Request, model: type[RequestModel]) -> Any:
    if request.method != "POST":
        return model.model_validate(_query(request) | dict(request.match_info) | _bound(request))
    document = _document(await request.read())
    for name, text in request.match_info.items():
        if name in document:
            raise ValueError(f"{name}: it stands in the path")
        document[name] = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else text
    # By way of JSON, whose strictness knows that an enum comes as a string.
    return model.model_validate_json(json.dumps(document), strict=True)


def _bound(request: web.Request) -> dict[str, Any]:
    """What the key of an owner says, and what nobody may say with it."""
    if OWNER not in request:
        return {}
    if "reveal" in request.query:
        raise web.HTTPForbidden(reason="reveal: the key of an owner shows nothing that is masked")
    if request.query.get("owner", request[OWNER]) != request[OWNER]:
        raise web.HTTPForbidden(reason="owner: the key is another owner's")
    return {"owner": request[OWNER]}


def _query(request: web.Request) -> dict[str, Any]:
    twice = [name for name in request.query if len(request.query.getall(name)) > 1]
    if twice:
        raise ValueError(f"{twice[0]}: it is given twice; give it once")
    return dict(request.query)


def _document(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON: send an object, {} for none of the fields") from None
    if not isinstance(document, dict):
        raise ValueError("the body is no JSON object: send one, {} for none of the fields")  # noqa: TRY004
    return document


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _invalid(error: ValidationError) -> web.Response:
    """include_input=False: a value may be a secret."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    flaws = tuple(FieldError(".".join(str(part) for part in fault["loc"]), _said(fault)) for fault in faults)
    message = "; ".join(f"{flaw.field}: {flaw.message}" for flaw in flaws)
    return failed(400, ErrorDetail("invalid", message, flaws))


def _said(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "no such field (misspelt?)"
    text: str = fault["msg"]
    return text.removeprefix("Value error, ").removeprefix("Input ")


def _refused(error: RelayError) -> web.Response:
    for kind, status, code in _STATUSES:
        if isinstance(error, kind):
            return failed(status, ErrorDetail(code, str(error)))
    code = "store_unavailable" if isinstance(error, StoreUnavailable) else "unavailable"
    return failed(503, ErrorDetail(code, str(error)))


def _http(error: web.HTTPException) -> web.Response:
    codes = {403: "forbidden", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    answer = failed(error.status, ErrorDetail(codes.get(error.status, "invalid"), error.reason))
    if "Allow" in error.headers:
        answer.headers["Allow"] = error.headers["Allow"]
    return answer


def _streaming(context: AdminContext) -> Handler:
    room = asyncio.Semaphore(_STREAMS)

    async def stream(request: web.Request) -> web.StreamResponse:
        parsed: TailRequest = await _parsed(request, TailRequest)
        if room.locked():
            raise Refused(f"{_STREAMS} streams are open already: close one")
        async with room:
            return await _tell(request, Tail(context.database, parsed.outcome, parsed.destination), parsed.limit)

    return stream


async def _tell(request: web.Request, tail: Tail, limit: int) -> web.StreamResponse:
    recent = await asyncio.to_thread(tail.recent, limit)
    answer = web.StreamResponse(headers={"content-type": "application/x-ndjson", "cache-control": "no-store"})
    await answer.prepare(request)
    await answer.write(_lines(recent))
    while request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(_POLL_SECONDS)
        if news := await asyncio.to_thread(tail.news):
            await answer.write(_lines(news))
    return answer


def _lines(happened: tuple[DeliveryAttempt, ...]) -> bytes:
    return b"".join(json.dumps(plain(one)).encode() + b"\n" for one in happened)
