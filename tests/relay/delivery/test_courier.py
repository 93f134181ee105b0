from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from relay.delivery.courier import Courier
from relay.delivery.settler import Settler
from relay.model import (
    Answer,
    Attempted,
    BodyLimits,
    Dead,
    Delivered,
    Delivery,
    Failure,
    Lease,
    Method,
    NewDelivery,
    Outcome,
    Reason,
    Retry,
)
from relay.outbox.sqlite import SqliteOutbox
from relay.policy.destination import Rules
from relay.policy.schedule import FixedSchedule
from tests.relay.deliveries import answer, new, put, rows, states
from tests.relay.delivery.surroundings import Network

NOW = 5000.0


@pytest.fixture
async def settler(outbox: SqliteOutbox) -> AsyncIterator[Settler]:
    settler = Settler(outbox)
    task = asyncio.create_task(settler.run())
    yield settler
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


class Stage:
    """One courier, its receivers, and what its observers heard."""

    def __init__(self, database: Path, outbox: SqliteOutbox, settler: Settler) -> None:
        self.database = database
        self.outbox = outbox
        self.network = Network()
        self.told: list[tuple[Attempted, str]] = []
        self.courier = Courier(
            shelf=outbox,
            transport=self.network,
            settlements=settler,
            rules=Rules(networks=(ip_network("127.0.0.0/8"),)),
            schedule=FixedSchedule(retries=10, delay=30.0),
            user_agent="Outspoken/test",
            tell=self.tell,
            clock=lambda: NOW,
        )

    def tell(self, attempt: Attempted) -> None:
        self.told.append((attempt, states(self.database)[attempt.delivery.id]))

    async def claim(self, delivery: NewDelivery) -> Delivery:
        put(self.database, delivery)
        (claimed,) = (await self.outbox.claim(1)).deliveries
        return claimed

    async def deliver(self, delivery: NewDelivery) -> Attempted:
        await self.courier.deliver(await self.claim(delivery))
        return self.told[-1][0]


@pytest.fixture
def stage(database: Path, outbox: SqliteOutbox, settler: Settler) -> Stage:
    return Stage(database, outbox, settler)


async def test_observers_hear_of_an_attempt_once_and_only_when_it_is_on_disk(stage: Stage) -> None:
    attempt = await stage.deliver(new())
    assert stage.told == [(attempt, "delivered")]
    assert (attempt.outcome, attempt.verdict) == (Outcome.SUCCESS, Delivered())
    assert (attempt.started_at, attempt.finished_at) == (NOW, NOW)


async def test_the_request_is_the_delivery_and_nothing_of_the_credential_stays_in_its_target(stage: Stage) -> None:
    await stage.deliver(new("id-1", "http://u:p@127.0.0.1:8080/hook?x=1", body=b"\x00\xff", method=Method.PUT))
    (envelope,) = stage.network.sent
    assert (envelope.method, envelope.body) == (Method.PUT, b"\x00\xff")
    assert (envelope.target.host, envelope.target.port, envelope.target.path) == ("127.0.0.1", 8080, "/hook?x=1")
    sent = dict(envelope.headers)
    assert (sent["webhook-id"], sent["webhook-attempt"], sent["authorization"]) == ("id-1", "1", "Basic dTpw")
    assert sent["user-agent"] == "Outspoken/test"


async def test_a_put_to_a_presigned_url_gets_no_header_that_its_signature_does_not_know(stage: Stage) -> None:
    url = "https://bucket.example/key?X-Amz-Signature=abc"
    await stage.deliver(new(url=url, method=Method.PUT, headers={"dg-token": "k"}, traceparent="00-a-b-01"))
    assert [name for name, _ in stage.network.sent[0].headers] == ["content-type", "user-agent"]


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://10.0.0.1/", "forbidden_address"),
        ("http://receiver.example:25/", "forbidden_port"),
        ("wss://receiver.example/", "forbidden_scheme"),
    ],
)
async def test_nothing_is_sent_to_a_forbidden_destination(stage: Stage, url: str, rule: str) -> None:
    attempt = await stage.deliver(new(url=url))
    assert stage.network.sent == []
    assert (attempt.outcome, attempt.verdict) == (Outcome.BLOCKED, Dead(Reason.FORBIDDEN))
    assert attempt.diagnosis.startswith(f"{rule}: ")
    assert rows(stage.database, "SELECT state, reason FROM deliveries") == [("dead", "forbidden_destination")]


@pytest.mark.parametrize("came", [answer(500), answer(301), answer(failure=Failure.RESET)])
async def test_a_failure_is_retried_when_the_schedule_says(stage: Stage, came: Answer) -> None:
    stage.network = Network(came)
    stage.courier = replace(stage.courier, transport=stage.network)
    attempt = await stage.deliver(new())
    assert attempt.verdict == Retry(NOW + 30)
    assert rows(stage.database, "SELECT state, due_at, attempts FROM deliveries") == [("pending", NOW + 30, 1)]


async def test_a_413_tells_what_was_known_of_the_destination_before(stage: Stage) -> None:
    stage.courier = replace(stage.courier, transport=Network(answer(200), answer(413), answer(413)))
    assert (await stage.deliver(new("d1", body=b"x" * 10))).limits == BodyLimits()
    first = await stage.deliver(new("d2", body=b"x" * 30))
    second = await stage.deliver(new("d3", body=b"x" * 20))
    assert first.limits == BodyLimits(largest_accepted=10)
    assert second.limits == BodyLimits(largest_accepted=10, smallest_refused=30)


async def test_a_courier_whose_lease_was_lost_tells_nobody(stage: Stage) -> None:
    delivery = await stage.claim(new())
    await stage.courier.deliver(replace(delivery, lease=Lease(delivery.lease.seq, "lost")))
    assert len(stage.network.sent) == 1
    assert stage.told == []
    assert states(stage.database) == {"d1": "leased"}


async def test_an_observer_that_fails_does_not_undo_a_delivery(stage: Stage) -> None:
    def fail(_: Attempted) -> None:
        raise OSError("no space left for the log")

    stage.courier = replace(stage.courier, tell=fail)
    delivery = await stage.claim(new())
    with pytest.raises(OSError, match="no space left"):
        await stage.courier.deliver(delivery)
    assert states(stage.database) == {"d1": "delivered"}


async def test_every_attempt_sends_the_same_id_and_bytes_under_a_fresh_number(stage: Stage) -> None:
    network = Network(answer(500), answer(503), answer(200))
    stage.courier = replace(stage.courier, transport=network, schedule=FixedSchedule(10, -10_000.0))
    await stage.deliver(new("same", body=b"\x01" * 5000))
    for _ in range(2):
        (again,) = (await stage.outbox.claim(1)).deliveries
        await stage.courier.deliver(again)
    assert [dict(envelope.headers)["webhook-attempt"] for envelope in network.sent] == ["1", "2", "3"]
    assert {dict(envelope.headers)["webhook-id"] for envelope in network.sent} == {"same"}
    assert {envelope.body for envelope in network.sent} == {b"\x01" * 5000}
    assert states(stage.database) == {"same": "delivered"}
