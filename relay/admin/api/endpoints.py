"""The endpoints: each is one operation, and says what it takes and gives.

They run in a thread, one event loop away from deliveries: they may block, and turn a loop of their own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from relay.admin import audit, backup, diagnosis, doctor, forgetting, inspection, keys, operations, overview
from relay.admin import verify_url as judging
from relay.admin.access import acting
from relay.admin.api import answers, asking
from relay.admin.audit import Actor
from relay.admin.backup import Backup
from relay.admin.desk import Desk
from relay.admin.doctor import Finding
from relay.admin.errors import Refused
from relay.admin.inspection import Page, Tail
from relay.admin.keys import NewKey
from relay.admin.operations import Plan, Progress
from relay.admin.overview import Overview
from relay.admin.probe import Probed
from relay.admin.times import Moment
from relay.admin.verify_url import Judgement
from relay.guard.resolver import system_lookup

_AN_HOUR_AGO = Moment(ago=3600.0)
_TROUBLES = 20
BACKUPS = "backups"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation over HTTP. Fields of `asked` that stand in the path come from there, the others from the query of
    a GET or the JSON body of a POST. `gives` is a dataclass, or bytes."""

    method: Literal["GET", "POST"]
    path: str
    summary: str
    asked: type[asking.Question]
    gives: type
    carry_out: Callable[[Desk, Actor, Any], Any]


def _status(desk: Desk, _: Actor, __: asking.Nothing) -> Overview:
    return overview.overview(desk.database, desk.database.now())


def _list(desk: Desk, _: Actor, asked: asking.ListAsked) -> Page:
    return inspection.search(
        desk.database, asked.filter(asked.state, desk.database.now), limit=asked.limit, older=asked.older
    )


def _show(desk: Desk, actor: Actor, asked: asking.ShowAsked) -> answers.Shown:
    one = inspection.delivery(desk.database, asked.id, desk.database.now(), reveal=asked.reveal)
    if asked.reveal:
        _note_reveal(desk, actor, asked.id, "headers")
    return answers.Shown(one, inspection.as_curl(one))


def _attempts(desk: Desk, _: Actor, asked: asking.OneAsked) -> answers.Attempts:
    return answers.Attempts(inspection.history(desk.database, asked.id))


def _body(desk: Desk, actor: Actor, asked: asking.OneAsked) -> bytes:
    body = inspection.body(desk.database, asked.id)
    _note_reveal(desk, actor, asked.id, "body")
    return body


def _note_reveal(desk: Desk, actor: Actor, id_: str, what: str) -> None:
    with acting(desk.database) as connection:
        audit.note(connection, actor, "delivery.reveal", desk.database.now(), id=id_, what=what)


def _tail(desk: Desk, _: Actor, asked: asking.TailAsked) -> answers.Happenings:
    return answers.Happenings(Tail(desk.database, asked.outcome, asked.destination).recent(asked.limit))


def _stats(desk: Desk, _: Actor, asked: asking.StatsAsked) -> answers.Tallies:
    since = (asked.since or _AN_HOUR_AGO).by(desk.database.now)
    return answers.Tallies(since, overview.stats(desk.database, since, asked.by))


def _replay(desk: Desk, actor: Actor, asked: asking.ReplayAsked) -> answers.Done:
    selection = asked.selection(desk.database.now, asked.state)
    plan = operations.plan_replay(desk.database, selection)
    steps = operations.replay(desk.database, selection, plan, actor, rate=asked.rate)
    return _done(plan, steps, dry_run=asked.dry_run)


def _cancel(desk: Desk, actor: Actor, asked: asking.Selected) -> answers.Done:
    selection = asked.selection(desk.database.now)
    plan = operations.plan_cancel(desk.database, selection)
    return _done(plan, operations.cancel(desk.database, selection, plan, actor), dry_run=asked.dry_run)


def _done(plan: Plan, steps: Iterator[Progress], *, dry_run: bool) -> answers.Done:
    """Nothing happens until the steps are taken."""
    last = deque(steps, maxlen=1) if not dry_run else ()
    run, done = (last[0].run, last[0].done) if last else ("", 0)
    return answers.Done(dry_run=dry_run, run=run, done=done, **plan.said())


def _destinations(desk: Desk, _: Actor, __: asking.Nothing) -> answers.Destinations:
    now = desk.database.now()
    return answers.Destinations(
        overview.destinations(desk.database, now), diagnosis.troubled(desk.database, now, limit=_TROUBLES)
    )


def _changing(act: Callable[..., bool]) -> Callable[[Desk, Actor, asking.DestinationAsked], answers.Changed]:
    def carry_out(desk: Desk, actor: Actor, asked: asking.DestinationAsked) -> answers.Changed:
        return answers.Changed(asked.destination, act(desk.database, asked.destination, actor))

    return carry_out


def _keys(desk: Desk, _: Actor, __: asking.Nothing) -> answers.Keys:
    return answers.Keys(keys.keys(desk.database))


def _add_key(desk: Desk, actor: Actor, asked: asking.KeyAsked) -> answers.Handover:
    return _handover(keys.add(desk.database, _key(asked), asked.destination, actor, desk.database.now()))


def _rotate_key(desk: Desk, actor: Actor, asked: asking.RotateAsked) -> answers.Handover:
    overlap = keys.OVERLAP if asked.overlap is None else asked.overlap
    return _handover(keys.rotate(desk.database, _key(asked), asked.destination, actor, desk.database.now(), overlap))


def _retire_key(desk: Desk, actor: Actor, asked: asking.RetireAsked) -> keys.KeyInfo:
    return keys.retire(desk.database, asked.id, actor, desk.database.now(), after=asked.after or 0.0, force=asked.force)


def _key(asked: asking.KeyAsked) -> str:
    if asked.key is not None and asked.ed25519:
        raise ValueError("key: it says itself which kind it is; leave ed25519 out")
    return keys.generate(ed25519=asked.ed25519) if asked.key is None else asked.key


def _handover(new: NewKey) -> answers.Handover:
    return answers.Handover(new.info, new.handover, new.retiring)


def _verify_url(desk: Desk, _: Actor, asked: asking.UrlAsked) -> Judgement:
    lookup = None if asked.offline else system_lookup
    return asyncio.run(judging.verify(asked.url, rules=desk.rules, lookup=lookup, live=asked.live))


def _probe(desk: Desk, _: Actor, asked: asking.ProbeAsked) -> Probed:
    judgement = asyncio.run(judging.verify(asked.url, rules=desk.rules, lookup=system_lookup))
    if not judgement.allowed:
        raise Refused(f"url: {judgement.message}")
    return asyncio.run(_sent(desk, asked))


async def _sent(desk: Desk, asked: asking.ProbeAsked) -> Probed:
    return await desk.probe(asked.url, asked.method, asked.bytes)


def _doctor(desk: Desk, _: Actor, asked: asking.DoctorAsked) -> answers.Findings:
    found = list(doctor.examine(desk.database, desk.rules, desk.environ))
    if asked.egress:
        found += asyncio.run(_egress(desk))
    return answers.Findings(tuple(found))


async def _egress(desk: Desk) -> list[Finding]:
    return [finding async for finding in doctor.egress(desk.database, desk.rules)]


def _audit(desk: Desk, _: Actor, asked: asking.AuditAsked) -> answers.Acts:
    acts = audit.acts(desk.database, act=asked.act, limit=asked.limit, older=asked.older)
    return answers.Acts(acts, acts[-1].id if len(acts) == asked.limit else None)


def _settings(desk: Desk, _: Actor, __: asking.Nothing) -> answers.Settings:
    return answers.Settings(tuple(desk.settings))


def _retention(desk: Desk, actor: Actor, asked: asking.RetentionAsked) -> answers.Forgotten:
    pruned = forgetting.forget(desk.database, desk.kept, actor, desk.database.now(), dry_run=asked.dry_run)
    return answers.Forgotten(asked.dry_run, pruned)


def _backup(desk: Desk, actor: Actor, asked: asking.BackupAsked) -> Backup:
    folder = backup.file_of(desk.database).parent / BACKUPS
    folder.mkdir(mode=0o700, exist_ok=True)
    return backup.backup(desk.database, folder / asked.name, actor)


ENDPOINTS = (
    Endpoint(
        "GET", "/status", "How the queue stands, and what is wrong, if anything", asking.Nothing, Overview, _status
    ),
    Endpoint("GET", "/deliveries", "Deliveries, the newest first", asking.ListAsked, Page, _list),
    Endpoint("GET", "/deliveries/{id}", "One delivery", asking.ShowAsked, answers.Shown, _show),
    Endpoint("GET", "/deliveries/{id}/attempts", "Its attempts", asking.OneAsked, answers.Attempts, _attempts),
    Endpoint("GET", "/deliveries/{id}/body", "Its body, which may be personal. Audited", asking.OneAsked, bytes, _body),
    Endpoint("POST", "/replay", "Send deliveries again", asking.ReplayAsked, answers.Done, _replay),
    Endpoint("POST", "/cancel", "Give up what is pending", asking.Selected, answers.Done, _cancel),
    Endpoint("GET", "/attempts", "The last attempts", asking.TailAsked, answers.Happenings, _tail),
    Endpoint("GET", "/stats", "Attempts by group", asking.StatsAsked, answers.Tallies, _stats),
    Endpoint("GET", "/destinations", "Where deliveries go", asking.Nothing, answers.Destinations, _destinations),
    Endpoint(
        "POST",
        "/destinations/pause",
        "Call it no more until it is resumed",
        asking.DestinationAsked,
        answers.Changed,
        _changing(operations.pause),
    ),
    Endpoint(
        "POST",
        "/destinations/resume",
        "Call a paused one again",
        asking.DestinationAsked,
        answers.Changed,
        _changing(operations.resume),
    ),
    Endpoint(
        "POST",
        "/destinations/disable",
        "Call it no more until it is enabled",
        asking.DestinationAsked,
        answers.Changed,
        _changing(operations.disable),
    ),
    Endpoint(
        "POST",
        "/destinations/enable",
        "Call it again, whatever stood in the way",
        asking.DestinationAsked,
        answers.Changed,
        _changing(operations.enable),
    ),
    Endpoint("GET", "/keys", "The keys that sign, without their secrets", asking.Nothing, answers.Keys, _keys),
    Endpoint("POST", "/keys", "Sign with one more key", asking.KeyAsked, answers.Handover, _add_key),
    Endpoint("POST", "/keys/rotate", "Sign with a new key instead", asking.RotateAsked, answers.Handover, _rotate_key),
    Endpoint("POST", "/keys/{id}/retire", "Sign with a key no more", asking.RetireAsked, keys.KeyInfo, _retire_key),
    Endpoint("POST", "/verify-url", "What the guard says of a URL", asking.UrlAsked, Judgement, _verify_url),
    Endpoint("POST", "/probe", "Send one signed test request", asking.ProbeAsked, Probed, _probe),
    Endpoint("GET", "/doctor", "Look the installation over", asking.DoctorAsked, answers.Findings, _doctor),
    Endpoint("GET", "/audit", "What operators did, the last first", asking.AuditAsked, answers.Acts, _audit),
    Endpoint("GET", "/settings", "Every setting as it is in force", asking.Nothing, answers.Settings, _settings),
    Endpoint(
        "POST",
        "/retention",
        "Forget what was kept long enough, now",
        asking.RetentionAsked,
        answers.Forgotten,
        _retention,
    ),
    Endpoint("POST", "/backup", "Copy the outbox while it is in use", asking.BackupAsked, Backup, _backup),
)
