from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from relay.admin import operations
from relay.admin.access import NotFound, NothingMatched, Refused
from relay.admin.inspection import Filter
from relay.admin.operations import BulkSelection, Progress
from relay.outbox.model import DeliveryState, OnDead, Stream
from relay.outbox.store import Database
from relay.policy.attempt import Outcome, Retry
from relay.policy.outcome import RetryPolicy, judge
from relay.queue.claims import ClaimRequest
from relay.queue.deliveries import DeliveryQueue
from tests.relay.admin.past import OPERATOR, attempt, change, ended
from tests.relay.deliveries import answer, ill, many, new, put, rows, states

ORIGIN = "https://receiver.example:443"
ALL = BulkSelection()


def replayed(database: Database, selection: BulkSelection, rate: float | None = None) -> Progress:
    plan = operations.plan_replay(database, selection)
    return list(operations.replay(database, selection, plan, OPERATOR, rate=rate))[-1]


def cancelled(database: Database, selection: BulkSelection) -> Progress:
    plan = operations.plan_cancel(database, selection)
    return list(operations.cancel(database, selection, plan, OPERATOR))[-1]


def audit(database: Database) -> list[tuple[str, str, str, dict[str, Any]]]:
    found = rows(database, "SELECT actor, source, act, detail FROM outspoken_audit ORDER BY id")
    return [(actor, source, act, json.loads(detail)) for actor, source, act, detail in found]


def test_a_replayed_delivery_starts_its_schedule_anew_under_fresh_numbers(database: Database) -> None:
    put(database, new())
    ended(database, "d1", attempts=11)
    began = time.time()
    assert replayed(database, BulkSelection(ids=("d1",))).done == 1
    ((state, attempts, lapses, due_at, finished_at, reason),) = rows(
        database, "SELECT state, attempts, lapses, due_at, finished_at, reason FROM outspoken_deliveries"
    )
    assert (state, attempts, lapses, finished_at, reason) == ("pending", 0, 11, None, None)
    assert abs(due_at - began) < 30  # now, by the server's clock as it was measured, and not a pause later
    with database.writing() as connection:
        attempt(connection, "d1", attempts + lapses + 1, 1.0, "success")  # its primary key is still free


async def test_a_delivery_that_is_replayed_after_days_has_the_whole_exponential_schedule_again(
    database: Database,
) -> None:
    put(database, new())
    ended(database, "d1", attempts=11)
    long_ago = time.time() - 30 * 86400
    change(database, "UPDATE outspoken_deliveries SET created_at = ?", long_ago)
    assert (await asyncio.to_thread(replayed, database, BulkSelection(ids=("d1",)))).done == 1
    queue = DeliveryQueue(database)
    try:
        (delivery,) = (await queue.claim(ClaimRequest(10, 10, few=10))).deliveries
    finally:
        await queue.close()
    patient = RetryPolicy(default="exponential")
    assert isinstance(judge(delivery, answer(500), patient, now=time.time(), dice=1.0), Retry)


def test_without_a_state_only_dead_letters_are_replayed(database: Database) -> None:
    put(database, *many(4))
    ended(database, "d1", "dead")
    ended(database, "d2", "delivered", outcome="success", status=200)
    ended(database, "d3", "cancelled")
    assert replayed(database, ALL).done == 1
    assert states(database) == {"d1": "pending", "d2": "delivered", "d3": "cancelled", "d4": "pending"}
    assert replayed(database, BulkSelection(wanted=Filter(state=DeliveryState.DELIVERED))).done == 1
    assert replayed(database, BulkSelection(ids=("d3",))).done == 1
    assert set(states(database).values()) == {"pending"}


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (Filter(outcome=Outcome.HTTP_413), {"d2"}),
        (Filter(destination="https://other.example:443"), {"d3"}),
        (Filter(id_prefix="d1"), {"d1"}),
        (Filter(tag="t"), {"d2"}),
        (Filter(since=500.0), {"d2", "d3"}),
        (Filter(until=500.0), {"d1"}),
        (Filter(since=500.0, destination=ORIGIN), {"d2"}),
    ],
)
def test_filters_narrow_and_combine(database: Database, wanted: Filter, ids: set[str]) -> None:
    put(database, new("d1"), new("d2", tags={"t"}), new("d3", "https://other.example/"))
    change(database, "UPDATE outspoken_deliveries SET created_at = 100 WHERE id = 'd1'")
    ended(database, "d1")
    ended(database, "d2", outcome="http_413", status=413, attempts=2)
    ended(database, "d3")
    replayed(database, BulkSelection(wanted=wanted))
    assert {id_ for id_, state in states(database).items() if state == "pending"} == ids


def test_a_thousand_are_replayed_in_slices_at_a_rate_with_one_line_in_the_audit(database: Database) -> None:
    put(database, *many(1000))
    change(database, "UPDATE outspoken_deliveries SET state = 'dead', reason = 'exhausted', finished_at = 1")
    plan = operations.plan_replay(database, ALL)
    assert (plan.count, plan.destinations, plan.bytes) == (1000, {ORIGIN: 1000}, 16_000)
    began = time.time()
    steps = list(operations.replay(database, ALL, plan, OPERATOR, rate=100.0))
    assert [step.done for step in steps] == [200, 400, 600, 800, 1000]
    due = [row[0] - began for row in rows(database, "SELECT due_at FROM outspoken_deliveries ORDER BY seq")]
    assert due == sorted(due)
    assert due[-1] - due[0] == pytest.approx(9.99)
    ((actor, source, act, detail),) = audit(database)
    assert (actor, source, act) == ("ada", "cli", "delivery.replay")
    assert detail == {"run": steps[0].run, "planned": 1000, "filter": {}, "limit": None, "done": 1000}


def test_a_replay_that_is_cut_short_keeps_what_it_did_and_says_so(database: Database) -> None:
    put(database, *many(500))
    change(database, "UPDATE outspoken_deliveries SET state = 'dead', reason = 'exhausted', finished_at = 1")
    plan = operations.plan_replay(database, ALL)
    next(iter(operations.replay(database, ALL, plan, OPERATOR)))
    assert list(states(database).values()).count("pending") == 200
    assert audit(database)[0][3]["done"] == 200
    assert operations.plan_replay(database, ALL).count == 300


def test_the_limit_takes_the_oldest(database: Database) -> None:
    put(database, *many(5))
    change(database, "UPDATE outspoken_deliveries SET state = 'dead', reason = 'exhausted', finished_at = 1")
    replayed(database, BulkSelection(limit=2))
    assert {id_ for id_, state in states(database).items() if state == "pending"} == {"d1", "d2"}


def test_what_cannot_be_replayed_is_said_with_its_reason(database: Database) -> None:
    put(database, *many(3))
    ended(database, "d1", "delivered")
    ended(database, "d2", "dead")
    change(database, "DELETE FROM outspoken_bodies WHERE seq = 1")
    plan = operations.plan_replay(database, BulkSelection(ids=("d1", "d2", "d3")))
    assert plan.count == 1
    assert set(plan.refused.values()) == {1}
    assert {reason.split(":")[0] for reason in plan.refused} == {"its body is no longer kept", "it is pending"}
    with pytest.raises(Refused, match="no longer kept"):
        operations.plan_replay(database, BulkSelection(ids=("d1",)))
    with pytest.raises(NotFound, match="'nobody'"):
        operations.plan_replay(database, BulkSelection(ids=("d2", "nobody")))
    with pytest.raises(NothingMatched):
        operations.plan_replay(database, BulkSelection(wanted=Filter(id_prefix="zzz")))


def test_what_others_changed_since_the_plan_is_left_alone(database: Database) -> None:
    put(database, *many(2))
    ended(database, "d1")
    ended(database, "d2")
    plan = operations.plan_replay(database, ALL)
    change(database, "DELETE FROM outspoken_bodies WHERE seq = 1")
    (last,) = operations.replay(database, ALL, plan, OPERATOR)
    assert (last.done, last.planned) == (1, 2)
    assert states(database) == {"d1": "dead", "d2": "pending"}


def test_a_plan_tells_where_deliveries_would_only_wait(database: Database) -> None:
    put(database, new())
    ended(database, "d1")
    operations.disable(database, ORIGIN, OPERATOR)
    assert operations.plan_replay(database, ALL).held == {ORIGIN: "disabled"}


def in_stream(*ids: str, on_dead: OnDead = OnDead.SKIP) -> list[Any]:
    return [new(id_, stream=Stream("session", on_dead)) for id_ in ids]


def due(database: Database) -> set[str]:
    return {
        row[0]
        for row in rows(database, "SELECT id FROM outspoken_deliveries WHERE state = 'pending' AND due_at NOTNULL")
    }


def test_replayed_deliveries_of_a_stream_still_go_one_by_one(database: Database) -> None:
    put(database, *in_stream("s1", "s2", "s3"))
    for id_ in ("s1", "s2", "s3"):
        ended(database, id_)
    assert replayed(database, ALL).done == 3
    assert due(database) == {"s1"}


def test_a_replayed_delivery_waits_for_the_one_of_its_stream_that_is_on_its_way(database: Database) -> None:
    put(database, *in_stream("s1", "s2"))
    ended(database, "s1")
    change(database, "UPDATE outspoken_deliveries SET due_at = 5 WHERE id = 's2'")
    replayed(database, BulkSelection(ids=("s1",)))
    assert due(database) == {"s2"}


def test_nothing_is_replayed_into_a_killed_stream(database: Database) -> None:
    put(database, *in_stream("s1", on_dead=OnDead.KILL))
    ended(database, "s1")
    change(database, "UPDATE outspoken_streams SET state = 'killed', reason = 'delivery_dead', finished_at = 1")
    with pytest.raises(Refused, match="stream was killed"):
        operations.plan_replay(database, BulkSelection(ids=("s1",)))


def messages(*ids: str) -> list[Any]:
    return [new(id_, "wss://receiver.example/live", stream=Stream("session")) for id_ in ids]


def test_a_message_of_a_socket_is_not_replayed(database: Database) -> None:
    put(database, *messages("m1"))
    ended(database, "m1")
    with pytest.raises(Refused, match="a message of a WebSocket"):
        operations.plan_replay(database, BulkSelection(ids=("m1",)))


def test_a_cancelled_message_makes_no_other_one_due(database: Database) -> None:
    put(database, *messages("m1", "m2"))
    assert cancelled(database, BulkSelection(ids=("m1",))).done == 1
    assert due(database) == set()


def test_only_what_is_pending_is_cancelled(database: Database) -> None:
    put(database, *many(3))
    ended(database, "d1", "delivered")
    change(
        database,
        "UPDATE outspoken_deliveries SET state = 'leased', lease_token = 'x.1', lease_until = 9e9 WHERE id = 'd2'",
    )
    plan = operations.plan_cancel(database, BulkSelection(ids=("d1", "d2", "d3")))
    assert plan.count == 1
    assert any("attempted right now" in reason for reason in plan.refused)
    assert cancelled(database, ALL).done == 1
    assert states(database) == {"d1": "delivered", "d2": "leased", "d3": "cancelled"}
    assert audit(database)[0][2] == "delivery.cancel"
    assert replayed(database, BulkSelection(ids=("d3",))).done == 1


def test_a_cancelled_delivery_lets_the_next_of_its_stream_go(database: Database) -> None:
    put(database, *in_stream("s1", "s2", "s3"))
    assert due(database) == {"s1"}
    cancelled(database, BulkSelection(ids=("s1",)))
    assert due(database) == {"s2"}
    cancelled(database, BulkSelection(ids=("s3",)))
    assert due(database) == {"s2"}


def test_pause_and_resume_are_for_active_destinations_and_enable_is_for_all(database: Database) -> None:
    put(database, new())
    state = "SELECT state, held FROM outspoken_destinations WHERE path = ''"
    assert operations.pause(database, ORIGIN, OPERATOR) is True
    assert operations.pause(database, ORIGIN, OPERATOR) is False
    assert rows(database, state)[0][0] == "paused"
    assert operations.resume(database, ORIGIN, OPERATOR) is True
    assert operations.disable(database, ORIGIN, OPERATOR) is True
    for forbidden in (operations.pause, operations.resume):
        with pytest.raises(Refused, match="relay enable"):
            forbidden(database, ORIGIN, OPERATOR)
    ill(database)
    change(database, "INSERT INTO outspoken_gone_urls VALUES ('00', ?, '/hook', 1)", ORIGIN)
    assert operations.enable(database, ORIGIN, OPERATOR) is True
    assert operations.enable(database, ORIGIN, OPERATOR) is False
    assert rows(database, state) == [("active", 0)]
    assert rows(database, "SELECT failures, open, held FROM outspoken_destinations WHERE path <> ''") == [(0, 0, 0)]
    assert [line[2].split(".")[1] for line in audit(database)] == ["pause", "resume", "disable", "enable"]
    assert audit(database)[3][3] == {"destination": ORIGIN, "was": "disabled", "breaker_closed": True, "gone_urls": 1}
    with pytest.raises(NotFound):
        operations.resume(database, "https://nobody.example:443", OPERATOR)


async def test_an_act_rings_the_relays(database: Database) -> None:
    heard = asyncio.Event()
    listener = database.listener(heard)
    await listener.open()
    try:
        put(database, new())
        await asyncio.to_thread(operations.pause, database, ORIGIN, OPERATOR)
        async with asyncio.timeout(60):
            await heard.wait()
    finally:
        await listener.close()
