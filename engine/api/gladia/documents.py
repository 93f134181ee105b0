"""JSON documents as Gladia's clients send and expect them: read, judged, answered, and found in what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from engine.api.admission import Body
from engine.api.context import ApiContext
from engine.api.errors import Rejected, identity, not_looked_up
from engine.dialects.gladia import GladiaProblem, Listing, invalid, parse_listing
from engine.jobs.archive import JobFilter
from engine.record import Record
from relay.guard.resolver import LookupShortage, Resolver, Unresolved, admit
from relay.guard.rules import Refusal
from relay.guard.url import PRE_RECORDED

MAX_JSON = 256 * 1024
"""Bytes of a JSON body, which may hold a vocabulary."""

_BAD_JSON = GladiaProblem(400, 'The body is not JSON. Send {"audio_url": "https://..."} as application/json.')


async def read_json(body: Body) -> Any:
    """The decoded body. Strict: what JSON does not know (NaN, half of a surrogate pair) could not be sent on."""
    try:
        return orjson.loads(await body.whole())
    except orjson.JSONDecodeError:
        raise Rejected(_BAD_JSON) from None


async def judge_url(resolver: Resolver, field: str, url: str, key_id: str | None, *, must_resolve: bool) -> None:
    """Raises Rejected for a URL that the guard turns down. A host without an address may have one later, when audio is
    fetched."""
    match await admit(url, resolver, PRE_RECORDED, key_id):
        case Refusal(message=message):
            raise Rejected(invalid(f"{field} must be a URL address that this server may call. {message}"))
        case Unresolved(detail=detail, answered=True) if must_resolve:
            raise Rejected(invalid(f"{field} must be a URL address that resolves. {detail}"))
        case Unresolved() | LookupShortage() as unknown if must_resolve:
            raise not_looked_up(field, unknown)


def base_url(api: ApiContext, http: web.Request) -> str:
    """The beginning of every URL that callers are given."""
    return api.public_url.rstrip("/") or f"{http.scheme}://{http.headers.get('Host') or _address(http)}"


def answer(document: dict[str, Any], status: int = 200) -> web.Response:
    """A document. JavaScript clients decode it by its Content-Type."""
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")


async def rendered(render: Callable[[], dict[str, Any]]) -> web.Response:
    """A document made in a thread: hours of words are no business of the event loop."""
    body = await asyncio.to_thread(lambda: orjson.dumps(render()))
    return web.Response(body=body, content_type="application/json")


async def find(api: ApiContext, http: web.Request, key_id: str | None, dialect: str, missing: GladiaProblem) -> Record:
    """What the path names, of this key and dialect. Raises Rejected where there is none."""
    record = await api.archive.find(http.match_info["id"], key_id)
    if record is None or record.request.dialect != dialect:
        raise Rejected(missing)
    return record


class FileOnce(web.FileResponse):
    """A file that is sent by the first `prepare` and may be gone after it: aiohttp prepares what a handler returns once
    more, would not find the file, and would end the connection."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None if self.prepared else await super().prepare(request)


async def download(
    api: ApiContext, http: web.Request, job_id: str, key_id: str | None, filename: str, missing: GladiaProblem
) -> web.StreamResponse:
    """The audio of a job, byte for byte. Raises Rejected where it is not here, or not the caller's."""
    async with api.archive.audio(job_id, key_id) as path:
        if path is None:
            raise Rejected(missing)
        response = FileOnce(path, headers=identity(http) | _as_a_file(filename))
        await response.prepare(http)  # which sends it all, as long as it is there
        return response


def _as_a_file(name: str) -> dict[str, str]:
    return {
        "Content-Type": "application/octet-stream",  # whatever it holds: no browser is to play or run it from here
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "X-Content-Type-Options": "nosniff",
    }


async def page(
    api: ApiContext,
    http: web.Request,
    key_id: str | None,
    dialect: str,
    kind: str,
    shown: Callable[[Record], dict[str, Any]],
) -> web.Response:
    """What a key has made, the newest first, results included: a page of it, by what the query asks for. `kind` is the
    vendor's word for the dialect, and `shown` what a list shows of each."""
    listing = parse_listing(list(http.rel_url.query.items()), kind)
    if isinstance(listing, GladiaProblem):
        raise Rejected(listing)
    records, more = await _found(api, listing, key_id, dialect)
    links = _links(f"{base_url(api, http)}{http.path}", http, listing, more=more)
    return await rendered(lambda: links | {"items": [shown(record) for record in records]})


async def _found(api: ApiContext, listing: Listing, key_id: str | None, dialect: str) -> tuple[list[Record], bool]:
    if listing.nothing:
        return [], False
    selection = JobFilter(
        key_id=key_id,
        dialect=dialect,
        states=listing.states,
        since=listing.since,
        before=listing.before,
        metadata=listing.metadata,
        offset=listing.offset,
        limit=listing.limit,
    )
    found = await api.archive.page(selection, with_results=True)
    return found.records, found.next is not None


def _links(path: str, http: web.Request, listing: Listing, *, more: bool) -> dict[str, Any]:
    """The first page, this one and the next one, under the filters that were sent."""
    filters = [(name, value) for name, value in http.rel_url.query.items() if name not in {"offset", "limit"}]

    def link(offset: int) -> str:
        return f"{path}?{urlencode([('offset', offset), ('limit', listing.limit), *filters])}"

    following = link(listing.offset + listing.limit) if more else None
    return {"first": link(0), "current": link(listing.offset), "next": following}


def _address(http: web.Request) -> str:
    """Where the request came in, for the rare client that does not say what it called (aiohttp would ask the DNS)."""
    host, port = http.get_extra_info("sockname")[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
