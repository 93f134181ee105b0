from __future__ import annotations

import time
from pathlib import Path

import pytest

from relay.admin import inspection
from relay.admin.access import NotFound
from relay.admin.inspection import EVERYTHING, Filter, Tail
from relay.admin.operations import BulkSelection, plan_replay, replay
from relay.outbox.errors import SchemaError, StoreUnavailable
from relay.outbox.model import DeliveryState, Stream
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Database
from relay.policy.attempt import Outcome
from tests.relay.admin.past import OPERATOR, another_schema, attempt, change, ended
from tests.relay.deliveries import many, new, put, rows

SECRET_URL = "https://user:pa55word@receiver.example/hook/t0ken?sig=s3cret"


def ids(database: Database, wanted: Filter = EVERYTHING, **page: int) -> list[str]:
    return [one.id for one in inspection.deliveries(database, wanted, **page)]


def test_pages_go_from_the_newest_to_the_oldest_and_miss_none(database: Database) -> None:
    put(database, *many(7))
    page, seen = inspection.deliveries(database, EVERYTHING, limit=3), []
    while page:
        seen += [one.id for one in page]
        put(database, new(f"late{len(seen)}"))  # what comes meanwhile moves no page
        page = inspection.deliveries(database, EVERYTHING, limit=3, older=page[-1].seq)
    assert seen == ["d7", "d6", "d5", "d4", "d3", "d2", "d1"]


def test_a_list_is_narrowed_by_state_outcome_destination_id_and_time(database: Database) -> None:
    put(database, new("a1"), new("a2"), new("b1", "https://other.example/"))
    change(database, "UPDATE outspoken_deliveries SET created_at = 100 WHERE id = 'a1'")
    ended(database, "a2", outcome="dns", status=None)
    assert ids(database, Filter(state=DeliveryState.DEAD)) == ["a2"]
    assert ids(database, Filter(outcome=Outcome.DNS)) == ["a2"]
    assert ids(database, Filter(destination="https://other.example:443")) == ["b1"]
    assert ids(database, Filter(id_prefix="a")) == ["a2", "a1"]
    assert ids(database, Filter(until=200.0)) == ["a1"]
    assert ids(database, Filter(id_prefix="a", since=200.0)) == ["a2"]


def test_a_summary_tells_what_the_last_attempt_came_to(database: Database) -> None:
    put(database, new())
    ended(database, "d1", attempts=3)
    (one,) = inspection.deliveries(database, EVERYTHING)
    assert (one.state, one.attempts, one.last_number, one.last_outcome, one.last_status) == (
        DeliveryState.DEAD,
        3,
        3,
        "http_5xx",
        500,
    )


def test_a_summary_tells_whether_its_destination_holds_it(database: Database) -> None:
    put(database, new("goes"), new("waits"), new("ended"))
    change(database, "UPDATE outspoken_deliveries SET lane = 1 WHERE id <> 'goes'")
    ended(database, "ended")
    assert {one.id: one.held for one in inspection.deliveries(database, EVERYTHING)} == {
        "goes": False,
        "waits": True,
        "ended": False,
    }


def test_credentials_are_never_shown_and_path_and_query_only_when_asked_for(database: Database) -> None:
    put(database, new(url=SECRET_URL, headers={"dg-token": "key-id", "x-secret": "hush"}))
    plain = inspection.delivery(database, "d1", time.time())
    assert plain.url == "https://receiver.example:443/***"
    assert plain.headers == {"dg-token": "***", "x-secret": "***"}
    revealed = inspection.delivery(database, "d1", time.time(), reveal=True)
    assert revealed.url == "https://***@receiver.example/hook/t0ken?sig=s3cret"
    assert revealed.headers["x-secret"] == "hush"
    assert "pa55word" not in repr((plain, revealed))


@pytest.mark.parametrize(
    ("sql", "waits_for"),
    [
        ("UPDATE outspoken_deliveries SET due_at = 1", "a relay"),
        ("UPDATE outspoken_deliveries SET due_at = 9e9", "its time"),
        ("UPDATE outspoken_deliveries SET lane = 1", "its destination, which is asked in turn what it takes"),
        (
            "INSERT INTO outspoken_destinations (origin, state) VALUES (ORIGIN, 'paused')",
            "its destination, which an operator paused, until somebody resumes it",
        ),
        (
            "INSERT INTO outspoken_destinations (origin, path, open, failures, allowed_at) "
            "VALUES (ORIGIN, '/hook', 1, 5, 4102444800)",
            "its path, which failed 5 times in a row; the next attempt may go there at 2100-01-01 00:00:00Z",
        ),
        ("UPDATE outspoken_deliveries SET state = 'cancelled', finished_at = 1", None),
    ],
)
def test_a_pending_delivery_says_what_it_waits_for(database: Database, sql: str, waits_for: str | None) -> None:
    put(database, new())
    change(database, sql.replace("ORIGIN", "'https://receiver.example:443'"))
    assert inspection.delivery(database, "d1", time.time()).waits_for == waits_for


def test_a_delivery_is_named_by_the_beginning_of_its_id_if_no_other_begins_so(database: Database) -> None:
    put(database, new("ab-1"), new("ab-12"), new("ac-%_"))
    assert [inspection.whole_id(database, begin) for begin in ("ab-1", "ab-12", "ac")] == ["ab-1", "ab-12", "ac-%_"]
    for begin, words in (
        ("ab", "more than one delivery's id begins"),
        ("b", "no delivery 'b'"),
        ("", "no delivery ''"),
    ):
        with pytest.raises(NotFound, match=words):
            inspection.whole_id(database, begin)


def test_a_message_waits_for_its_socket_and_tells_why_that_was_lost(database: Database) -> None:
    put(database, new("m1", "wss://receiver.example/live", stream=Stream("session")))
    assert inspection.delivery(database, "m1", time.time()).waits_for == "its WebSocket"
    change(database, "UPDATE outspoken_streams SET state = 'killed', reason = 'connection_lost', finished_at = 1")
    assert inspection.delivery(database, "m1", time.time()).stream_reason == "connection_lost"


def test_the_history_has_every_attempt_from_the_first(database: Database) -> None:
    put(database, new())
    ended(database, "d1", attempts=2, detail="the receiver answered 500")
    first, last = inspection.history(database, "d1")
    assert (first.number, first.outcome, last.number, last.outcome) == (1, "connect", 2, "http_5xx")
    assert (last.status, last.detail, last.peer, last.excerpt) == (
        500,
        "the receiver answered 500",
        "192.0.2.1",
        b"sorry \x1b[2J",
    )


@pytest.mark.parametrize("written", ["{}", "[]"])
def test_an_attempt_that_took_no_step_is_shown_whatever_version_wrote_it(database: Database, written: str) -> None:
    put(database, new())
    ended(database, "d1", outcome="forbidden_destination", status=None)
    rows(database, f"UPDATE outspoken_attempts SET timing = '{written}'")
    (one,) = inspection.history(database, "d1")
    assert one.timing == {}


def test_a_body_is_its_bytes_and_when_it_is_pruned_that_is_said(database: Database) -> None:
    put(database, new(body=b"\x00\xff"))
    assert inspection.body(database, "d1") == b"\x00\xff"
    change(database, "DELETE FROM outspoken_bodies")
    with pytest.raises(NotFound, match="no longer kept"):
        inspection.body(database, "d1")
    with pytest.raises(NotFound, match="no delivery 'nobody'"):
        inspection.history(database, "nobody")


def happen(database: Database, id_: str, number: int, at: float, outcome: str = "http_5xx") -> None:
    """An attempt ended, and the delivery will be tried again."""
    with database.writing() as connection:
        attempt(connection, id_, number, at, outcome)
        connection.execute("UPDATE outspoken_deliveries SET attempts = ? WHERE id = ?", (number, id_))


def test_a_tail_tells_every_attempt_once_whether_of_an_old_delivery_or_a_new_one(database: Database) -> None:
    put(database, *many(3))
    happen(database, "d1", 1, 10.0)
    happen(database, "d2", 1, 11.0)
    watched = Tail(database)
    assert [(one.id, one.number) for one in watched.recent(1)] == [("d2", 1)]
    assert watched.news() == ()
    happen(database, "d1", 2, 20.0)
    put(database, new("d4"))
    happen(database, "d4", 1, 21.0)
    ended(database, "d3", "delivered", at=22.0, outcome="success", status=200)
    assert [(one.id, one.number) for one in watched.news()] == [("d1", 2), ("d4", 1), ("d3", 1)]
    assert watched.news() == ()


def test_a_tail_can_be_about_one_outcome_at_one_destination(database: Database) -> None:
    put(database, new("d1"), new("d2", "https://other.example/"))
    watched = Tail(database, Outcome.DNS, "https://other.example:443")
    assert watched.recent(10) == ()
    happen(database, "d1", 1, 10.0, "dns")
    happen(database, "d2", 1, 10.0, "tls")
    assert watched.news() == ()
    happen(database, "d2", 2, 11.0, "dns")
    assert [(one.id, one.outcome) for one in watched.news()] == [("d2", "dns")]


def test_a_tail_says_when_it_may_have_missed_something(database: Database) -> None:
    put(database, *many(3))
    watched = Tail(database, most=3)
    watched.recent(0)
    put(database, new("d4"))
    watched.news()
    assert watched.gap
    assert watched.gap.startswith("3 deliveries or more wait")
    ended(database, "d1", at=10.0)
    ended(database, "d2", at=10.0)
    assert [one.id for one in watched.news()] == ["d1", "d2"]
    assert watched.gap  # the mark was taken while four waited
    watched.news()
    assert watched.gap is None


def test_a_tail_says_that_what_was_replayed_may_have_escaped_it(database: Database) -> None:
    put(database, *many(2))
    ended(database, "d1")
    watched = Tail(database)
    watched.recent(0)
    selection = BulkSelection(ids=("d1",))
    for _ in replay(database, selection, plan_replay(database, selection), OPERATOR):
        pass
    happen(database, "d1", 2, 20.0)
    watched.news()
    assert watched.gap
    assert "replay" in watched.gap
    happen(database, "d1", 4, 21.0)
    assert [(one.id, one.number) for one in watched.news()] == [("d1", 4)]
    assert watched.gap is None


def test_looking_needs_a_database_with_a_schema_that_is_known(folder: Path, database: Database) -> None:
    with pytest.raises(StoreUnavailable, match="no database there"):
        inspection.deliveries(SqliteDatabase(folder / "none.db"), EVERYTHING)
    assert not (folder / "none.db").exists()
    newer = another_schema(database, "INSERT INTO outspoken_migrations VALUES ('outbox', 9999, 'future', '', 0)")
    with newer, pytest.raises(SchemaError, match="install a newer one"):
        inspection.deliveries(database, EVERYTHING)
    with (
        another_schema(database, "DELETE FROM outspoken_migrations"),
        pytest.raises(SchemaError, match="relay migrate"),
    ):
        inspection.deliveries(database, EVERYTHING)
