"""The one HTTP site of operators: the admin API for programs, the console for browsers, and what keeps others out."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from relay.admin.api import serving as api
from relay.admin.api.openapi import PREFIX
from relay.admin.api.responses import ErrorDetail
from relay.admin.auth import Authenticator
from relay.admin.console import serving as console
from relay.admin.context import AdminContext

_LARGEST_REQUEST = 1 << 20
_HEADERS = {
    # Everything comes from here, and nothing stands inline: a payload that got into a page could do nothing in it.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Server": "relay",
}


def application(context: AdminContext, authenticator: Authenticator) -> web.Application:
    """Everything on the admin port; the `authenticator` keeps out whoever shows no token."""
    site = web.Application(
        client_max_size=_LARGEST_REQUEST,
        middlewares=[_keep_out(authenticator), api.errors_as_json, console.errors_as_pages],
    )
    site.add_routes(api.routes(context))
    console.add_pages(site, context, authenticator)
    site.on_response_prepare.append(_harden)
    return site


async def _harden(request: web.Request, answer: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        answer.headers[name] = value
    if request.path.startswith("/static/"):
        answer.headers["Cache-Control"] = "no-cache"  # asked for again, and mostly answered with 304


def _keep_out(authenticator: Authenticator) -> Any:
    @web.middleware
    async def keep_out(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(f"{PREFIX}/"):
            return await _answer(request, handler, authenticator)
        if request.method not in ("GET", "HEAD") and not _from_here(request):
            raise web.HTTPForbidden(text="This came from another site, and was not done.")
        if console.visitor(request, authenticator) is None and not console.is_open(request.path):
            raise console.sign_in_first(request)
        return await handler(request)

    return keep_out


async def _answer(request: web.Request, handler: Handler, authenticator: Authenticator) -> web.StreamResponse:
    """By the admin token everything, by the key of an owner what is its own."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return _unauthorized()
    if authenticator.admits(token.strip()):
        return await handler(request)
    owner = authenticator.owner(token.strip(), time.time())
    if owner is None:
        return _unauthorized()
    if not api.is_for_owners(request):
        return api.failed(
            403, ErrorDetail("forbidden", "the key of an owner shows that owner's deliveries, and nothing else")
        )
    request[api.OWNER] = owner
    return await handler(request)


def _unauthorized() -> web.Response:
    problem = ErrorDetail(
        "unauthorized", "send the admin token: Authorization: Bearer TOKEN; the relay's log names its file"
    )
    answer = api.failed(401, problem)
    answer.headers["WWW-Authenticate"] = 'Bearer realm="relay"'
    return answer


def _from_here(request: web.Request) -> bool:
    """A cookie is not enough: to a browser, every port of this machine is the same site."""
    said = request.headers.get("Sec-Fetch-Site")
    if said is not None:
        return said == "same-origin"
    origin = request.headers.get("Origin")
    return origin is not None and origin.partition("://")[2] == request.host
