"""A batch: all of it or nothing, and what is wrong is said with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from relay import outbox
from relay.outbox import DuplicateDelivery, InvalidDelivery, Kind, Method, NewDelivery, Stream
from relay.outbox.testing import added
from tests.relay.deliveries import TRACE, new, rows, states
from tests.relay.outbox.producers import Producer, RolledBack, done, every_kind, every_way

EVERYTHING = NewDelivery(
    "all", "https://u:p@h.example:8443/x?y=%41:b", bytes(range(256)), Method.PUT, Kind.ERROR, "text/plain",
    {"x-100%": "50 %s :name ü"}, TRACE, "exponential", None, 9e9, "key %s", frozenset({"a", "ü %s"}), True, "ü %s", -7,
)  # fmt: skip


def adding(deliveries: Iterable[NewDelivery]) -> Callable[[Any], Any]:
    return lambda connection: outbox.add_many(connection, deliveries)


@every_kind
def test_a_batch_is_there_as_it_was_handed_in(producer: Producer) -> None:
    batch = [new("first"), EVERYTHING, new("empty", body=b""), new("last", tags={"a"})]
    assert producer.do(adding(batch)) == ["first", "all", "empty", "last"]
    assert producer.do(added) == batch


ODD_URLS = """
http://h.example HTTP://H.example./x http://h.example?x=a/b http://h.example#a/b http://h.example?a@b.example/c http://h.example//a/
https://u:p@h.example/a https://u:p@h.example?a/b@c http://[::1]:8080/a http://1.2.3.4:80 https://h.example:443#/b http://h.example/a@b
"""


@every_way
def test_each_of_a_batch_goes_where_it_would_by_itself(producer: Producer) -> None:
    urls = ODD_URLS.split()
    producer.put(*(new(f"alone{number:02}", url) for number, url in enumerate(urls)))
    producer.do(adding(new(f"batch{number:02}", url) for number, url in enumerate(urls)))
    where = rows(producer.database, "SELECT origin, path, url FROM outspoken_deliveries ORDER BY seq")
    assert where[len(urls) :] == where[: len(urls)]


@every_way
def test_a_batch_that_is_rolled_back_leaves_nothing(producer: Producer) -> None:
    async def change_ones_mind(connection: Any) -> None:
        await done(outbox.add_many(connection, [EVERYTHING, new()]))
        raise RolledBack

    with suppress(RolledBack):
        producer.commit(change_ones_mind)
    for table in ("deliveries", "bodies", "tags"):
        assert rows(producer.database, f"SELECT * FROM outspoken_{table}") == []


@every_way
@pytest.mark.parametrize(
    ("unfit", "error", "words"),
    [
        (new("x", headers={"Host": "h"}), InvalidDelivery, r"deliveries\[2\]\.headers\.Host: it is set by the relay"),
        (new("x", "ftp://h/"), InvalidDelivery, r"deliveries\[2\]\.url: The URL must begin with"),
        (new("x", method="GET"), InvalidDelivery, r'deliveries\[2\]\.method: expected "POST" or "PUT", got "GET"'),
        (new("x", stream=Stream("s")), InvalidDelivery, r"deliveries\[2\]\.stream: .* one by one: use add"),
        (new("taken"), DuplicateDelivery, r"deliveries\[2\]: delivery taken is in the outbox already"),
        (new("b"), DuplicateDelivery, r"deliveries\[2\]: delivery b is in the outbox already"),
        (new("x", idempotency_key="k", body=b"other"), InvalidDelivery, r"deliveries\[2\]\.idempotency_key: it stands"),
        (new("x", idempotency_key="b", body=b"other"), InvalidDelivery, r"deliveries\[2\]\.idempotency_key: it stands"),
        ("x", InvalidDelivery, r"deliveries\[2\]\.delivery: expected NewDelivery, got str"),
    ],
)
def test_one_that_is_unfit_adds_none_and_leaves_the_transaction_as_good_as_it_was(
    producer: Producer, unfit: NewDelivery, error: type[Exception], words: str
) -> None:
    async def add(connection: Any) -> None:
        with pytest.raises(error, match=f"^{words}"):
            await done(
                outbox.add_many(connection, [new("a", tags={"t"}), new("b", idempotency_key="b"), unfit, new("c")])
            )
        await done(outbox.add(connection, new("after")))

    producer.put(new("taken"), new("keyed", idempotency_key="k"))
    producer.commit(add)
    assert set(states(producer.database)) == {"taken", "keyed", "after"}
    assert rows(producer.database, "SELECT tag FROM outspoken_tags") == []


@every_way
def test_keys_answer_with_the_first_of_them_within_a_batch_too(producer: Producer) -> None:
    keyed = new("old", idempotency_key="k")
    producer.put(keyed)
    fresh = new("fresh", idempotency_key="f")
    batch = [replace(keyed, id="x"), fresh, replace(fresh, id="y"), new("z")]
    assert producer.do(adding(batch)) == ["old", "fresh", "fresh", "z"]
    assert list(states(producer.database)) == ["old", "fresh", "z"]


@every_way
def test_nothing_is_a_batch_too(producer: Producer) -> None:
    assert producer.do(adding([])) == []
    assert producer.do(adding(iter([new()]))) == ["d1"]


@every_way
def test_what_is_no_batch_is_refused(producer: Producer) -> None:
    one: Any = new()
    with pytest.raises(InvalidDelivery, match=r"^deliveries: expected several NewDelivery, got .*NewDelivery"):
        producer.do(adding(one))
    with pytest.raises(
        InvalidDelivery, match=r"^deliveries: their bodies have \d+ bytes: add at most 67108864 at once"
    ):
        producer.do(adding([new("a", body=bytes(2**26)), new("b")]))
    assert states(producer.database) == {}
