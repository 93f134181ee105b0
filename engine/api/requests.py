"""`GET /v1/requests`: what became of requests, for whoever made them, whichever vendor's API they came through.

A receiver that was down lists what it missed (`?undelivered=true&since=...`) and fetches each. One that was sent a link
because the result was too large for it gets it from `GET /v1/results`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import orjson
from aiohttp import web

from engine.api.auth import authenticate
from engine.api.errors import Rejected
from engine.dialects.deepgram import BadRequest
from engine.jobs.archive import Archive, JobFilter, Position
from engine.keys import ApiKeys
from engine.record import CallbackStatus, JobState, Record, timestamp
from engine.result_delivery import document
from relay.outbox.links import PATH as LINKS
from relay.outbox.links import opens
from relay.outbox.results import PastAttempt, Results

LIST = "/v1/requests"
ONE = "/v1/requests/{id}"
RESULT = LINKS + "{id}"

_MOST = 100
_NOT_FOUND = BadRequest("NOT_FOUND", "There is no request with this id, or another key made it.", 404)
_CLOSED = BadRequest("INSUFFICIENT_PERMISSIONS", "The link has expired, or was changed on its way.", 403)
_FORGOTTEN = BadRequest("NOT_FOUND", "The result is no longer kept.", 404)
# What a caller may know of how far it is: the recogniser tells nothing on its way.
_PROGRESS = {JobState.QUEUED: 0.0, JobState.PROCESSING: None, JobState.DONE: 1.0, JobState.FAILED: 1.0}


def routes(keys: ApiKeys, archive: Archive, results: Results, clock: Callable[[], float]) -> list[web.RouteDef]:
    """The endpoints, ready to be added to an application. `clock` tells epoch seconds."""
    requests = Requests(keys, archive, results, clock)
    return [web.get(LIST, requests.list), web.get(ONE, requests.find), web.get(RESULT, requests.result)]


class Requests:
    """Requests are told to the key that made them, results to whoever has their link."""

    def __init__(self, keys: ApiKeys, archive: Archive, results: Results, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._archive = archive
        self._results = results
        self._clock = clock

    async def find(self, http: web.Request) -> web.Response:
        """One request with its result, and with every attempt to deliver it."""
        key_id = await authenticate(http, self._keys)
        record = await self._archive.find(http.match_info["id"], key_id)
        if record is None:
            raise Rejected(_NOT_FOUND)
        told = _summary(record)
        if told["delivery"]:
            attempts = await self._archive.attempts(record.request.id)
            told["delivery"]["attempts"] = [_attempt(one) for one in attempts]
        # In a thread: to render hours of speech takes tenths of a second, for which no other request should wait.
        outcome = await asyncio.to_thread(_rendered, record) if record.result else await self._unreceived(record)
        return _json(told | {"result": None, "error": None} | outcome)

    async def result(self, http: web.Request) -> web.Response:
        """The result that a link leads to, byte for byte. The link is the credential: no key is asked for."""
        delivery_id, query = http.match_info["id"], http.query
        expires, signed = query.get("expires", ""), query.get("signature", "")
        if not opens(await self._results.secret(), delivery_id, expires, signed, self._clock()):
            raise Rejected(_CLOSED)
        result = await self._results.fetch(delivery_id)
        if result is None:
            raise Rejected(_FORGOTTEN)
        return web.Response(body=result.body, headers={"Content-Type": result.content_type})

    async def _unreceived(self, record: Record) -> dict[str, Any]:
        """Once the result itself is forgotten, there may still be the body of a callback that was never received."""
        kept = await self._results.fetch(record.request.id) if record.finished_at else None
        return {_outcome(record): orjson.Fragment(kept.body)} if kept else {}

    async def list(self, http: web.Request) -> web.Response:
        """A page of requests, the newest first, without their results."""
        key_id = await authenticate(http, self._keys)
        query = _Query(list(http.query.items()))
        page = await self._archive.page(query.selection(key_id))
        return _json({"requests": [_summary(record) for record in page.records], "next": query.link(page.next)})


class _Query:
    """The parameters of a list, each at most once; a mistake in one of them is told by its name."""

    def __init__(self, given: Sequence[tuple[str, str]]) -> None:
        self._given = dict(given)
        for name, times in Counter(name for name, _ in given).items():
            if name not in _PARAMETERS:
                raise _flaw(name, f"there is no such parameter; use {', '.join(_PARAMETERS)}")
            if times > 1:
                raise _flaw(name, "more than one was given, where one says it all")

    def selection(self, key_id: str | None) -> JobFilter:
        read: dict[str, Any] = {}
        for name, (field, parse) in _PARAMETERS.items():
            if name in self._given:
                try:
                    read[field] = parse(self._given[name])
                except ValueError as error:
                    raise _flaw(name, str(error)) from None
        return JobFilter(key_id, **read)

    def link(self, behind: Position | None) -> str | None:
        """Where the list goes on, relative to this server."""
        return f"{LIST}?{urlencode({**self._given, 'cursor': _cursor(behind)})}" if behind else None


def _flaw(name: str, message: str) -> Rejected:
    return Rejected(BadRequest("INVALID_QUERY_PARAMETER", f"{name[:64]}: {message}.", 400))


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("expected true or false")
    return text.lower() == "true"


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _MOST):
        raise ValueError(f"expected a number from 1 to {_MOST}")
    return int(text)


def _states(text: str) -> tuple[JobState, ...]:
    try:
        return tuple(JobState(part.strip()) for part in text.split(","))
    except ValueError:
        raise ValueError(f"expected {', '.join(JobState)}, or several of them with commas") from None


def _moment(text: str) -> float:
    """RFC 3339, or seconds since the epoch. A blank is the plus sign of a zone that was not percent-encoded."""
    flaw = ValueError("expected a time such as 2026-11-20T20:58:34Z, or seconds since 1970")
    try:
        seconds = float(text) if text[:1].isdigit() and "-" not in text else _date(text.replace(" ", "+"))
    except (ValueError, OverflowError):
        raise flaw from None
    if not 0 <= seconds < 1e12:
        raise flaw
    return seconds


def _date(text: str) -> float:
    date = datetime.fromisoformat(text)
    return date.replace(tzinfo=date.tzinfo or UTC).timestamp()


def _cursor(position: Position) -> str:
    return base64.urlsafe_b64encode(json.dumps([position.created_at, position.seq]).encode()).decode().rstrip("=")


def _position(text: str) -> Position:
    try:
        created_at, seq = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        position = Position(float(created_at), int(seq))
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error):
        position = Position(0.0, -1)
    if not (0 <= position.seq < 2**63 and math.isfinite(position.created_at)):
        raise ValueError("expected the cursor of an earlier answer's `next`")
    return position


_PARAMETERS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "undelivered": ("undelivered", _boolean),
    "since": ("since", _moment),
    "before": ("before", _moment),
    "state": ("states", _states),
    "limit": ("limit", _limit),
    "cursor": ("behind", _position),
}


def _outcome(record: Record) -> str:
    return "error" if record.state is JobState.FAILED else "result"


def _rendered(record: Record) -> dict[str, Any]:
    """What the callback's body says."""
    assert record.result is not None
    return {_outcome(record): orjson.Fragment(orjson.dumps(document(record.request, record.media, record.result)))}


def _summary(record: Record) -> dict[str, Any]:
    return {
        "id": record.request.id,
        "dialect": record.request.dialect,
        "model": record.request.model,
        "state": record.state.value,
        "progress": _PROGRESS[record.state],
        "created_at": _time(record.created_at),
        "started_at": _time(record.started_at),
        "finished_at": _time(record.finished_at),
        "duration": record.duration,
        "delivery": _delivery(record.delivery) if record.delivery else None,
    }


def _delivery(delivered: CallbackStatus) -> dict[str, Any]:
    return {
        "state": delivered.state,
        "attempt_count": delivered.attempts,
        "next_attempt_at": _time(delivered.next_attempt_at),
        "last_status": delivered.last_status,
        "last_error": delivered.last_error,
    }


def _attempt(attempt: PastAttempt) -> dict[str, Any]:
    return asdict(attempt) | {"started_at": _time(attempt.started_at), "duration": round(attempt.duration, 6)}


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else timestamp(seconds)


def _json(told: dict[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(told), content_type="application/json")
