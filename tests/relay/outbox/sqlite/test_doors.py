"""Programs that have nothing but SQL, on a file: what they insert into a view is what Python would have added."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relay import outbox
from relay.guard.rules import ANYWHERE
from relay.guard.url import LIVE, Target, read
from relay.outbox.errors import RelayError
from relay.outbox.model import Kind, Method, NewDelivery, OnDead, Stream
from relay.outbox.sqlite.database import SqliteDatabase
from relay.queue.claims import ClaimRequest
from relay.queue.deliveries import DeliveryQueue
from tests.relay.deliveries import TRACE, put, rows, states
from tests.relay.guard.destinations import ADDRESSES, URLS

PLAIN = {"id": "d1", "url": "https://h.example/x", "body": "hello"}
INSERT = "INSERT INTO outspoken_{} ({}) VALUES ({})"
FIXTURE = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def file(path: Path) -> Iterator[sqlite3.Connection]:
    """As another program opens it: with nothing that only we would set."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def insert(file: sqlite3.Connection, fields: Mapping[str, object], view: str = "add_v1", verb: str = "INSERT") -> None:
    sql = INSERT.format(view, ", ".join(fields), ", ".join("?" * len(fields)))
    file.execute(sql.replace("INSERT", verb, 1), tuple(fields.values()))


def refusal(file: sqlite3.Connection, fields: Mapping[str, object], view: str = "add_v1", verb: str = "INSERT") -> str:
    """What the statement's error says after our name."""
    with pytest.raises(sqlite3.IntegrityError) as refused:
        insert(file, fields, view, verb)
    name, _, words = str(refused.value).partition(": ")
    assert name == "outspoken"
    return words


@contextmanager
def undone(file: sqlite3.Connection) -> Iterator[None]:
    file.execute("BEGIN")
    try:
        yield
    finally:
        file.execute("ROLLBACK")


def everything(database: SqliteDatabase) -> list[list[Any]]:
    """What was added, without the moments at which it was."""
    deliveries = (
        "SELECT one.id, one.origin, one.path, lane, one.url, method, kind, content_type, one.headers, traceparent, "
        "body_bytes, due_at IS NULL, schedule, key, one.position, body, typeof(body), scheduled_from, idempotency_key, "
        "tracked, owner, priority, iif(due_at = scheduled_from, due_at, NULL), "
        "(SELECT json_group_array(tag) FROM outspoken_tags AS tags WHERE tags.seq = one.seq) "
        "FROM outspoken_deliveries AS one "
        "LEFT JOIN outspoken_streams AS stream ON stream.id = stream_id "
        "JOIN outspoken_bodies AS content ON content.seq = one.seq ORDER BY one.id"
    )
    streams = (
        "SELECT key, on_dead, transport, state, position, producer_until, headers, url, producer "
        "FROM outspoken_streams ORDER BY key"
    )
    return [[_parsed(row) for row in rows(database, sql)] for sql in (deliveries, streams)]


def _parsed(row: tuple[Any, ...]) -> list[Any]:
    return [json.loads(one) if isinstance(one, str) and one.startswith("{") else one for one in row]


def test_it_is_there_when_the_callers_transaction_commits_and_not_before(
    database: SqliteDatabase, file: sqlite3.Connection
) -> None:
    with undone(file):
        insert(file, PLAIN)
    assert states(database) == {}
    file.execute("BEGIN IMMEDIATE")
    insert(file, PLAIN)
    assert states(database) == {}
    file.execute("COMMIT")
    assert states(database) == {"d1": "pending"}


async def test_a_relay_claims_what_was_inserted(database: SqliteDatabase, file: sqlite3.Connection) -> None:
    insert(file, {"id": "d1", "url": "https://u:p@h.example/x?k=v", "body": '{"text": "caf\u00e9 \\n"}'})
    relay = DeliveryQueue(database)
    (delivery,) = (await relay.claim(ClaimRequest(10, 10, few=10))).deliveries
    body = await relay.with_body(delivery, bytes)
    await relay.close()
    assert (delivery.id, delivery.destination) == ("d1", "https://h.example:443")
    assert (delivery.method, delivery.kind, delivery.content_type) == ("POST", "final", "application/json")
    assert (dict(delivery.headers), delivery.url) == ({}, "https://u:p@h.example/x?k=v")
    assert abs(delivery.created_at - time.time()) < 3600
    assert body == b'{"text": "caf\xc3\xa9 \\n"}'


SOCKET = Stream("~ talk", OnDead.KILL, 9e9, "p")
EVERYTHING = [
    NewDelivery("plain", "http://h.example", b""),
    NewDelivery(
        "all",
        "http://u:p@h.example/x?y=1",
        bytes(range(256)),
        Method.PUT,
        Kind.ERROR,
        "text/plain; charset=utf-8",
        {"dg-token": 'k"\\', "X-Name": "M\u00fcller"},
        TRACE,
        "exponential",
        Stream("session-1", OnDead.KILL, 9e9, "p"),
    ),
    NewDelivery("next", "http://h.example/x", b"2", stream=Stream("session-1")),
    NewDelivery("a", "wss://h.example/", b"one", headers={"a": "b"}, traceparent="", stream=SOCKET),
    NewDelivery("b", "wss://h.example/", "\u6771\U0001f600\uffff".encode(), stream=SOCKET),
    NewDelivery("later", "http://h.example/x", b"", due_at=9e9, tracked=True, owner="\u6771", priority=-100),
    NewDelivery("keyed", "http://h.example/x", b"", idempotency_key="k", tags={"a", "\u6771"}, owner="o", priority=7),
    NewDelivery("tracked", "http://h.example/x", b"", tracked=True, stream=Stream("session-2")),
]


def fields_of(one: NewDelivery, view: str) -> dict[str, object]:
    stream = one.stream
    told: dict[str, object] = {
        "id": one.id,
        "url": one.url,
        "body": one.body,
        "method": one.method,
        "kind": one.kind,
        "content_type": one.content_type,
        "headers": json.dumps(dict(one.headers)),
        "traceparent": one.traceparent,
        "schedule": one.schedule,
    }
    if view == "add_v2":
        told |= {"due_at": one.due_at, "idempotency_key": one.idempotency_key, "tags": json.dumps([*one.tags])}
        told |= {"tracked": one.tracked, "owner": one.owner, "priority": one.priority}
    if stream:
        told |= {"stream": stream.key, "on_dead": stream.on_dead, "live_until": stream.live_until}
        told |= {"producer": stream.producer}
    return told


@pytest.mark.parametrize(("view", "given"), [("add_v1", EVERYTHING[:5]), ("add_v2", EVERYTHING)])
def test_all_there_is_to_say_is_stored_as_python_stores_it(
    database: SqliteDatabase, file: sqlite3.Connection, folder: Path, view: str, given: list[NewDelivery]
) -> None:
    other = SqliteDatabase(folder / "other.db")
    other.migrate([outbox.OUTBOX])
    put(other, *given)
    for one in given:
        insert(file, fields_of(one, view), view)
    assert everything(database) == everything(other)


INVALID: list[tuple[dict[str, object], str]] = [
    ({"url": None}, "url: there is none"),
    ({"url": 5}, "url: expected text"),
    ({"url": "ftp://u:canary@h.example/"}, "url: it must begin with http://"),
    ({"id": None}, "id: expected 1 to 256 characters"),
    ({"id": ""}, "id: expected 1 to 256 characters"),
    ({"id": "x" * 257}, "id: expected 1 to 256 characters"),
    ({"id": 5}, "id: expected text"),
    ({"id": b"d1"}, "id: expected text"),
    ({"id": "\u00e9"}, "id: expected printable ASCII"),
    ({"id": " d1"}, "id: expected printable ASCII"),
    ({"id": "a\0b"}, "id: expected text, in UTF-8 and without U+0000"),
    ({"body": None}, "body: expected text or a blob"),
    ({"body": 1.5}, "body: expected text or a blob"),
    ({"method": "GET"}, 'method: expected "POST" or "PUT"'),
    ({"method": 1}, 'method: expected "POST" or "PUT"'),
    ({"kind": "x"}, 'kind: expected "final", "partial" or "error"'),
    ({"schedule": "x"}, 'schedule: expected "fixed", "exponential" or NULL'),
    ({"stream": ""}, "stream: expected 1 to 128 characters"),
    ({"stream": "\u6771" * 129}, "stream: expected 1 to 128 characters"),
    ({"stream": "s", "on_dead": "x"}, 'on_dead: expected "skip" or "kill"'),
    ({"stream": "s", "live_until": "soon"}, "live_until: expected epoch seconds"),
    ({"stream": "s", "live_until": float("inf")}, "live_until: expected epoch seconds"),
    ({"content_type": "json"}, "content_type: expected a media type"),
    ({"content_type": "a/b/c"}, "content_type: expected a media type"),
    ({"content_type": "a/b\r\nx: y"}, "content_type: expected a media type"),
    ({"content_type": "a/b; c=\u00e9"}, "content_type: expected a media type"),
    ({"traceparent": "x"}, "traceparent: expected 00-TRACE"),
    ({"traceparent": TRACE.upper()}, "traceparent: expected 00-TRACE"),
    ({"traceparent": TRACE + "x"}, "traceparent: expected 00-TRACE"),
    ({"headers": "{"}, "headers: expected a JSON object"),
    ({"headers": "[]"}, "headers: expected a JSON object"),
    ({"headers": "{a: 'b'}"}, "headers: expected a JSON object"),
    ({"headers": b"{}"}, "headers: expected text"),
    ({"headers": '{"a": 1}'}, "headers: expected a JSON object whose values are strings"),
    ({"headers": r'{"a": "\u0000"}'}, "headers: U+0000"),
    ({"headers": r'{"a": "\\\u0000"}'}, "headers: U+0000"),
    ({"headers": r'{"a": "\ud800"}'}, "headers: "),
    ({"headers": r'{"\ude00": ""}'}, "headers: a name is"),
    ({"headers": '{"": "x"}'}, "headers: a name is"),
    ({"headers": '{"a b": "x"}'}, "headers: a name is"),
    ({"headers": r'{"a": "x\r\ny: z"}'}, "headers: a value holds a control character"),
    ({"headers": '{"a": "\u6771"}'}, "headers: a value holds a control character, or one beyond Latin-1"),
    ({"headers": '{"Content-Length": "1"}'}, "headers: one of them is set by the relay"),
    ({"headers": '{"Webhook-Id": "1"}'}, "headers: one of them is set by the relay"),
    ({"headers": '{"Content-Type": "a/b"}'}, "headers.content-type: use content_type"),
    ({"headers": '{"traceparent": "a"}'}, "headers.traceparent: use traceparent"),
    ({"headers": '{"authorization": "a"}', "url": "http://u:p@h/"}, "headers.authorization: the URL brings"),
    ({"url": "ws://h/"}, "stream: a delivery to a WebSocket"),
    ({"url": "ws://h/", "stream": "\u6771"}, "stream: expected printable ASCII"),
    ({"url": "ws://h/", "stream": "s "}, "stream: expected printable ASCII"),
    ({"url": "ws://h/", "stream": "s", "body": b"\x00\xff"}, "body: a WebSocket's message is text"),
    ({"url": "ws://h/", "stream": "s", "body": b"\xc3\x5c\xa9"}, "body: a WebSocket's message is text"),
    ({"url": "ws://h/", "stream": "s", "body": b"x" * 1000 + b"\xed\xa0\x80"}, "body: a WebSocket's message is text"),
]


@pytest.mark.parametrize(("fields", "words"), INVALID)
def test_what_cannot_be_kept_is_an_error_that_names_the_field(
    database: SqliteDatabase, file: sqlite3.Connection, fields: dict[str, object], words: str
) -> None:
    refused = refusal(file, PLAIN | fields)
    assert refused.startswith(f"invalid_delivery: {words}")
    assert "canary" not in refused
    assert everything(database) == [[], []]


@pytest.mark.parametrize(
    ("view", "field"),
    [
        *product(["add_v1"], ["url", "id", "content_type", "traceparent", "headers", "stream", "producer"]),
        *product(["add_v2"], ["url", "owner", "idempotency_key", "tags"]),
    ],
)
@pytest.mark.parametrize("unfit", ["ff", "80", "e282", "c0af", "eda080", "f4908080", "6100"])
def test_bytes_that_no_program_could_read_back_as_text_are_refused(
    file: sqlite3.Connection, view: str, field: str, unfit: str
) -> None:
    fields = {"url": "'https://h.example/x'", "id": "'d1'", "body": "'b'", "stream": "'s'"}
    fields |= {field: f"CAST(x'{unfit}' AS TEXT)"}
    with pytest.raises(sqlite3.IntegrityError, match=f"outspoken: invalid_delivery: {field}: "):
        file.execute(INSERT.format(view, ", ".join(fields), ", ".join(fields.values())))


OTHER_CONTENT = "invalid_delivery: idempotency_key: it stands for another url, method, content_type or body"
MORE_INVALID: list[tuple[dict[str, object], str]] = [
    ({"due_at": "soon"}, "due_at: expected a time from 1970 to 9999"),
    ({"due_at": 1, "stream": "s"}, "due_at: one of a stream is due when the one before it has ended"),
    ({"tracked": 2}, "tracked: expected 0 or 1"),
    ({"tracked": "1"}, "tracked: expected 0 or 1"),
    ({"priority": 1.0}, "priority: expected -100 to 100"),
    ({"idempotency_key": 5}, "idempotency_key: expected text"),
    ({"owner": 5}, "owner: expected text"),
    ({"tags": "a"}, "tags: expected a JSON array"),
    ({"tags": '{"a": "b"}'}, "tags: expected a JSON array"),
    ({"tags": "[1]"}, "tags: expected a JSON array of strings"),
    ({"tags": r'["\u0000"]'}, "tags: U+0000"),
    ({"tags": r'["\ud800"]'}, "tags: expected text"),
    ({"idempotency_key": "k", "body": "another"}, OTHER_CONTENT.partition(": ")[2]),
    # Whatever is known under a key, what is asked for again has to be right.
    ({"idempotency_key": "k", "headers": "[]"}, "headers: expected a JSON object"),
]


@pytest.mark.parametrize(("fields", "words"), MORE_INVALID)
def test_so_is_what_the_second_version_takes(
    database: SqliteDatabase, file: sqlite3.Connection, fields: dict[str, object], words: str
) -> None:
    insert(file, PLAIN | {"idempotency_key": "k"}, "add_v2")
    before = everything(database)
    assert refusal(file, PLAIN | {"id": "d2"} | fields, "add_v2").startswith(f"invalid_delivery: {words}")
    assert everything(database) == before


@pytest.mark.parametrize("verb", ["INSERT", "INSERT OR REPLACE", "INSERT OR IGNORE", "REPLACE"])
def test_under_a_key_there_is_one_delivery(database: SqliteDatabase, file: sqlite3.Connection, verb: str) -> None:
    keyed = PLAIN | {"idempotency_key": "k", "tags": '["a", "a"]'}
    insert(file, keyed, "add_v2")
    before = everything(database)
    insert(file, keyed, "add_v2", verb)
    insert(file, keyed | {"id": "d2", "stream": "s", "owner": "o", "tags": '["b"]'}, "add_v2", verb)
    assert refusal(file, PLAIN | {"tags": "[]"}, "add_v2", verb).startswith("duplicate_delivery: ")
    assert refusal(file, keyed | {"method": "PUT"}, "add_v2", verb) == OTHER_CONTENT
    assert everything(database) == before
    kept = "SELECT id, tags, owner, priority FROM outspoken_deliveries_v2 WHERE idempotency_key = 'k'"
    assert rows(database, kept) == [("d1", '["a"]', "", 0)]


def test_one_is_cancelled_and_its_end_is_taken_note_of(database: SqliteDatabase, file: sqlite3.Connection) -> None:
    for id_ in ("d1", "d2"):
        insert(file, PLAIN | {"id": id_, "stream": "s", "tracked": 1}, "add_v2")
    with undone(file):
        insert(file, {"id": "d1"}, "cancel_v1")
    assert states(database) == {"d1": "pending", "d2": "pending"}
    for id_ in ("d1", "d1", "d3"):
        insert(file, {"id": id_}, "cancel_v1")
    assert states(database) == {"d1": "cancelled", "d2": "pending"}
    assert rows(database, "SELECT id FROM outspoken_deliveries WHERE due_at IS NULL") == []
    ended = "SELECT id, state, reason FROM outspoken_ended_v1"
    with undone(file):
        file.execute("DELETE FROM outspoken_ended_v1")
        assert file.execute(ended).fetchall() == []
    assert rows(database, ended) == [("d1", "cancelled", None)]
    file.execute("DELETE FROM outspoken_ended_v1 WHERE id = 'd1'")
    assert rows(database, ended) == []


def test_one_that_is_being_attempted_is_left_to_its_attempt(database: SqliteDatabase, file: sqlite3.Connection) -> None:
    insert(file, PLAIN)
    file.execute("UPDATE outspoken_deliveries SET state = 'leased', lease_token = 't', lease_until = 9e9")
    insert(file, {"id": "d1"}, "cancel_v1")
    assert states(database) == {"d1": "leased"}


@pytest.mark.parametrize("verb", ["INSERT", "INSERT OR REPLACE", "INSERT OR IGNORE", "REPLACE"])
def test_an_id_names_one_result_however_it_is_inserted(
    database: SqliteDatabase, file: sqlite3.Connection, verb: str
) -> None:
    insert(file, PLAIN)
    before = everything(database)
    again = PLAIN | {"body": "another", "stream": "s"}
    assert refusal(file, again, verb=verb) == "duplicate_delivery: a delivery with this id is in the outbox already"
    assert everything(database) == before
    insert(file, PLAIN | {"id": "d2", "stream": "s"}, verb=verb)
    insert(file, PLAIN | {"id": "d3", "stream": "s"}, verb=verb)
    assert rows(database, "SELECT id, position FROM outspoken_deliveries_v1 ORDER BY id") == [
        *(("d1", None), ("d2", 1), ("d3", 2))
    ]


def test_a_refusal_leaves_the_transaction_to_its_owner(database: SqliteDatabase, file: sqlite3.Connection) -> None:
    file.execute("BEGIN")
    insert(file, PLAIN)
    refusal(file, PLAIN)
    refusal(file, PLAIN | {"id": ""})
    insert(file, PLAIN | {"id": "d2"})
    file.execute("COMMIT")
    assert set(states(database)) == {"d1", "d2"}


def test_nothing_joins_a_stream_that_has_come_to_its_end(file: sqlite3.Connection) -> None:
    insert(file, {"stream": "ended", "url": "http://h/"}, "begin_stream_v1")
    insert(file, {"stream": "dead", "url": "http://h/"}, "begin_stream_v1")
    insert(file, {"stream": "ended"}, "end_stream_v1")
    file.execute(
        "UPDATE outspoken_streams SET state = 'killed', reason = 'internal', finished_at = 1 WHERE key = 'dead'"
    )
    assert refusal(file, PLAIN | {"stream": "ended"}).startswith("stream_ended: ")
    assert refusal(file, PLAIN | {"stream": "dead"}).startswith("stream_killed: ")
    assert refusal(file, {"stream": "dead", "url": "http://h/"}, "begin_stream_v1").startswith("stream_killed: ")
    insert(file, {"stream": "live", "url": "wss://h/"}, "begin_stream_v1")
    elsewhere = refusal(file, PLAIN | {"url": "wss://h/2", "stream": "live"})
    assert elsewhere.startswith("invalid_delivery: stream: it leads to another URL")


def test_a_live_stream_from_its_beginning_to_its_end(database: SqliteDatabase, file: sqlite3.Connection) -> None:
    begin = {"stream": "live", "url": "wss://h.example/", "headers": '{"a": "b"}', "live_until": 1e9}
    insert(file, begin, "begin_stream_v1")
    insert(file, {"id": "m1", "url": "wss://h.example/", "body": "one", "stream": "live"})
    for stream in ("live", "nobody"):
        insert(file, {"stream": stream, "until": 9e9}, "keep_stream_v1")
    assert rows(database, "SELECT headers, producer_until FROM outspoken_streams") == [('{"a":"b"}', 9e9)]
    assert refusal(file, {"stream": "live", "until": "x"}, "keep_stream_v1").startswith("invalid_delivery: until: ")
    view = "SELECT * FROM outspoken_streams_v1"
    assert rows(database, view) == [("live", "open", None, 1)]
    insert(file, {"stream": "live"}, "end_stream_v1")
    assert rows(database, view) == [("live", "ended", None, 1)]
    file.execute("UPDATE outspoken_streams SET holder = 'h', holder_until = 1")
    assert rows(database, view) == [("live", "killed", "relay_gone", 1)]


@pytest.mark.parametrize(
    "fields", [{"stream": ""}, {"stream": None}, {"url": "no"}, {"headers": "[]"}, {"on_dead": "x"}]
)
def test_a_stream_that_cannot_be_kept_is_an_error(file: sqlite3.Connection, fields: dict[str, object]) -> None:
    refused = refusal(file, {"stream": "s", "url": "http://h/"} | fields, "begin_stream_v1")
    assert refused.startswith(f"invalid_delivery: {next(iter(fields))}: ")


def test_what_became_of_a_delivery_can_be_asked(database: SqliteDatabase, file: sqlite3.Connection) -> None:
    insert(file, PLAIN | {"url": "https://u:canary@h.example/canary"})
    file.execute("UPDATE outspoken_deliveries SET state = 'dead', reason = 'gone', attempts = 2, finished_at = 1e9")
    asked = "SELECT id, destination, state, reason, attempts, finished_at FROM outspoken_deliveries_v1"
    assert rows(database, asked) == [("d1", "https://h.example:443", "dead", "gone", 2, "2001-09-09T01:46:40.000Z")]
    assert "canary" not in str(rows(database, "SELECT * FROM outspoken_deliveries_v1"))


def test_a_file_in_utf_16_is_told_so(folder: Path) -> None:
    path = folder / "wide.db"
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA encoding = 'UTF-16'")
        file.execute("CREATE TABLE orders (number INTEGER)")
    SqliteDatabase(path).migrate([outbox.OUTBOX])
    with closing(sqlite3.connect(path)) as file:
        assert refusal(file, PLAIN).startswith("this file keeps text in UTF-16")


# --- the reading of URLs


def assert_same(file: sqlite3.Connection, urls: list[str], *, strict: bool = True) -> None:
    """What both read is read as the same. With `strict`, whatever Python reads is read."""
    with undone(file):
        for number, url in enumerate(urls):
            here, there = read(url, ANYWHERE, LIVE), None
            fields = {"id": str(number), "url": url, "body": "", "stream": f"s{number}"}
            try:
                insert(file, fields)
            except sqlite3.IntegrityError as error:
                there = str(error)
            if there is None:
                ((found,),) = file.execute(
                    "SELECT destination FROM outspoken_deliveries_v1 WHERE id = ?", (str(number),)
                ).fetchall()
                assert isinstance(here, Target), (url, found)
                assert (url, found) == (url, here.origin)
            elif strict:
                assert not isinstance(here, Target), (url, there)


def is_readable(url: str) -> bool:
    """Whether SQL says what Python says, whatever that is: it reads no IPv4 address at the end of an IPv6 one, and no
    credentials beyond ASCII."""
    return not re.search(r"\[[^]]*\.|%[89a-f]", url.lower())


def is_text(url: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in url)


def test_every_url_of_the_guards_table_is_read_as_python_reads_it(file: sqlite3.Connection) -> None:
    urls = [url for url, _ in URLS if is_text(url)]
    urls += [url.replace("http", "ws", 1) for url in urls]
    assert_same(file, [url for url in urls if is_readable(url)])
    assert_same(file, urls, strict=False)


def test_every_address_of_the_guards_table_is_read_as_python_reads_it(file: sqlite3.Connection) -> None:
    hosts = [host for address, _ in ADDRESSES for host in (address, f"[{address}]")]
    ports = ("", ":8443", ":0", ":65535", ":65536", ":080", ":")
    urls = [f"https://{host}{port}/" for host in hosts if is_text(host) for port in ports]
    assert_same(file, [url for url in urls if is_readable(url)])
    assert_same(file, urls, strict=False)


def test_a_url_of_any_length(file: sqlite3.Connection) -> None:
    assert_same(file, ["https://h.example/".ljust(length, "a") for length in (65535, 65536, 65537)])


WORDS = """
http:// https:// ws:// HTTP:// ftp:// : / // ? # @ [ ] % %41 %zz %C3%A9 %3a %00 %25 a A.b a-b -a x_y . .. 0 1 80 443
65535 65536 0x7f 0x 127.0.0.1 256.1.1.1 01.2.3.4 1.2.3 :: ::1 1:2 fe80::1 ffff 0:0 1:0:0:2:0:0:0:3 user user:pass
h.example ~ $ ; \\ \u00e9 ' "
"""
PIECES = st.sampled_from(WORDS.split())
GROUPS = st.lists(st.sampled_from(["", "0", "00", "0000", "1", "ab", "ABCD", "12345", "g", "1.2.3.4"]), max_size=9)


@FIXTURE
@given(
    st.lists(st.lists(PIECES, max_size=8).map("".join), min_size=20, max_size=40),
    st.lists(st.builds("{}{}".format, st.sampled_from(["https://h@", "http://", "ws://u:p@"]), st.text(max_size=20))),
    st.lists(GROUPS.map(":".join).map("http://[{}]:8080/".format), min_size=20, max_size=40),
)
@example(["http://u%C3%A9:p@h/", "http://u%e9@h/"], ["http://h/\0"], ["http://[::ffff:1.2.3.4]/"])
def test_whatever_else_there_is_is_read_as_python_reads_it(
    file: sqlite3.Connection, assembled: list[str], arbitrary: list[str], addresses: list[str]
) -> None:
    urls = [
        url for url in [*assembled, *(f"https://{one}" for one in assembled), *arbitrary, *addresses] if is_text(url)
    ]
    assert_same(file, [url for url in urls if is_readable(url)])
    assert_same(file, urls, strict=False)


# --- and of everything else

CHARACTERS = (
    "\t\n\x00\x1f !\"#%'(),-./09:;=?@AZ[\\]^_`az{|}~\x7f\x80\x9f\xa0\xff"
    "\u0100\u6771\ud800\ude00\ufffd\ufffe\uffff\U0001f600"
)
HEADERS = (
    "Host Content-Length Transfer-Encoding Connection keep-alive proxy-connection expect Upgrade TE trailer User-Agent "
    "Webhook- webhook-id webhook sec-websocket-key sec-websocket content-type Traceparent Authorization hosts te2"
)
WORDS_OF: dict[str, list[str]] = {
    "id": ["i" * 256, "i" * 257, "a b"],
    "content_type": ["".join(parts) for most in range(5) for parts in product("a/; ", repeat=most)] + ["a/b;\t=\u00e9"],
    "traceparent": [TRACE, TRACE[:-1], f"{TRACE}-", f"{TRACE}-x", f"{TRACE}-x y", f"{TRACE}x", TRACE.replace("-", "x")],
}

MORE: list[dict[str, Any]] = [
    *({"due_at": moment} for moment in (-1.0, 0.0, 1.0, 253402300799.0, 253402300800.0)),
    {"due_at": 9e9, "stream": Stream("s")},
    *({"idempotency_key": "\u6771" * length} for length in (0, 256, 257)),
    *({"owner": "\u6771" * length} for length in (0, 128, 129)),
    *({"priority": number} for number in (-101, -100, 100, 101)),
    *({"tags": {"\u6771" * length}} for length in (0, 128, 129)),
    *({"tags": {str(number) for number in range(count)}} for count in (0, 20, 21)),
]


def each_unusual() -> Iterator[NewDelivery]:
    """With something in one field that may be refused."""
    for url in ("https://h.example/x", "https://u:p@h.example/"):
        plain = NewDelivery("d1", url, b"")
        for name in HEADERS.split():
            yield replace(plain, headers={name: "x"})
    for fields in MORE:
        yield replace(plain, **fields)
    for text in ("", *CHARACTERS, *(f"a{character}b" for character in CHARACTERS)):
        yield replace(plain, headers={text: "x"})
        yield replace(plain, headers={"x": text})
        yield replace(plain, stream=Stream(text))
        yield replace(plain, stream=Stream("s", producer=text))
        yield replace(plain, owner=text)
        yield replace(plain, idempotency_key=text)
        yield replace(plain, tags={"a", text})
        yield replace(plain, id=text)
        yield replace(plain, content_type=f"{text}/b")
        yield replace(plain, content_type=f"a/b; {text}")
        yield replace(plain, traceparent=text)
        yield replace(plain, traceparent=f"{TRACE[:-1]}{text}")
    for field, texts in WORDS_OF.items():
        unusual: list[dict[str, Any]] = [{field: text} for text in texts]
        yield from (replace(plain, **fields) for fields in unusual)
    for length in (128, 129):
        yield replace(plain, stream=Stream("s" * length))


def kept(file: sqlite3.Connection) -> object:
    """What became of the fields that may be refused for what they hold."""
    sql = "SELECT headers, id, content_type, traceparent, owner, idempotency_key, priority FROM outspoken_deliveries"
    ((headers, *others),) = file.execute(sql).fetchall()
    return json.loads(headers), others, file.execute(TAGS).fetchall(), file.execute(STREAMS).fetchall()


TAGS = "SELECT tag FROM outspoken_tags ORDER BY tag"


STREAMS = "SELECT key, on_dead, transport, headers FROM outspoken_streams"


def test_what_python_takes_is_taken_and_what_it_refuses_is_refused(file: sqlite3.Connection) -> None:
    both: Counter[bool] = Counter()
    for one in each_unusual():
        taken: list[object] = []
        with undone(file), suppress(RelayError):
            outbox.add(file, one)
            taken.append(kept(file))
        with undone(file), suppress(sqlite3.IntegrityError, UnicodeEncodeError):
            insert(file, fields_of(one, "add_v2"), "add_v2")
            taken.append(kept(file))
        assert not taken or taken[:1] == taken[1:], one
        both[bool(taken)] += 1
    assert min(both[True], both[False]) > 300
