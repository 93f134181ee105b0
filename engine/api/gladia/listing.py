"""A page of what a key has made: jobs, or live sessions that are over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import orjson
from aiohttp import web

from engine.api.auth import authenticate_gladia
from engine.api.errors import Rejected
from engine.api.gladia.documents import Parts
from engine.dialects.gladia import Listing, Problem, parse_listing
from engine.jobs.archive import Selection
from engine.record import Record

Shown = Callable[[Record], dict[str, Any]]
"""What a list shows of each."""


async def page(parts: Parts, http: web.Request, dialect: str, kind: str, shown: Shown) -> web.Response:
    """What the query asks for, the newest first, results included."""
    key_id = await authenticate_gladia(http, parts.keys)
    listing = parse_listing(list(http.rel_url.query.items()), kind)
    if isinstance(listing, Problem):
        raise Rejected(listing)
    records, more = await _found(parts, listing, key_id, dialect)
    links = _links(parts, http, listing, more=more)
    return await rendered(lambda: links | {"items": [shown(record) for record in records]})


async def rendered(render: Callable[[], dict[str, Any]]) -> web.Response:
    """A document made in a thread: hours of words are no business of the event loop."""
    body = await asyncio.to_thread(lambda: orjson.dumps(render()))
    return web.Response(body=body, content_type="application/json")


async def _found(parts: Parts, listing: Listing, key_id: str | None, dialect: str) -> tuple[list[Record], bool]:
    if listing.nothing:
        return [], False
    selection = Selection(
        key_id=key_id,
        dialect=dialect,
        states=listing.states,
        since=listing.since,
        before=listing.before,
        metadata=listing.metadata,
        offset=listing.offset,
        limit=listing.limit,
    )
    found = await parts.archive.page(selection, with_results=True)
    return found.records, found.next is not None


def _links(parts: Parts, http: web.Request, listing: Listing, *, more: bool) -> dict[str, Any]:
    """The first page, this one and the next one, under the filters that were sent."""
    filters = [(name, value) for name, value in http.rel_url.query.items() if name not in {"offset", "limit"}]

    def link(offset: int) -> str:
        query = urlencode([("offset", offset), ("limit", listing.limit), *filters])
        return f"{parts.base(http)}{http.path}?{query}"

    following = link(listing.offset + listing.limit) if more else None
    return {"first": link(0), "current": link(listing.offset), "next": following}
