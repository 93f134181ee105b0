from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from relay.delivery.courier import Courier
from relay.guard.rules import Rules
from relay.guard.url import PRE_RECORDED, read
from relay.outbox.model import Method, NewDelivery, Stream
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Database
from relay.policy.attempt import Answer, Attempted, BodyLimits, Dead, Delivered, Failure, Outcome, Reason, Retry
from relay.policy.outcome import OnTooLarge, RetryPolicy
from relay.policy.pointer import Pointers
from relay.policy.schedule import FixedSchedule
from relay.policy.signing import parse_key
from relay.queue.claims import ClaimRequest
from relay.queue.deliveries import DeliveryQueue
from tests.relay.deliveries import TRACE, answer, new, put, rows
from tests.relay.delivery.doubles import Network

NOW = 5000.0
RULES = Rules(networks=(ip_network("127.0.0.0/8"),))
LINKS = RetryPolicy(on_too_large=OnTooLarge.POINTER)
SECRET = "whsec_" + "a" * 32
NEWER = "whsec_" + "b" * 32


def key(database: Database, text: str) -> None:
    """A key for everyone, put in as an operator does."""
    rows(database, "INSERT INTO outspoken_signing_keys (key, created_at) VALUES (?, 1.0)", text)


class Harness:
    """One courier and its receivers; what it returns is settled at once."""

    def __init__(self, database: Database, outbox: DeliveryQueue) -> None:
        self.database = database
        self.outbox = outbox
        self.network = Network()
        self.courier = Courier(
            source=outbox,
            transport=self.network,
            read=partial(read, rules=RULES, schemes=PRE_RECORDED),
            policy=RetryPolicy(),
            pointers=Pointers("https://speech.example", b"s" * 32),
            user_agent="Outspoken/test",
            dice=lambda: 1.0,
            clock=lambda: NOW,
        )

    def answering(self, *answers: Answer) -> None:
        """The receivers answer this, in turn, and then 200."""
        self.network = Network(*answers)
        self.courier = replace(self.courier, transport=self.network)

    async def deliver(self, delivery: NewDelivery) -> Attempted:
        put(self.database, delivery)
        return await self.again(delivery.id)

    async def again(self, id_: str = "d1") -> Attempted:
        """One more attempt at a delivery that is due."""
        due = (await self.outbox.claim(ClaimRequest(100, 100, few=100))).deliveries
        (claimed,) = (delivery for delivery in due if delivery.id == id_)
        attempt = await self.courier.deliver(claimed)
        await self.outbox.settle([attempt])
        return attempt

    @property
    def sent(self) -> Sequence[dict[str, str]]:
        """The headers of every request."""
        return [dict(envelope.headers) for envelope in self.network.sent]


@pytest.fixture
def database(path: Path) -> Database:
    """An empty outbox in a file: what is settled in either database is tested in tests/relay/queue."""
    return SqliteDatabase(path)


@pytest.fixture
def harness(database: Database, outbox: DeliveryQueue) -> Harness:
    return Harness(database, outbox)


async def test_an_attempt_is_a_record_of_what_came_and_what_it_means(harness: Harness) -> None:
    attempt = await harness.deliver(new())
    assert (attempt.outcome, attempt.verdict, attempt.diagnosis) == (Outcome.SUCCESS, Delivered(), "")
    assert (attempt.started_at, attempt.finished_at) == (NOW, NOW)
    assert (attempt.delivery.id, attempt.answer.status) == ("d1", 200)


async def test_the_request_is_the_delivery_and_nothing_of_the_credential_stays_in_its_target(harness: Harness) -> None:
    await harness.deliver(new("id-1", "http://u:p@127.0.0.1:8080/hook?x=1", body=b"\x00\xff", method=Method.PUT))
    (envelope,) = harness.network.sent
    assert (envelope.method, envelope.body) == (Method.PUT, b"\x00\xff")
    assert (envelope.target.host, envelope.target.port, envelope.target.path) == ("127.0.0.1", 8080, "/hook?x=1")
    sent = dict(envelope.headers)
    assert (sent["webhook-id"], sent["webhook-attempt"], sent["authorization"]) == ("id-1", "1", "Basic dTpw")
    assert sent["user-agent"] == "Outspoken/test"


async def test_a_put_to_a_presigned_url_gets_no_header_that_its_signature_does_not_know(harness: Harness) -> None:
    url = "https://bucket.example/key?X-Amz-Signature=abc"
    await harness.deliver(new(url=url, method=Method.PUT, headers={"dg-token": "k"}, traceparent=TRACE))
    assert [name for name, _ in harness.network.sent[0].headers] == ["content-type", "user-agent"]


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://10.0.0.1/", "forbidden_address"),
        ("http://receiver.example:25/", "forbidden_port"),
    ],
)
async def test_nothing_is_sent_to_a_forbidden_destination(harness: Harness, url: str, rule: str) -> None:
    attempt = await harness.deliver(new(url=url))
    assert harness.network.sent == []
    assert (attempt.outcome, attempt.verdict) == (Outcome.BLOCKED, Dead(Reason.FORBIDDEN))
    assert attempt.diagnosis.startswith(f"{rule}: ")
    assert rows(harness.database, "SELECT state, reason FROM outspoken_deliveries") == [
        ("dead", "forbidden_destination")
    ]


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("headers", '{"Host": "other.example"}', "headers.Host: it is set by the relay"),
        ("headers", '{"Webhook-Id": "mine"}', "headers.Webhook-Id: it is set by the relay"),
        ("headers", '{"Content-Type": "text/plain"}', "headers.Content-Type: use content_type"),
        ("headers", '{"x name": "v"}', "headers: a name is one or more of"),
    ],
)
async def test_what_an_earlier_version_let_in_ends_with_a_reason_and_is_not_tried_again(
    harness: Harness, column: str, value: str, words: str
) -> None:
    put(harness.database, new())
    rows(harness.database, f"UPDATE outspoken_deliveries SET {column} = ?", value)
    attempt = await harness.again()
    assert (attempt.outcome, attempt.verdict) == (Outcome.UNSENDABLE, Dead(Reason.UNSENDABLE))
    assert attempt.diagnosis.startswith(f"The request was not sent: {words}")
    assert harness.network.sent == []
    assert rows(harness.database, "SELECT state, reason FROM outspoken_deliveries") == [("dead", "unsendable")]


@pytest.mark.parametrize("came", [answer(500), answer(301), answer(failure=Failure.RESET)])
async def test_a_failure_is_retried_when_the_schedule_says(harness: Harness, came: Answer) -> None:
    harness.answering(came)
    attempt = await harness.deliver(new())
    assert attempt.verdict == Retry(NOW + 30)
    assert rows(harness.database, "SELECT state, due_at, attempts FROM outspoken_deliveries") == [
        ("pending", NOW + 30, 1)
    ]


async def test_the_dice_are_thrown_for_a_delivery_that_wants_jitter(harness: Harness) -> None:
    harness.answering(answer(500), answer(500))
    harness.courier = replace(harness.courier, dice=lambda: 0.25)
    assert (await harness.deliver(new("d1", schedule="exponential"))).verdict == Retry(NOW + 1.25)
    assert (await harness.deliver(new("d2"))).verdict == Retry(NOW + 30)


async def test_gone_is_gone(harness: Harness) -> None:
    harness.answering(answer(410))
    assert (await harness.deliver(new())).verdict == Dead(Reason.GONE)
    again = await harness.deliver(new("again"))
    assert (again.verdict, again.answer.sent) == (Dead(Reason.GONE), False)
    assert "`relay enable https://receiver.example:443`" in again.diagnosis
    assert (await harness.deliver(new("other", "https://receiver.example/hook?other"))).verdict == Delivered()


async def test_a_413_tells_what_was_known_of_the_destination_before(harness: Harness) -> None:
    harness.answering(answer(200), answer(413), answer(413))
    assert (await harness.deliver(new("d1", body=b"x" * 10))).limits == BodyLimits()
    first = await harness.deliver(new("d2", body=b"x" * 30))
    second = await harness.deliver(new("d3", body=b"x" * 20))
    assert first.limits == BodyLimits(largest_accepted=10)
    assert second.limits == BodyLimits(largest_accepted=10, smallest_refused=30)


@pytest.mark.parametrize("came", [answer(502), answer(failure=Failure.RESET)])
async def test_when_only_large_bodies_fail_the_diagnosis_says_so(harness: Harness, came: Answer) -> None:
    harness.answering(answer(200), came, came)
    await harness.deliver(new("d1", body=b"x" * 70_000))
    large = await harness.deliver(new("d2", body=b"x" * 80_000))
    small = await harness.deliver(new("d3", body=b"x" * 1000))
    assert large.diagnosis.endswith("probably a size limit: this body has 80000 bytes, the largest accepted 70000")
    assert "size" not in small.diagnosis
    said = rows(harness.database, "SELECT detail FROM outspoken_attempts WHERE outcome <> 'success' ORDER BY seq")
    assert said == [(large.diagnosis,), (small.diagnosis,)]


async def test_after_a_413_a_link_goes_instead_of_the_body(harness: Harness) -> None:
    harness.courier = replace(harness.courier, policy=replace(LINKS, schedules={"fixed": FixedSchedule(10, -10_000.0)}))
    harness.answering(answer(413), answer(500))
    body = b"x" * 100_000
    key(harness.database, SECRET)
    await harness.deliver(new("id-1", body=body, content_type="text/plain"))
    for _ in range(2):
        await harness.again("id-1")
    assert [len(envelope.body) > 1000 for envelope in harness.network.sent] == [True, False, False]
    for envelope, headers in list(zip(harness.network.sent, harness.sent, strict=True))[1:]:
        link = json.loads(envelope.body)
        assert (link["id"], link["size"], link["event"]) == ("id-1", 100_000, "result.final")
        assert link["result_url"].startswith("https://speech.example/v1/results/id-1?expires=")
        assert (headers["webhook-id"], headers["content-type"]) == ("id-1", "application/json")
        assert headers["webhook-signature"] == parse_key(SECRET).sign(b"id-1.5000.", envelope.body)
    assert rows(
        harness.database, "SELECT state, pointer, body FROM outspoken_deliveries JOIN outspoken_bodies USING (seq)"
    ) == [("delivered", 1, body)]


async def test_without_a_place_for_links_the_body_goes(harness: Harness) -> None:
    put(harness.database, new(body=b"result"))
    rows(harness.database, "UPDATE outspoken_deliveries SET pointer = 1")
    harness.courier = replace(harness.courier, pointers=None)
    await harness.again()
    assert harness.network.sent[0].body == b"result"


# --- signatures


async def test_a_receiver_verifies_what_arrives_under_either_key_while_they_are_rotated(harness: Harness) -> None:
    key(harness.database, SECRET)
    key(harness.database, NEWER)
    harness.courier = replace(harness.courier, clock=time.time)
    await harness.deliver(new("id-1", body=b'{"text": "hello"}'))
    (envelope,) = harness.network.sent
    for secret in (SECRET, NEWER):
        assert Webhook(secret).verify(envelope.body, harness.sent[0]) == {"text": "hello"}


async def test_without_a_key_nothing_is_signed(harness: Harness) -> None:
    await harness.deliver(new())
    assert "webhook-signature" not in harness.sent[0]


async def test_what_is_kept_of_the_request_holds_no_signature_and_no_credential(harness: Harness) -> None:
    key(harness.database, SECRET)
    attempt = await harness.deliver(new(url="http://u:p@127.0.0.1:8080/"))
    kept = dict(attempt.request_headers)
    assert (kept["authorization"], kept["webhook-signature"]) == ("[redacted]", "[redacted]")
    assert kept["webhook-id"] == "d1"
    assert harness.sent[0]["authorization"] == "Basic dTpw"


async def test_only_a_delivery_of_a_stream_tells_its_place(harness: Harness) -> None:
    for id_ in ("first", "second"):
        await harness.deliver(new(id_, stream=Stream("s")))
    await harness.deliver(new("alone"))
    assert [headers.get("webhook-sequence") for headers in harness.sent] == ["1", "2", None]


async def test_every_attempt_sends_the_same_id_and_bytes_under_a_fresh_number(harness: Harness) -> None:
    at_once = RetryPolicy({"fixed": FixedSchedule(10, -10_000.0)})
    harness.courier = replace(harness.courier, policy=at_once)
    harness.answering(answer(500), answer(503), answer(200))
    await harness.deliver(new("same", body=b"\x01" * 5000))
    for _ in range(2):
        await harness.again("same")
    assert [headers["webhook-attempt"] for headers in harness.sent] == ["1", "2", "3"]
    assert {headers["webhook-id"] for headers in harness.sent} == {"same"}
    assert {envelope.body for envelope in harness.network.sent} == {b"\x01" * 5000}
    assert rows(harness.database, "SELECT state, attempts FROM outspoken_deliveries") == [("delivered", 3)]


@pytest.mark.parametrize("size", [100, 8192, 8193, 500_000])
async def test_a_body_arrives_byte_for_byte_whatever_its_size(harness: Harness, size: int) -> None:
    body = (bytes(range(256)) * 2000)[:size]
    await harness.deliver(new(body=body))
    assert harness.network.sent[0].body == body
