"""What cannot be sent is refused where it is added, by the name of its field, by Python and by SQL in the same words;
what is taken can be sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relay.guard.rules import ANYWHERE
from relay.guard.url import Target, read
from relay.outbox import InvalidDelivery, NewDelivery, Stream
from relay.outbox.checks import check, is_storable
from relay.outbox.store import Connection, Database
from relay.policy import request_headers
from relay.policy.attempt import Envelope
from relay.transports import request
from tests.cases import cases
from tests.relay.deliveries import TRACE, claimed, new, reading, rows, writing
from tests.relay.outbox.producers import Producer, every_way

ID = "id: expected printable ASCII, without spaces around it: receivers get it as a header"
TOKEN = "headers: a name is one or more of the letters, digits and !#$%&'*+-.^_`|~"
RELAYS = "it is set by the relay: leave it out"
MEDIA_TYPE = "content_type: expected a media type, such as application/json"
TRACEPARENT = "traceparent: expected what W3C Trace Context says, 00-TRACE-PARENT-FLAGS in lower-case hexadecimal"
KEY = "idempotency_key: expected 1 to 256 characters, none of them a control character"
TAGS = "tags: expected 1 to 128 characters each, none of them a control character"

SOCKET = "stream: expected printable ASCII, without spaces around it: the handshake of a WebSocket sends it"

UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"id_": "é" * 10}, ID),
    ({"id_": "a\nb"}, ID),
    ({"id_": "a\r\nx: y"}, ID),
    ({"id_": " a"}, ID),
    ({"id_": "a\x7f"}, ID),
    ({"id_": "x" * 257}, "id: expected 1 to 256 characters, got 257"),
    ({"id_": ""}, "id: expected 1 to 256 characters, got 0"),
    *(
        ({"headers": {name: "v"}}, f"headers.{name}: {RELAYS}")
        for name in ("Host", "Transfer-Encoding", "content-length", "Connection", "Expect", "TE", "Trailer", "Upgrade",
                     "Keep-Alive", "User-Agent", "webhook-id", "Webhook-Signature", "webhook-mine", "Sec-WebSocket-Key")
    ),
    ({"headers": {"Content-Type": "text/plain"}}, "headers.Content-Type: use content_type"),
    ({"headers": {"Traceparent": TRACE}}, "headers.Traceparent: use traceparent"),
    ({"headers": {"x name": "v"}}, TOKEN),
    ({"headers": {"": "v"}}, TOKEN),
    ({"headers": {"x:": "v"}}, TOKEN),
    ({"headers": {"é": "v"}}, TOKEN),
    ({"headers": {"x-a": "1", "x\r\ny": "v"}}, TOKEN),
    *(
        ({"headers": {"x-a": value}}, "headers.x-a: its value holds a control character, or one beyond Latin-1")
        for value in ("a\r\nb: c", "a\nb", "\x01", "\x7f", "\x85", "€", "\u2028")
    ),
    (
        {"url": "https://u:p@h.example/", "headers": {"Authorization": "Bearer t"}},
        "headers.Authorization: the URL brings credentials of its own: leave one of the two out",
    ),
    *(
        ({"content_type": text}, MEDIA_TYPE)
        for text in ("text/plain\r\nx: y", "text", "", "text/", "/plain", "text/plain; é", "a b/c", "text/plain x")
    ),
    *(
        ({"traceparent": text}, TRACEPARENT)
        for text in ("00-\n", "00-ab-cd-01", TRACE.upper(), TRACE + "\n", TRACE + "-\r\n", "x" + TRACE)
    ),
    ({"idempotency_key": ""}, KEY),
    ({"idempotency_key": "k" * 257}, KEY),
    ({"idempotency_key": "a\nb"}, KEY),
    ({"tags": {""}}, TAGS),
    ({"tags": {"t" * 129}}, TAGS),
    ({"tags": {"a\tb"}}, TAGS),
    ({"tags": {str(number) for number in range(21)}}, "tags: expected at most 20, got 21"),
    ({"due_at": -1.0}, "due_at: expected a time from 1970 to 9999"),
    ({"due_at": 2.6e11}, "due_at: expected a time from 1970 to 9999"),
    (
        {"due_at": 1.0, "stream": Stream("s")},
        "due_at: a delivery of a stream is due when the one before it has ended: leave one of the two out",
    ),
    *(
        ({"url": "wss://h.example/", "stream": Stream(key)}, SOCKET) for key in ("s\r\nx: y", "sé", "s ", "\u2028")
    ),
]  # fmt: skip
FIT: list[dict[str, Any]] = [
    {"id_": "!~ printable, of any kind"},
    {"id_": "x" * 256},
    {"headers": {"Authorization": "Bearer t", "X-A": "\t ü ", "!#$%&'*+-.^_`|~": "", "tracestate": "a=b"}},
    {"url": "https://h.example/@", "headers": {"authorization": "Bearer t"}},
    {"content_type": 'application/vnd.api+json; charset=utf-8; x="y z"'},
    {"content_type": "text/plain ;a"},
    {"traceparent": TRACE},
    {"traceparent": "cc" + TRACE[2:] + "-what-comes"},
    {"traceparent": ""},
    {"idempotency_key": "ü €" * 64, "tags": {"ü", "t" * 128, "a b"}},
]

TRY = """
SELECT message FROM outspoken_try_add_v2(
    id => CAST(:id AS TEXT), url => CAST(:url AS TEXT), body => CAST('x' AS TEXT),
    content_type => CAST(:content_type AS TEXT), headers => CAST(:headers AS TEXT),
    traceparent => CAST(:traceparent AS TEXT), stream => CAST(:stream AS TEXT),
    due_at => CAST(:due_at AS DOUBLE PRECISION),
    idempotency_key => CAST(:idempotency_key AS TEXT), tags => CAST(:tags AS TEXT[]))
"""


def in_python(delivery: NewDelivery) -> str | None:
    try:
        check(delivery)
    except InvalidDelivery as error:
        return str(error)
    return None


def in_sql(connection: Connection, delivery: NewDelivery) -> str | None:
    """What the function says that other languages call."""
    message: str | None = connection.execute(TRY, values_of(delivery)).fetchone()[0]
    return message


def values_of(delivery: NewDelivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "url": delivery.url,
        "content_type": delivery.content_type,
        "headers": json.dumps(dict(delivery.headers)),
        "traceparent": delivery.traceparent,
        "stream": delivery.stream.key if delivery.stream else None,
        "due_at": delivery.due_at,
        "idempotency_key": delivery.idempotency_key,
        "tags": [*delivery.tags],
    }


MANY = """
SELECT message FROM outspoken_try_add_many_v1(
    ids => ARRAY['before', CAST(:id AS TEXT)], urls => ARRAY['https://h.example/', CAST(:url AS TEXT)],
    bodies => ARRAY[CAST('' AS BYTEA), CAST('' AS BYTEA)], content_types => ARRAY[NULL, CAST(:content_type AS TEXT)],
    headers => ARRAY[NULL, CAST(:headers AS TEXT)], traceparents => ARRAY[NULL, CAST(:traceparent AS TEXT)],
    due_ats => ARRAY[NULL, CAST(:due_at AS DOUBLE PRECISION)],
    idempotency_keys => ARRAY[NULL, CAST(:idempotency_key AS TEXT)], tags => ARRAY[NULL, CAST(:tags AS TEXT)])
"""


def in_a_batch(connection: Connection, delivery: NewDelivery) -> str | None:
    """What the function says that adds many at once."""
    tags = json.dumps([*delivery.tags]) if delivery.tags else None
    message: str | None = connection.execute(MANY, values_of(delivery) | {"tags": tags}).fetchone()[0]
    return message


@cases(("fields", "words"), UNFIT)
def test_what_is_unfit_is_said_in_python(fields: dict[str, Any], words: str) -> None:
    assert in_python(new(**fields)) == words


@pytest.mark.needs("postgres")
def test_it_is_said_in_sql_too(postgres_outbox: Database) -> None:
    def ask(connection: Connection) -> list[str | None]:
        return [in_sql(connection, new(**fields)) for fields, _ in UNFIT]

    assert reading(postgres_outbox, ask) == [words for _, words in UNFIT]
    alone = [(fields, words) for fields, words in UNFIT if "stream" not in fields]

    def ask_for_many(connection: Connection) -> list[str | None]:
        return [in_a_batch(connection, new(**fields)) for fields, _ in alone]

    assert writing(postgres_outbox, ask_for_many) == [words for _, words in alone]


@every_way
@pytest.mark.parametrize("fields", FIT)
def test_what_is_fit_is_kept(producer: Producer, fields: dict[str, Any]) -> None:
    given = new(**fields)
    producer.put(given)
    found = rows(producer.database, "SELECT id, content_type, headers, traceparent FROM outspoken_deliveries")
    assert [(*one[:2], json.loads(one[2]), one[3]) for one in found] == [
        (given.id, given.content_type, given.headers, given.traceparent)
    ]


PIECES = st.sampled_from(
    [*'aZ09 /;-=:\t\r\n\x01\x7f\x80\xa0\xffü€\u2028@#"\\', "00-", "webhook-", "host", "content-type"]
)
WORDS = st.lists(PIECES, max_size=5).map("".join)
HEADERS = st.dictionaries(
    st.one_of(WORDS, st.sampled_from(["x-a", "Authorization", "traceparent", "TE"])), WORDS, max_size=3
)
TRACES = st.one_of(st.none(), WORDS, WORDS.map(TRACE.__add__), st.just(TRACE))
TYPES = st.one_of(WORDS, WORDS.map("text/plain".__add__))
URLS = st.sampled_from(["https://h.example/x", "http://u:p@h.example/?@"])


def sendable(delivery: NewDelivery) -> bool:
    """Whether the relay makes a request of it in which nothing stands twice."""
    target = read(delivery.url, ANYWHERE)
    assert isinstance(target, Target)
    fields: Mapping[str, Any] = {"headers": delivery.headers, "content_type": delivery.content_type}
    leased = claimed(delivery.id, url=delivery.url, traceparent=delivery.traceparent, **fields)
    headers = request_headers.headers(leased, target, "relay", b"", (), 1.0)
    ours = {"content-type", "user-agent", "authorization", "traceparent", "webhook-id", "webhook-attempt"}
    names = [name.lower() for name, _ in headers]
    twice = {name for name in ours if names.count(name) > 1}
    head = request.head(Envelope(delivery.method, target, headers, b""))
    return isinstance(head, bytes) and not twice


@pytest.mark.needs("postgres")
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.one_of(WORDS, st.just("id")), TYPES, HEADERS, TRACES, URLS), min_size=20, max_size=60))
@example([("id", "a/b", {"x": "\t"}, "", "https://h.example/x")])
def test_whatever_else_there_is_python_and_sql_agree_and_what_they_take_can_be_sent(
    postgres_outbox: Database, given: list[tuple[str, str, dict[str, str], str | None, str]]
) -> None:
    deliveries = [
        new(id_, url, content_type=content_type, headers=headers, traceparent=trace)
        for id_, content_type, headers, trace, url in given
    ]
    assert all(is_storable(one.id) for one in deliveries)
    said = [in_python(one) for one in deliveries]

    def ask(connection: Connection) -> list[bool]:
        unfit = [one for one in deliveries if in_python(one) is not None]
        return [say(connection, one) is None for one in unfit for say in (in_sql, in_a_batch)]

    assert not any(writing(postgres_outbox, ask))
    assert all(sendable(one) for one, words in zip(deliveries, said, strict=True) if words is None)
