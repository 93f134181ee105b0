"""Serves the console: pages are GETs and change nothing, acts are POSTs from its own pages."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlencode

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import ValidationError

from relay.admin import audit, inspection, keys, operations
from relay.admin.access import NotFound, NothingMatched, Refused, acting
from relay.admin.api.requests import AuditRequest, DestinationRequest, ListRequest, ReplayRequest, RotateRequest
from relay.admin.audit import Actor
from relay.admin.auth import SESSION_SECONDS, Authenticator, proper_name
from relay.admin.console import pages, rendering
from relay.admin.console.pages import Facts
from relay.admin.context import AdminContext
from relay.admin.destinations import named
from relay.admin.keys import NewKey
from relay.admin.operations import BulkSelection
from relay.outbox.errors import RelayError
from relay.outbox.store import Database

COOKIE = "relay_session"
PAGE: web.AppKey[Callable[..., Awaitable[web.Response]]] = web.AppKey("page")
_STATIC = Path(__file__).with_name("static")
_BEAT_SECONDS = 2.0
_BEAT, _STOPPED = b"event: beat\ndata:\n\n", b"event: stopped\ndata:\n\n"
_SIGNED_OUT = b"event: signed-out\ndata:\n\n"
_OPEN = ("/login", "/runbooks", "/alive", "/static/")
_SECURE = "https"
_ACTS: dict[str, Callable[[Database, str, Actor], bool]] = {
    "pause": operations.pause,
    "resume": operations.resume,
    "disable": operations.disable,
    "enable": operations.enable,
}
_STATUSES = ((NotFound, 404), (NothingMatched, 404), (Refused, 409))

log = structlog.get_logger()


def is_open(path: str) -> bool:
    """Whether a page is shown to whoever asks."""
    return path in _OPEN or path.startswith(_OPEN[-1])


def visitor(request: web.Request, authenticator: Authenticator) -> str | None:
    """The name of whoever signed in; None for a stranger."""
    return authenticator.visitor(request.cookies.get(COOKIE, ""), time.time())


def sign_in_first(request: web.Request) -> web.HTTPSeeOther:
    """To the sign-in page, and back afterwards if it was a page that was wanted."""
    wanted = request.path_qs if request.method == "GET" else "/"
    return web.HTTPSeeOther("/login?" + urlencode({"next": wanted}) if wanted != "/" else "/login")


def add_pages(site: web.Application, context: AdminContext, authenticator: Authenticator) -> None:
    """Add the pages, the acts and the files beside them."""
    console = Console(context, authenticator)
    site.add_routes(
        [
            web.get("/", console.now),
            web.get("/deliveries", console.deliveries),
            web.get("/replay", console.preview),
            web.get("/deliveries/{id:[^/]+}", console.delivery),
            web.get("/destinations", console.destinations),
            web.get("/destination", console.destination),
            web.get("/audit", console.audit),
            web.get("/settings", console.settings),
            web.get("/runbooks", console.runbooks),
            web.get("/alive", console.alive),
            web.get("/login", console.login_page),
            web.post("/login", console.login),
            web.post("/logout", console.logout),
            web.post("/replay", console.replay),
            web.post("/deliveries/{id:[^/]+}/cancel", console.cancel),
            web.post("/deliveries/{id:[^/]+}/reveal", console.reveal),
            web.post("/destination/{act}", console.act),
            web.post("/keys/rotate", console.rotate),
            web.static("/static", _STATIC),
        ]
    )
    site[PAGE] = console.page
    site.on_shutdown.append(console.stop)


@web.middleware
async def errors_as_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What went wrong, as a page with the way back."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400 or request.path.startswith("/api/"):
            raise
        status, message = error.status, error.reason
    except Exception as error:
        if request.path.startswith("/api/"):
            raise
        status, message = _why_not(error)
    facts = {"status": status, "message": message}
    page: web.Response = await request.app[PAGE](request, "problem.html", facts, status=status)
    return page


def _why_not(error: Exception) -> tuple[int, str]:
    match error:
        case RelayError():
            return next((status for kind, status in _STATUSES if isinstance(error, kind)), 503), str(error)
        case ValidationError():
            return 400, "; ".join(f"{name}: {message}" for name, message in _flaws(error).items())
        case ValueError():
            return 400, str(error)
    log.error("admin.failed", exc_info=error)
    return 500, "The relay failed at this, and its log says how."


class Console:
    def __init__(self, context: AdminContext, authenticator: Authenticator) -> None:
        self._context = context
        self._authenticator = authenticator
        self._stopping = asyncio.Event()

    async def page(
        self, request: web.Request, template: str, facts: Facts | Callable[[], Facts], status: int = 200
    ) -> web.Response:
        """A page, gathered and rendered in a thread: neither may hold up a delivery."""
        here = str(request.rel_url.without_query_params("note"))
        around = {
            "path": request.path,
            "here": here,
            "visitor": visitor(request, self._authenticator),
            "note": _note(request),
            "grafana": self._context.grafana,
        }

        def render() -> str:
            gathered = facts() if callable(facts) else facts
            return rendering.environment().get_template(template).render(around | gathered)

        return web.Response(text=await asyncio.to_thread(render), content_type="text/html", status=status)

    async def alive(self, request: web.Request) -> web.StreamResponse:
        """A sign of life every other second, for pages that are open, and a word when the relay stops in order. Who is
        not signed in, or no longer, is told so at once: a stranger holds no connection."""
        if visitor(request, self._authenticator) is None:
            return web.Response(body=_SIGNED_OUT, content_type="text/event-stream")
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        with suppress(ConnectionResetError):  # whoever listened has left
            while not self._stopping.is_set():
                await answer.write(_BEAT)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _BEAT_SECONDS)
            await answer.write(_STOPPED)
        return answer

    async def stop(self, _: web.Application) -> None:
        self._stopping.set()

    async def now(self, request: web.Request) -> web.Response:
        return await self.page(request, "now.html", lambda: pages.now(self._context))

    async def deliveries(self, request: web.Request) -> web.Response:
        given = _given(request.query)
        if wanted := given.get("find"):
            raise web.HTTPSeeOther(await asyncio.to_thread(self._found, wanted))
        try:
            asked = ListRequest.model_validate({name: text for name, text in given.items() if name != "note"})
        except ValidationError as error:
            shown = {"given": given, "flaws": _flaws(error), **pages.choices()}
            facts = {"page": None, **shown}
            return await self.page(
                request, "deliveries.html", lambda: {"at": self._context.database.now(), **facts}, status=400
            )
        return await self.page(request, "deliveries.html", lambda: pages.deliveries(self._context, asked, given))

    async def delivery(self, request: web.Request) -> web.Response:
        id_ = request.match_info["id"]
        return await self.page(request, "delivery.html", lambda: pages.delivery(self._context, id_))

    async def destinations(self, request: web.Request) -> web.Response:
        given = _given(request.query)
        start = int(given["from"]) if given.get("from", "").isdecimal() and len(given["from"]) < 10 else 0
        return await self.page(
            request,
            "destinations.html",
            lambda: pages.destinations(self._context, given.get("text", ""), given.get("state", ""), start),
        )

    async def destination(self, request: web.Request) -> web.Response:
        if id_ := request.query.get("id"):
            origin, _ = await asyncio.to_thread(self._named, id_)
            raise web.HTTPSeeOther("/destination?" + urlencode({"origin": origin}) + f"#{id_}")
        origin = DestinationRequest.model_validate({"destination": request.query.get("origin", "")}).destination
        return await self.page(request, "destination.html", lambda: pages.destination(self._context, origin))

    def _found(self, begin: str) -> str:
        """To the one delivery whose id is this or begins so; where there is none, or there are more, to the list."""
        try:
            id_ = inspection.whole_id(self._context.database, begin)
        except NotFound:
            return "/deliveries?" + urlencode({"id_prefix": begin})
        return f"/deliveries/{quote(id_, safe='')}"

    def _named(self, id_: str) -> tuple[str, str]:
        return named(self._context.database, id_, self._context.database.now())

    async def audit(self, request: web.Request) -> web.Response:
        given = _given(request.query)
        asked = AuditRequest.model_validate(given)
        return await self.page(request, "audit.html", lambda: pages.audit_page(self._context, asked, given))

    async def settings(self, request: web.Request) -> web.Response:
        return await self.page(request, "settings.html", lambda: pages.settings(self._context))

    async def runbooks(self, request: web.Request) -> web.Response:
        return await self.page(request, "runbooks.html", lambda: {"runbooks": rendering.runbooks()})

    async def preview(self, request: web.Request) -> web.Response:
        asked, fields = _replay_asked(list(request.query.items()))
        return await self.page(request, "replay.html", lambda: pages.preview(self._context, asked, fields))

    async def replay(self, request: web.Request) -> web.Response:
        form = await request.post()
        asked, _ = _replay_asked([(name, str(text)) for name, text in form.items()])
        actor = self._actor(request)

        def carry_out() -> int:
            database = self._context.database
            selection = asked.selection(database.now, asked.state)
            plan = operations.plan_replay(database, selection)
            return deque(operations.replay(database, selection, plan, actor, rate=asked.rate), maxlen=1)[0].done

        done = await asyncio.to_thread(carry_out)
        if len(asked.ids) == 1:
            raise web.HTTPSeeOther(f"/deliveries/{quote(asked.ids[0], safe='')}?note=replayed")
        raise web.HTTPSeeOther(f"/deliveries?note=replayed-{done}")

    async def cancel(self, request: web.Request) -> web.Response:
        id_, actor = request.match_info["id"], self._actor(request)

        def carry_out() -> None:
            selection = BulkSelection((id_,))
            plan = operations.plan_cancel(self._context.database, selection)
            deque(operations.cancel(self._context.database, selection, plan, actor), maxlen=0)

        await asyncio.to_thread(carry_out)
        raise web.HTTPSeeOther(f"/deliveries/{quote(id_, safe='')}?note=cancelled")

    async def reveal(self, request: web.Request) -> web.Response:
        """The page with what is masked otherwise. Nobody can link to it, and the audit says who looked."""
        id_, actor = request.match_info["id"], self._actor(request)

        def gather() -> Facts:
            database = self._context.database
            kept = inspection.delivery(database, id_, database.now()).body_kept
            body = inspection.body(database, id_) if kept else None
            with acting(database) as connection:
                audit.note(connection, actor, "delivery.reveal", database.now(), id=id_, what="body and headers")
            return pages.delivery(self._context, id_, reveal=True, body=body)

        return await self.page(request, "delivery.html", gather)

    async def act(self, request: web.Request) -> web.Response:
        name = request.match_info["act"]
        if name not in _ACTS:
            raise NotFound(f"there is no act called {name!r}")
        form = await request.post()
        asked = DestinationRequest.model_validate({"destination": form.get("origin", ""), "path": form.get("path", "")})
        place = asked.destination + asked.path
        await asyncio.to_thread(_ACTS[name], self._context.database, place, self._actor(request))
        note = f"{name}-path" if asked.path else name
        raise web.HTTPSeeOther("/destination?" + urlencode({"origin": asked.destination, "note": note}))

    async def rotate(self, request: web.Request) -> web.Response:
        form = await request.post()
        asked = RotateRequest.model_validate({name: text for name, text in form.items() if text})
        actor, overlap = self._actor(request), keys.OVERLAP if asked.overlap is None else asked.overlap

        def rotated() -> NewKey:
            database, key = self._context.database, keys.generate(ed25519=asked.ed25519)
            return keys.rotate(database, key, asked.destination, actor, database.now(), overlap)

        facts = {"new": await asyncio.to_thread(rotated), "overlap": overlap}
        return await self.page(request, "key.html", facts)

    async def login_page(self, request: web.Request) -> web.Response:
        wanted, ticket = _inside(request.query.get("next", "/")), request.query.get("ticket", "")
        # Whatever only looks at what a link leads to (HEAD) leaves the ticket to whoever follows it.
        name = self._authenticator.redeem(ticket, time.time()) if request.method == "GET" else None
        if name is not None:
            raise self._signed_in(request, name, wanted)
        facts = {"next": wanted, "wrong": False, "spent": bool(ticket), "name": ""}
        return await self.page(request, "login.html", facts)

    async def login(self, request: web.Request) -> web.Response:
        form = await request.post()
        token, name = str(form.get("token", "")).strip(), str(form.get("name", ""))
        wanted = _inside(str(form.get("next", "/")))
        if not self._authenticator.admits(token):
            log.warning("admin.login.refused", peer=request.remote)
            facts = {"next": wanted, "wrong": True, "spent": False, "name": name}
            return await self.page(request, "login.html", facts, status=403)
        raise self._signed_in(request, name, wanted)

    def _signed_in(self, request: web.Request, name: str, wanted: str) -> web.HTTPSeeOther:
        answer = web.HTTPSeeOther(wanted)
        session = self._authenticator.session(proper_name(name, "operator"), time.time())
        answer.set_cookie(
            COOKIE,
            session,
            max_age=int(SESSION_SECONDS),
            httponly=True,
            samesite="Strict",
            secure=request.scheme == _SECURE,
        )
        return answer

    async def logout(self, _: web.Request) -> web.Response:
        answer = web.HTTPSeeOther("/login")
        answer.del_cookie(COOKIE, httponly=True, samesite="Strict")
        raise answer

    def _actor(self, request: web.Request) -> Actor:
        return Actor(visitor(request, self._authenticator) or "", "console")


def _given(query: Mapping[str, str]) -> dict[str, str]:
    """What a form sends for a field that was left alone is no wish."""
    return {name: text.strip() for name, text in query.items() if text.strip()}


def _replay_asked(sent: Sequence[tuple[str, str]]) -> tuple[ReplayRequest, list[tuple[str, str]]]:
    """What is to be sent again, and the same as the fields of a form."""
    ids = [text for name, text in sent if name == "id"]
    given = {name: text for name, text in sent if text.strip() and name not in ("id", "older", "note")}
    if not ids:
        given.setdefault("limit", str(pages.MOST_REPLAYED))
    fields = [("id", id_) for id_ in ids] + list(given.items())
    return ReplayRequest.model_validate(given | {"ids": ids}), fields


def _note(request: web.Request) -> str | None:
    """What was just done, from a closed set: a link could say anything else."""
    name, _, count = request.query.get("note", "").partition("-")
    number = f"{int(count)}" if count.isdecimal() and len(count) < 10 else "0"
    place = "path" if count == "path" else "destination"
    return {
        "replayed": f"{number} deliveries go out again." if count else "It goes out again.",
        "cancelled": "It was given up. Sending it again brings it back.",
        "pause": f"The {place} is paused.",
        "resume": f"The {place} is called again.",
        "disable": f"The {place} is disabled.",
        "enable": "The path is called again."
        if place == "path"
        else "The destination is called again, and all its paths.",
    }.get(name)


def _inside(path: str) -> str:
    """A path of this console: a link that signs somebody in must not lead elsewhere."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"


def _flaws(error: ValidationError) -> dict[str, str]:
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    return {str(fault["loc"][0]): fault["msg"].removeprefix("Value error, ") for fault in faults if fault["loc"]}
