"""Producers that speak SQL: what psql can do, every language can."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import psycopg
import pytest
from psycopg.types.json import Jsonb

from relay import outbox
from relay.outbox.errors import DuplicateDelivery
from relay.outbox.postgres.placeholders import in_schema
from relay.outbox.store import Database
from relay.queue.claims import ClaimRequest
from relay.queue.deliveries import DeliveryQueue
from tests.relay.deliveries import TRACE, new, put, rows, states
from tests.services.postgres import Server

pytestmark = [
    pytest.mark.needs("postgres"),
    pytest.mark.parametrize("database", ["postgres"], indirect=True),
]

GUIDE = Path(__file__).parents[4] / "docs" / "sql.md"
ARGUMENTS = "SELECT array_to_string(proargnames, ',') FROM pg_proc WHERE proname = '{}'"
ADD = (
    "SELECT outspoken.add_v1(id => 'from psql', url => 'https://u:p@h.example/x?k=v', body => '{\"text\": \"hello\"}')"
)


# Of several by this name, that which psql calls.
ADD_V1 = f"outspoken.add_v1(text, text, anycompatible, {'text, ' * 8}double precision, text)"


class Psql:
    """The real one, on the database under test."""

    def __init__(self, server: Server, database: Database) -> None:
        self._server = server
        self._name = database.url.rpartition("/")[2]

    def __call__(self, *statements: str) -> str:
        """What it prints."""
        return self._server.psql(*map(in_schema, statements), name=self._name).strip()

    def refusal(self, *statements: str) -> str:
        """The SQLSTATE and the words of an error."""
        verbose = "DO $$ BEGIN {} EXCEPTION WHEN OTHERS THEN RAISE EXCEPTION '<% %>', SQLSTATE, SQLERRM; END $$"
        with pytest.raises(RuntimeError) as refused:
            self(verbose.format("".join(one.replace("SELECT", "PERFORM", 1) + ";" for one in statements)))
        return str(refused.value).partition("<")[2].partition(">")[0]


@pytest.fixture
def psql(postgres: Server, database: Database) -> Psql:
    return Psql(postgres, database)


@pytest.fixture
async def relay(database: Database) -> AsyncIterator[DeliveryQueue]:
    one = DeliveryQueue(database)
    yield one
    await one.close()


async def test_what_psql_adds_wakes_a_relay_which_claims_it(
    database: Database, psql: Psql, relay: DeliveryQueue
) -> None:
    heard = asyncio.Event()
    listener = database.listener(heard)
    await listener.open()
    try:
        heard.clear()
        await asyncio.to_thread(psql, ADD)
        await asyncio.wait_for(heard.wait(), 10)
    finally:
        await listener.close()
    (delivery,) = (await relay.claim(ClaimRequest(10, 10, few=10))).deliveries
    assert (delivery.id, delivery.destination) == ("from psql", "https://h.example:443")
    assert (delivery.method, delivery.kind, delivery.content_type) == ("POST", "final", "application/json")
    assert (dict(delivery.headers), delivery.url) == ({}, "https://u:p@h.example/x?k=v")
    assert json.loads(await relay.with_body(delivery, bytes)) == {"text": "hello"}


def test_all_there_is_to_say_is_stored_as_python_stores_it(database: Database, psql: Psql) -> None:
    psql(
        "SELECT outspoken.add_v1('id', 'http://h.example/', '\\x00ff'::bytea, 'PUT', 'error', 'a/b', '{\"a\": \"b\"}', "
        f"'{TRACE}', 'exponential', 's', 'kill', 9e9)"
    )
    assert rows(
        database,
        "SELECT method, kind, content_type, CAST(headers AS TEXT), traceparent, schedule, body_bytes, position, body "
        "FROM outspoken_deliveries JOIN outspoken_bodies ON outspoken_bodies.seq = outspoken_deliveries.seq",
    ) == [("PUT", "error", "a/b", '{"a": "b"}', TRACE, "exponential", 2, 1, b"\x00\xff")]
    assert rows(database, "SELECT key, on_dead, producer_until FROM outspoken_streams") == [("s", "kill", 9e9)]


def test_keys_tags_times_and_ends_are_there_for_every_language(database: Database, psql: Psql) -> None:
    add = (
        "SELECT outspoken.add_v2(id => '{}', url => 'https://h.example/', body => 'b', due_at => 9e9, "
        "idempotency_key => 'k', tags => '{{b,a}}', tracked => TRUE)"
    )
    assert psql(add.format("first"), add.format("second")).split() == ["first", "first"]
    seen = "SELECT id, state, idempotency_key, tags, extract(epoch FROM due_at)::BIGINT FROM outspoken.deliveries_v2"
    assert psql(seen) == "first|pending|k|{a,b}|9000000000"
    assert psql("SELECT outspoken.cancel_v1('first'), outspoken.cancel_v1('first')") == "t|f"
    assert psql("SELECT outspoken.take_ended_v1()", "SELECT outspoken.take_ended_v1()") == "first"
    assert psql.refusal(add.format("third").replace("'b'", "'c'")).startswith("OS001 idempotency_key: it stands for")


def test_it_is_there_when_the_callers_transaction_commits(database: Database, psql: Psql) -> None:
    psql("BEGIN", ADD, "ROLLBACK")
    assert states(database) == {}
    psql("BEGIN", ADD, "COMMIT")
    assert states(database) == {"from psql": "pending"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("'d', 'ftp://u:canary@h.example/', 'b'", "url: The URL must begin with http://"),
        ("'d', NULL, 'b'", "url: There is none"),
        ("NULL, 'http://h.example/', 'b'", "id: expected 1 to 256 characters, got 0"),
        ("'d', 'http://h.example/', 5", "body: expected text, bytea, json or jsonb"),
        ("'d', 'http://h.example/', 'b', headers => '{'", "headers: expected a JSON object"),
        ("'d', 'http://h.example/', 'b', headers => '[]'::jsonb", "headers: expected a JSON object"),
        ("'d', 'http://h.example/', NULL", "body: expected text, bytea, json or jsonb"),
        ("'d', 'http://h.example/', 'b', method => 'GET'", 'method: expected "POST" or "PUT"'),
        ("'d', 'http://h.example/', 'b', kind => 'x'", 'kind: expected "final", "partial" or "error"'),
        ("'d', 'http://h.example/', 'b', schedule => 'x'", 'schedule: expected "fixed"'),
        ("'d', 'http://h.example/', 'b', stream => ''", "stream: expected 1 to 128 characters"),
        ("'d', 'http://h.example/', 'b', stream => 's', on_dead => 'x'", 'on_dead: expected "skip" or "kill"'),
        ("'d', 'http://h.example/', 'b', headers => '[]'", "headers: expected a JSON object"),
        ("'d', 'http://h.example/', 'b', headers => '{\"a\": 1}'", "headers: expected a JSON object whose values are"),
        ("'d', 'http://h.example/', 'b', headers => '{\"a\": \"\\u0000\"}'", "headers: U+0000 and lone surrogates"),
        ("'d', 'http://h.example/', 'b', headers => '{\"\\ude00\": \"\"}'", "headers: U+0000 and lone surrogates"),
        ("'d', 'ws://h.example/', 'b'", "stream: a delivery to a WebSocket"),
        ("'d', 'ws://h.example/', '\\x00ff'::bytea, stream => 's'", "body: a WebSocket's message is text"),
        ("'d', 'ws://h.example/', '\\xc35ca9'::bytea, stream => 's'", "body: a WebSocket's message is text"),
    ],
)
def test_what_cannot_be_kept_is_an_error_of_its_own(database: Database, psql: Psql, arguments: str, words: str) -> None:
    refusal = psql.refusal(f"SELECT outspoken.add_v1({arguments})")
    assert refusal.startswith(f"OS001 {words}")
    assert "canary" not in refusal
    assert states(database) == {}


@pytest.mark.parametrize("body", ["\\x00", "\\x5c00", "\\x005c303030", "\\xc3a9", "\\xf09f9880"])
def test_a_message_may_hold_whatever_is_utf_8(database: Database, psql: Psql, body: str) -> None:
    psql(f"SELECT outspoken.add_v1('m', 'ws://h.example/', '{body}'::bytea, stream => 's')")
    assert rows(database, "SELECT body FROM outspoken_bodies") == [(bytes.fromhex(body[2:]),)]


def test_the_other_errors_have_their_own_states(psql: Psql) -> None:
    psql(
        ADD, "SELECT outspoken.begin_stream_v1('ended', 'http://h.example/')", "SELECT outspoken.end_stream_v1('ended')"
    )
    psql("SELECT outspoken.begin_stream_v1('dead', 'http://h.example/')")
    psql("UPDATE outspoken_streams SET state = 'killed', reason = 'internal', finished_at = 1 WHERE key = 'dead'")
    add = "SELECT outspoken.add_v1('more', 'http://h.example/', 'b', stream => '{}')"
    assert psql.refusal(ADD) == "OS002 delivery from psql is in the outbox already"
    assert psql.refusal(add.format("dead")).startswith("OS003 stream dead was killed")
    assert psql.refusal(add.format("ended")).startswith("OS004 stream ended has ended")


def test_whoever_tries_is_told_in_a_row_and_may_go_on(database: Database, psql: Psql) -> None:
    attempt = ADD.replace("SELECT outspoken.add_v1", "SELECT refusal, message FROM outspoken.try_add_v1")
    said = psql("BEGIN", attempt, attempt, "COMMIT")
    assert said.splitlines() == ["|", "duplicate_delivery|delivery from psql is in the outbox already"]
    assert states(database) == {"from psql": "pending"}


def test_a_live_stream_from_its_beginning_to_its_end(psql: Psql) -> None:
    psql("SELECT outspoken.begin_stream_v1('live', 'wss://h.example/', '{\"a\": \"b\"}', live_until => 1e9)")
    psql("SELECT outspoken.add_v1('m1', 'wss://h.example/', 'one', stream => 'live')")
    psql("SELECT outspoken.keep_streams_v1(ARRAY['live', 'nobody'], 9e9)")
    view = "SELECT * FROM outspoken.streams_v1"
    assert psql(view, "SELECT producer_until FROM outspoken_streams").split() == ["live|open||1", "9000000000"]
    psql("SELECT outspoken.end_stream_v1('live')")
    assert psql(view) == "live|ended||1"
    psql("UPDATE outspoken_streams SET holder = 'h', holder_until = 1")
    assert psql(view) == "live|killed|relay_gone|1"


def test_what_became_of_a_delivery_can_be_asked(database: Database, psql: Psql) -> None:
    put(database, new("d1", "https://u:canary@h.example/canary"))
    psql("UPDATE outspoken_deliveries SET state = 'dead', reason = 'gone', attempts = 2, finished_at = 1e9")
    asked = (
        "SELECT id, destination, state, reason, attempts, finished_at AT TIME ZONE 'UTC' FROM outspoken.deliveries_v1"
    )
    assert psql(asked) == "d1|https://h.example:443|dead|gone|2|2001-09-09 01:46:40"
    assert "canary" not in psql("SELECT * FROM outspoken.deliveries_v1")


def test_a_producer_needs_no_right_but_to_call(database: Database, psql: Psql) -> None:
    psql("DROP ROLE IF EXISTS app", "CREATE ROLE app")
    psql("GRANT USAGE ON SCHEMA outspoken TO app", f"GRANT EXECUTE ON FUNCTION {ADD_V1} TO app")
    try:
        hijack = (
            "CREATE TEMP TABLE deliveries (LIKE outspoken.deliveries); CREATE TEMP TABLE bodies (LIKE outspoken.bodies)"
        )
        psql(hijack, "SET ROLE app", ADD)
        assert states(database) == {"from psql": "pending"}
        for forbidden in ("SELECT * FROM outspoken_signing_keys", "SELECT outspoken.end_stream_v1('s')"):
            with pytest.raises(RuntimeError, match="permission denied"):
                psql("SET ROLE app", forbidden)
    finally:
        psql("DROP OWNED BY app", "DROP ROLE app")


BODIES = [
    (r"""'{"text": "a\nb \\ "}'""", rb'{"text": "a\nb \\ "}'),
    (r"'\x00ff'", rb"\x00ff"),
    (r"'\x00ff'::bytea", b"\x00\xff"),
    ("'é'::text", "é".encode()),
    ("'x'::varchar", b"x"),
    ("""'{"b": 1,  "a": "\\n"}'::json""", rb'{"b": 1,  "a": "\n"}'),
    ("""'{"b": 1,  "a": "\\n"}'::jsonb""", rb'{"a": "\n", "b": 1}'),
    ("jsonb_build_object('a', 1)", b'{"a": 1}'),
    ("convert_to('x', 'UTF8')", b"x"),
]
HEADERS = [
    "",
    """, headers => '{"a": "b"}'""",
    *(f""", headers => '{{"a": "b"}}'::{of}""" for of in ("text", "json", "jsonb")),
]


@pytest.mark.parametrize("call", ["add_v1", "try_add_v1", "add_v2", "try_add_v2"])
def test_a_body_and_headers_are_taken_in_whatever_type_they_come(database: Database, psql: Psql, call: str) -> None:
    adds = [
        f"SELECT outspoken.{call}(id => '{at}', url => 'http://h/', body => {body}{headers}, method => 'PUT')"
        for at, (body, headers) in enumerate((body, headers) for body, _ in BODIES for headers in HEADERS)
    ]
    adds += [f"SELECT outspoken.{call}('p{at}', 'http://h/', {body})" for at, (body, _) in enumerate(BODIES)]
    psql(*adds)
    kept = rows(database, "SELECT body FROM outspoken_deliveries JOIN outspoken_bodies USING (seq) ORDER BY seq")
    assert [body for (body,) in kept] == [body for _, body in BODIES for _ in HEADERS] + [body for _, body in BODIES]
    told = rows(database, "SELECT CAST(headers AS TEXT) FROM outspoken_deliveries WHERE method = 'PUT' ORDER BY seq")
    assert [json.loads(text) for (text,) in told] == [{}, *[{"a": "b"}] * 4] * len(BODIES)


@pytest.mark.parametrize(
    "headers", ["", """'{"a": "b"}'""", *(f"""'{{"a": "b"}}'::{of}""" for of in ("text", "json", "jsonb"))]
)
@pytest.mark.parametrize("call", ["begin_stream_v1", "try_begin_stream_v1"])
def test_so_are_those_of_a_stream(database: Database, psql: Psql, call: str, headers: str) -> None:
    psql(f"SELECT outspoken.{call}('s', 'ws://h/'{headers and ', headers => '}{headers})")
    psql(f"SELECT outspoken.{call}('t', 'ws://h/'{headers and ', '}{headers})")
    told = rows(database, "SELECT CAST(headers AS TEXT) FROM outspoken_streams ORDER BY key")
    assert [json.loads(text) for (text,) in told] == [{"a": "b"} if headers else {}] * 2


async def test_drivers_that_leave_types_to_the_server_send_texts(database: Database) -> None:
    connection = await asyncpg.connect(database.url)
    everything = ("id", "http://h/", "{}", "PUT", "final", "a/b", "{}", None, None, None, None, None, None)
    try:
        await connection.execute("SELECT outspoken.add_v1($1, $2, $3)", "a", "http://h/", r'{"a": "\n"}')
        named = "SELECT outspoken.add_v1(id => $1, url => $2, body => $3, headers => $4)"
        await connection.execute(named, "b", "http://h/", "b", '{"a": "b"}')
        await connection.execute(
            named.replace("$3", "$3::bytea").replace("$4", "$4::jsonb"), "c", "http://h/", b"\0", "{}"
        )
        placed = ", ".join(f"${place + 1}" for place in range(len(everything)))
        await connection.execute(f"SELECT outspoken.add_v1({placed})", *everything)
    finally:
        await connection.close()
    with psycopg.connect(database.url) as other:
        other.execute(
            named.replace("$1", "%s").replace("$2", "%s").replace("$3", "%s").replace("$4", "%s"),
            ("d", "http://h/", "é\\", Jsonb({"a": "b"})),
        )
        other.execute("SELECT outspoken.add_v1(%s, %s, %s)", ("e", "http://h/", b"\0"))
        other.execute("SELECT outspoken.add_v1(%s, %s, %s)", ("f", "http://h/", Jsonb({"a": "b"})))
    kept = dict(rows(database, "SELECT id, body FROM outspoken_deliveries JOIN outspoken_bodies USING (seq)"))
    assert kept == {
        "a": rb'{"a": "\n"}',
        "b": b"b",
        "c": b"\0",
        "id": b"{}",
        "d": "é\\".encode(),
        "e": b"\0",
        "f": b'{"a": "b"}',
    }


def test_an_error_is_one_line_and_where_it_came_from_another(database: Database) -> None:
    with psycopg.connect(database.url) as connection, pytest.raises(psycopg.Error) as refused:
        connection.execute("SELECT outspoken.add_v1('d', 'http://h/', NULL)")
    told = refused.value.diag
    assert (told.sqlstate, told.constraint_name) == ("OS001", "invalid_delivery")
    assert told.message_primary == "body: expected text, bytea, json or jsonb"
    assert len((told.context or "").splitlines()) == 1
    assert (told.message_detail, told.message_hint) == (None, None)


async def test_a_connection_with_codecs_of_its_own_will_do(database: Database) -> None:
    connection = await asyncpg.connect(database.url)
    await connection.set_type_codec("json", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    try:
        async with connection.transaction():
            await outbox.add(connection, new(headers={"a": "b"}))
            with pytest.raises(DuplicateDelivery):
                await outbox.add(connection, new())
    finally:
        await connection.close()
    assert [json.loads(text) for (text,) in rows(database, "SELECT headers FROM outspoken_deliveries")] == [{"a": "b"}]


def test_the_guide_says_what_the_functions_take(psql: Psql) -> None:
    told = {
        name: set(re.findall(r"`(\w+)`", text))
        for name, text in re.findall(r"\| `outspoken\.(\w+_v1)` \| (.*) \|", GUIDE.read_text())
    }
    assert told == {name: set(re.findall(r"\w+", psql(ARGUMENTS.format(name)))) - {"producer"} for name in told}
    assert len(told) == 4
