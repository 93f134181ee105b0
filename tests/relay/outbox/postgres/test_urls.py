"""The server reads URLs as the relay does: the same origin, or the same words about what is wrong."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.guard.rules import ANYWHERE, Refusal
from relay.guard.url import LIVE, read
from relay.outbox.store import Connection, Database
from tests.relay.deliveries import reading
from tests.relay.guard.destinations import ADDRESSES, URLS

pytestmark = pytest.mark.needs("postgres")

READ = """
SELECT it.origin, it.flaw
FROM unnest(CAST(? AS TEXT[])) WITH ORDINALITY AS urls (url, place), outspoken_read(url) AS it ORDER BY place
"""


def here(url: str) -> tuple[str | None, str | None]:
    judged = read(url, ANYWHERE, LIVE)
    if not isinstance(judged, Refusal):
        return judged.origin, None
    return None, judged.message.partition(" So written the host is ")[0]  # which a server cannot convert


def there(database: Database, urls: Iterable[str]) -> list[tuple[str | None, str | None]]:
    def ask(connection: Connection) -> list[tuple[str | None, str | None]]:
        return [tuple(row) for row in connection.execute(READ, (list(urls),)).fetchall()]

    return reading(database, ask)


def assert_same(database: Database, urls: list[str]) -> None:
    for url, said in zip(urls, there(database, urls), strict=True):
        assert (url, *said) == (url, *here(url))


def is_text(url: str) -> bool:
    """Whether it can be sent to the server at all."""
    return "\0" not in url and not any("\ud800" <= character <= "\udfff" for character in url)


def test_every_url_of_the_guards_table(postgres_outbox: Database) -> None:
    urls = [url for url, _ in URLS if is_text(url)]
    assert_same(postgres_outbox, urls + [url.replace("http", "ws", 1) for url in urls])


def test_every_address_of_the_guards_table(postgres_outbox: Database) -> None:
    hosts = [host for address, _ in ADDRESSES for host in (address, f"[{address}]")]
    assert_same(postgres_outbox, [f"https://{host}{port}/" for host in hosts for port in ("", ":8443", ":0", ":65536")])


def test_a_url_of_any_length(postgres_outbox: Database) -> None:
    start = "https://h.example/"
    assert_same(postgres_outbox, [start.ljust(length, "a") for length in (65535, 65536, 65537)])


WORDS = """
http:// https:// ws:// HTTP:// ftp:// : / // ? # @ [ ] % %C3%A9 %ff %3a %00 %c2%80 %ed%a0%80 %f4%90%80%80 %25 a A.b a-b
-a x_y . .. 0 1 80 443 65535 65536 0x7f 0x 127.0.0.1 256.1.1.1 01.2.3.4 1.2.3 :: ::1 1:2 fe80::1 ffff 0:0
1:0:0:2:0:0:0:3 ::ffff:1.2.3.4 1.2.3.4 user user:pass h.example ~ $ ; \\ é ' "
"""
PIECES = st.sampled_from(WORDS.split())
GROUPS = st.lists(st.sampled_from(["", "0", "00", "0000", "1", "ab", "ABCD", "12345", "g", "1.2.3.4"]), max_size=9)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(PIECES, max_size=8).map("".join), min_size=20, max_size=60),
    st.lists(st.builds("{}{}".format, st.sampled_from(["https://h@", "http://", "ws://u:p@"]), st.text(max_size=20))),
    st.lists(GROUPS.map(":".join).map("http://[{}]:8080/".format), min_size=20, max_size=60),
)
def test_whatever_else_there_is(
    postgres_outbox: Database, assembled: list[str], arbitrary: list[str], addresses: list[str]
) -> None:
    schemed = [f"https://{url}" for url in assembled]
    assert_same(postgres_outbox, [url for url in [*assembled, *schemed, *arbitrary, *addresses] if is_text(url)])
