"""The endpoints: each is one operation, and says what it takes and gives.

They run in a thread, one event loop away from deliveries: they may block, and turn a loop of their own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from relay.admin import audit, backup, destinations, doctor, inspection, keys, operations, overview
from relay.admin import verify_url as judging
from relay.admin.access import Refused, acting
from relay.admin.api import requests, responses
from relay.admin.audit import Actor
from relay.admin.backup import Backup
from relay.admin.context import AdminContext
from relay.admin.doctor import Finding
from relay.admin.inspection import DeliveryPage, Tail
from relay.admin.keys import NewKey
from relay.admin.operations import Plan, Progress
from relay.admin.overview import Overview
from relay.admin.probe import Probed
from relay.admin.times import Moment
from relay.admin.verify_url import Judgement

_AN_HOUR_AGO = Moment(ago=3600.0)
_TROUBLES = 20
BACKUPS = "backups"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation over HTTP. Fields of `request` that stand in the path come from there, the others from the query of
    a GET or the JSON body of a POST. `gives` is a dataclass, or bytes. One that is `for_owners` may be asked with the
    key of an owner, which is then what `owner` of `request` says."""

    method: Literal["GET", "POST"]
    path: str
    summary: str
    request: type[requests.RequestModel]
    gives: type
    carry_out: Callable[[AdminContext, Actor, Any], Any]
    for_owners: bool = False


def _status(context: AdminContext, _: Actor, __: requests.NoParameters) -> Overview:
    return overview.overview(context.database, context.database.now())


def _list(context: AdminContext, _: Actor, request: requests.ListRequest) -> DeliveryPage:
    return inspection.search(
        context.database, request.filter(request.state, context.database.now), limit=request.limit, older=request.older
    )


def _show(context: AdminContext, actor: Actor, request: requests.ShowRequest) -> responses.DeliveryResponse:
    now = context.database.now()
    one = inspection.delivery(context.database, request.id, now, reveal=request.reveal, owner=request.owner)
    if request.reveal:
        _note_reveal(context, actor, request.id, "headers")
    return responses.DeliveryResponse(one, inspection.as_curl(one))


def _attempts(context: AdminContext, _: Actor, request: requests.AttemptsRequest) -> responses.AttemptsResponse:
    return responses.AttemptsResponse(inspection.history(context.database, request.id, owner=request.owner))


def _body(context: AdminContext, actor: Actor, request: requests.OneRequest) -> bytes:
    body = inspection.body(context.database, request.id)
    _note_reveal(context, actor, request.id, "body")
    return body


def _note_reveal(context: AdminContext, actor: Actor, id_: str, what: str) -> None:
    with acting(context.database) as connection:
        audit.note(connection, actor, "delivery.reveal", context.database.now(), id=id_, what=what)


def _tail(context: AdminContext, _: Actor, request: requests.TailRequest) -> responses.TailResponse:
    return responses.TailResponse(Tail(context.database, request.outcome, request.destination).recent(request.limit))


def _stats(context: AdminContext, _: Actor, request: requests.StatsRequest) -> responses.StatsResponse:
    since = (request.since or _AN_HOUR_AGO).by(context.database.now)
    return responses.StatsResponse(since, overview.stats(context.database, since, request.by))


def _replay(context: AdminContext, actor: Actor, request: requests.ReplayRequest) -> responses.BulkResponse:
    selection = request.selection(context.database.now, request.state)
    plan = operations.plan_replay(context.database, selection)
    steps = operations.replay(context.database, selection, plan, actor, rate=request.rate)
    return _done(plan, steps, dry_run=request.dry_run)


def _cancel(context: AdminContext, actor: Actor, request: requests.SelectionRequest) -> responses.BulkResponse:
    selection = request.selection(context.database.now)
    plan = operations.plan_cancel(context.database, selection)
    return _done(plan, operations.cancel(context.database, selection, plan, actor), dry_run=request.dry_run)


def _done(plan: Plan, steps: Iterator[Progress], *, dry_run: bool) -> responses.BulkResponse:
    """Takes the steps, unless it is a `dry_run`: without that nothing happens."""
    last = deque(steps, maxlen=1) if not dry_run else ()
    run, done = (last[0].run, last[0].done) if last else ("", 0)
    return responses.BulkResponse(dry_run=dry_run, run=run, done=done, **plan.said())


def _destinations(context: AdminContext, _: Actor, __: requests.NoParameters) -> responses.DestinationsResponse:
    now = context.database.now()
    seen = overview.overview(context.database, now, history=False, most=_TROUBLES)
    return responses.DestinationsResponse(destinations.destinations(context.database, now), seen.troubles)


def _changing(
    act: Callable[..., bool],
) -> Callable[[AdminContext, Actor, requests.DestinationRequest], responses.ChangeResponse]:
    def carry_out(
        context: AdminContext, actor: Actor, request: requests.DestinationRequest
    ) -> responses.ChangeResponse:
        place = request.destination + request.path
        return responses.ChangeResponse(place, act(context.database, place, actor))

    return carry_out


def _keys(context: AdminContext, _: Actor, __: requests.NoParameters) -> responses.KeysResponse:
    return responses.KeysResponse(keys.keys(context.database))


def _add_key(context: AdminContext, actor: Actor, request: requests.KeyRequest) -> responses.NewKeyResponse:
    return _handover(keys.add(context.database, _key(request), request.destination, actor, context.database.now()))


def _rotate_key(context: AdminContext, actor: Actor, request: requests.RotateRequest) -> responses.NewKeyResponse:
    overlap = keys.OVERLAP if request.overlap is None else request.overlap
    return _handover(
        keys.rotate(context.database, _key(request), request.destination, actor, context.database.now(), overlap)
    )


def _retire_key(context: AdminContext, actor: Actor, request: requests.RetireRequest) -> keys.KeyInfo:
    return keys.retire(
        context.database, request.id, actor, context.database.now(), after=request.after or 0.0, force=request.force
    )


def _key(request: requests.KeyRequest) -> str:
    if request.key is not None and request.ed25519:
        raise ValueError("key: it says itself which kind it is; leave ed25519 out")
    return keys.generate(ed25519=request.ed25519) if request.key is None else request.key


def _handover(new: NewKey) -> responses.NewKeyResponse:
    return responses.NewKeyResponse(new.info, new.handover, new.retiring)


def _verify_url(context: AdminContext, _: Actor, request: requests.UrlRequest) -> Judgement:
    return asyncio.run(judging.verify(request.url, context.resolver(), live=request.live, offline=request.offline))


def _probe(context: AdminContext, _: Actor, request: requests.ProbeRequest) -> Probed:
    judgement = asyncio.run(judging.verify(request.url, context.resolver()))
    if not judgement.allowed:
        raise Refused(f"url: {judgement.message}")
    return asyncio.run(_sent(context, request))


async def _sent(context: AdminContext, request: requests.ProbeRequest) -> Probed:
    return await context.probe(request.url, request.method, request.bytes)


def _doctor(context: AdminContext, _: Actor, request: requests.DoctorRequest) -> responses.DoctorResponse:
    found = list(doctor.examine(context.database, context.rules, context.environ))
    if request.egress:
        found += asyncio.run(_egress(context))
    return responses.DoctorResponse(tuple(found))


async def _egress(context: AdminContext) -> list[Finding]:
    return [finding async for finding in doctor.egress(context.database, context.resolver())]


def _audit(context: AdminContext, _: Actor, request: requests.AuditRequest) -> responses.AuditResponse:
    acts = audit.acts(context.database, act=request.act, limit=request.limit, older=request.older)
    return responses.AuditResponse(acts, acts[-1].id if len(acts) == request.limit else None)


def _settings(context: AdminContext, _: Actor, __: requests.NoParameters) -> responses.SettingsResponse:
    return responses.SettingsResponse(tuple(context.settings))


def _retention(context: AdminContext, actor: Actor, request: requests.RetentionRequest) -> responses.RetentionResponse:
    pruned = operations.forget(context.database, context.kept, actor, context.database.now(), dry_run=request.dry_run)
    return responses.RetentionResponse(request.dry_run, pruned)


def _backup(context: AdminContext, actor: Actor, request: requests.BackupRequest) -> Backup:
    folder = backup.file_of(context.database).parent / BACKUPS
    folder.mkdir(mode=0o700, exist_ok=True)
    return backup.backup(context.database, folder / request.name, actor)


ENDPOINTS = (
    Endpoint(
        "GET",
        "/status",
        "How the queue stands, and what is wrong, if anything",
        requests.NoParameters,
        Overview,
        _status,
    ),
    Endpoint(
        "GET", "/deliveries", "Deliveries, the newest first", requests.ListRequest, DeliveryPage, _list, for_owners=True
    ),
    Endpoint(
        "GET",
        "/deliveries/{id}",
        "One delivery",
        requests.ShowRequest,
        responses.DeliveryResponse,
        _show,
        for_owners=True,
    ),
    Endpoint(
        "GET",
        "/deliveries/{id}/attempts",
        "Its attempts",
        requests.AttemptsRequest,
        responses.AttemptsResponse,
        _attempts,
        for_owners=True,
    ),
    Endpoint(
        "GET", "/deliveries/{id}/body", "Its body, which may be personal. Audited", requests.OneRequest, bytes, _body
    ),
    Endpoint("POST", "/replay", "Send deliveries again", requests.ReplayRequest, responses.BulkResponse, _replay),
    Endpoint("POST", "/cancel", "Give up what is pending", requests.SelectionRequest, responses.BulkResponse, _cancel),
    Endpoint("GET", "/attempts", "The last attempts", requests.TailRequest, responses.TailResponse, _tail),
    Endpoint("GET", "/stats", "Attempts by group", requests.StatsRequest, responses.StatsResponse, _stats),
    Endpoint(
        "GET",
        "/destinations",
        "Where deliveries go",
        requests.NoParameters,
        responses.DestinationsResponse,
        _destinations,
    ),
    Endpoint(
        "POST",
        "/destinations/pause",
        "Call it no more until it is resumed",
        requests.DestinationRequest,
        responses.ChangeResponse,
        _changing(operations.pause),
    ),
    Endpoint(
        "POST",
        "/destinations/resume",
        "Call a paused one again",
        requests.DestinationRequest,
        responses.ChangeResponse,
        _changing(operations.resume),
    ),
    Endpoint(
        "POST",
        "/destinations/disable",
        "Call it no more until it is enabled",
        requests.DestinationRequest,
        responses.ChangeResponse,
        _changing(operations.disable),
    ),
    Endpoint(
        "POST",
        "/destinations/enable",
        "Call it again, whatever stood in the way",
        requests.DestinationRequest,
        responses.ChangeResponse,
        _changing(operations.enable),
    ),
    Endpoint(
        "GET",
        "/keys",
        "The keys that sign, without their secrets",
        requests.NoParameters,
        responses.KeysResponse,
        _keys,
    ),
    Endpoint("POST", "/keys", "Sign with one more key", requests.KeyRequest, responses.NewKeyResponse, _add_key),
    Endpoint(
        "POST",
        "/keys/rotate",
        "Sign with a new key instead",
        requests.RotateRequest,
        responses.NewKeyResponse,
        _rotate_key,
    ),
    Endpoint("POST", "/keys/{id}/retire", "Sign with a key no more", requests.RetireRequest, keys.KeyInfo, _retire_key),
    Endpoint("POST", "/verify-url", "What the guard says of a URL", requests.UrlRequest, Judgement, _verify_url),
    Endpoint("POST", "/probe", "Send one signed test request", requests.ProbeRequest, Probed, _probe),
    Endpoint("GET", "/doctor", "Look the installation over", requests.DoctorRequest, responses.DoctorResponse, _doctor),
    Endpoint(
        "GET", "/audit", "What operators did, the last first", requests.AuditRequest, responses.AuditResponse, _audit
    ),
    Endpoint(
        "GET",
        "/settings",
        "Every setting as it is in force",
        requests.NoParameters,
        responses.SettingsResponse,
        _settings,
    ),
    Endpoint(
        "POST",
        "/retention",
        "Forget what was kept long enough, now",
        requests.RetentionRequest,
        responses.RetentionResponse,
        _retention,
    ),
    Endpoint("POST", "/backup", "Copy the outbox while it is in use", requests.BackupRequest, Backup, _backup),
)
