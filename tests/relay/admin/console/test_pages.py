"""The pages as they are served: who may see them, what stands on them, and what their forms do."""

from __future__ import annotations

import asyncio
import html
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from msgspec.structs import replace

from relay.admin.auth import Authenticator
from relay.admin.recent import RecentAttempts
from relay.app.admin_server import application
from relay.outbox.model import Stream
from relay.outbox.store import Database
from relay.policy.breaker import destination_id
from tests.relay.admin.past import change, ended, trail, tried
from tests.relay.admin.served import TOKEN, context
from tests.relay.deliveries import attempted, claimed, ill, many, new, put, rows, stand, states

ORIGIN = "https://receiver.example:443"
HERE = {"Sec-Fetch-Site": "same-origin"}
PAGES = (
    "/",
    "/deliveries",
    "/destinations",
    "/audit",
    "/settings",
    "/replay?state=dead",
    f"/destination?origin={ORIGIN}",
)


class Visitor:
    """A browser without any cleverness."""

    def __init__(self, client: TestClient[Any, Any]) -> None:
        self.client = client

    async def see(self, path: str, status: int = 200) -> str:
        async with self.client.get(path, allow_redirects=False) as answer:
            assert answer.status == status, await answer.text()
            return str(await answer.text())

    async def text(self, path: str) -> str:
        """What a person reads."""
        page = (await self.see(path)).partition("<main")[2]
        return " ".join(html.unescape(re.sub(r"<script.*?</script>|<[^>]*>", " ", page, flags=re.S)).split())

    async def send(self, to: str, /, status: int = 303, headers: dict[str, str] | None = None, **form: Any) -> str:
        """Where the answer leads, or the page."""
        sent = self.client.post(to, data=form, headers=HERE if headers is None else headers, allow_redirects=False)
        async with sent as answer:
            assert answer.status == status, await answer.text()
            return answer.headers.get("Location", "") or str(await answer.text())


@pytest.fixture
def recent() -> RecentAttempts:
    return RecentAttempts(time.time() - 3600)


@pytest.fixture
async def stranger(database: Database, recent: RecentAttempts) -> AsyncIterator[Visitor]:
    async with TestClient(TestServer(application(context(database, recent), Authenticator(TOKEN)))) as client:
        yield Visitor(client)


@pytest.fixture
async def visitor(stranger: Visitor) -> Visitor:
    await stranger.send("/login", token=TOKEN, name="Ada")
    return stranger


async def test_a_stranger_is_asked_to_sign_in_and_then_gets_the_page_that_was_wanted(stranger: Visitor) -> None:
    async with stranger.client.get("/deliveries?state=dead", allow_redirects=False) as answer:
        wanted = answer.headers["Location"]
        assert (answer.status, wanted) == (303, "/login?next=/deliveries?state%3Ddead")
    assert 'value="/deliveries?state=dead"' in await stranger.see(wanted)
    assert await stranger.send("/login", token=TOKEN, next="/deliveries?state=dead") == "/deliveries?state=dead"
    assert "Sign out" in await stranger.see("/deliveries?state=dead")
    assert await stranger.send("/logout") == "/login"
    await stranger.see("/", status=303)


async def test_a_stranger_holds_no_connection_and_whoever_signed_in_hears_that_the_relay_lives(
    stranger: Visitor,
) -> None:
    async with asyncio.timeout(10):
        assert await stranger.see("/alive") == "event: signed-out\ndata:\n\n"
    await stranger.send("/login", token=TOKEN)
    async with stranger.client.get("/alive") as answer:
        assert await answer.content.readline() == b"event: beat\n"


async def test_the_cookie_is_for_this_site_and_no_script_s(stranger: Visitor) -> None:
    async with stranger.client.post("/login", data={"token": TOKEN}, headers=HERE, allow_redirects=False) as answer:
        cookie = answer.headers["Set-Cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"))
    assert TOKEN not in cookie


async def test_a_wrong_token_is_refused_and_a_sign_in_leads_nowhere_else(stranger: Visitor) -> None:
    assert "That is not the token." in await stranger.send("/login", token="x", status=403)
    for elsewhere in ("//evil.example/", "https://evil.example/", "/\\evil.example", "/a\r\nb"):
        assert await stranger.send("/login", token=TOKEN, next=elsewhere) == "/"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
    ],
)
async def test_what_another_site_sends_changes_nothing(
    visitor: Visitor, database: Database, headers: dict[str, str]
) -> None:
    put(database, new())
    ended(database, "d1")
    for path, form in (
        ("/replay", {"id": "d1"}),
        ("/destination/pause", {"origin": ORIGIN}),
        ("/keys/rotate", {}),
        ("/deliveries/d1/cancel", {}),
        ("/deliveries/d1/reveal", {}),
        ("/logout", {}),
        ("/login", {"token": TOKEN}),
    ):
        await visitor.send(path, status=403, headers=headers, **form)
    assert states(database) == {"d1": "dead"}
    assert trail(database) == ()


async def test_an_old_browser_says_by_origin_where_it_comes_from(visitor: Visitor) -> None:
    here = {"Origin": f"http://127.0.0.1:{visitor.client.port}"}
    assert await visitor.send("/logout", headers=here) == "/login"


@pytest.mark.parametrize("page", [*PAGES, "/login", "/deliveries/none", "/static/console.css", "/nowhere"])
async def test_every_answer_is_armoured(visitor: Visitor, page: str) -> None:
    async with visitor.client.get(page) as answer:
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cache-Control"] == ("no-cache" if "/static/" in page else "no-store")
        assert "aiohttp" not in answer.headers["Server"]


@pytest.mark.parametrize("page", [page for page in PAGES if "origin" not in page])
async def test_an_empty_outbox_has_every_page(visitor: Visitor, page: str) -> None:
    assert "<h1" in await visitor.see(page)


async def test_now_says_what_is_late_whose_it_is_and_what_to_do(
    visitor: Visitor, database: Database, recent: RecentAttempts
) -> None:
    now = time.time()
    put(database, *many(3), due_at=now - 300)
    put(database, new("gone", "https://other.example/"))
    ended(database, "gone", at=now)
    change(database, "INSERT INTO outspoken_relays VALUES ('h', ?)", now)
    ill(database, failures=6, until=now + 45)
    change(database, "UPDATE outspoken_deliveries SET lane = 1 WHERE id <> 'gone'")
    change(database, "UPDATE outspoken_deliveries SET attempts = 1 WHERE id = 'd1'")
    tried(database, "d1", 1, now - 5, "connect_timeout", detail="no connection within the connect timeout")
    recent([attempted(claimed(destination=ORIGIN))])
    text = await visitor.text("/")
    assert f"2 endpoints need attention; worst: {ORIGIN}/hook. No answer to our connections" in text
    assert "Oldest overdue 5 min" in text
    assert "In flight 3 of 256" in text
    assert "Given up, 24 h 1" in text
    assert "No answer to our connections: the machine is off, or a firewall drops them." in text
    assert re.search(r"3 waiting, the oldest due for 5 min · 6 failures in a row · next attempt in 4\d s", text)
    assert "Try again now" in text


@pytest.mark.parametrize(("due_in", "attempt"), [(-60, "now"), (60, "when one is due")])
async def test_a_destination_that_may_be_tried_again_is_when_something_is_due(
    visitor: Visitor, database: Database, due_in: float, attempt: str
) -> None:
    put(database, *many(3), due_at=time.time() + due_in)
    ill(database, failures=6, until=time.time() - 5)
    change(database, "UPDATE outspoken_deliveries SET lane = 1 WHERE due_at < ?", time.time())
    change(database, "INSERT INTO outspoken_relays VALUES ('h', ?)", time.time())
    assert f"6 failures in a row · next attempt {attempt}" in await visitor.text("/")


async def test_a_list_keeps_every_state_in_its_url(visitor: Visitor, database: Database) -> None:
    put(database, *many(60))
    change(database, "UPDATE outspoken_deliveries SET due_at = ? WHERE id = 'd60'", time.time() + 90)
    page = await visitor.see(f"/deliveries?state=pending&destination={ORIGIN}")
    assert re.search(r"in 8\d s|in 90 s", page)
    assert "d60" in page
    assert ">d10<" not in page
    older = html.unescape(re.findall(r'href="(/deliveries\?[^"]*older[^"]*)"', page)[0])
    assert "state=pending" in older
    following = await visitor.see(older)
    assert ">d10<" in following
    assert ">d60<" not in following


async def test_a_filter_that_cannot_be_read_says_so_beside_the_field(visitor: Visitor) -> None:
    page = await visitor.see("/deliveries?since=yesterday", status=400)
    assert "expected how long ago (1h)" in html.unescape(page)
    assert 'aria-invalid="true"' in page


async def test_a_delivery_shows_its_attempts_and_the_next_one_and_masks_what_may_be_secret(
    visitor: Visitor, database: Database
) -> None:
    put(database, new("d1", "https://u:pa55@receiver.example/t0ken?sig=s3cret", headers={"x-key": "k3y"}))
    change(database, "UPDATE outspoken_deliveries SET attempts = 1, due_at = ?", time.time() + 3600)
    tried(database, "d1", 1, time.time() - 5, "http_5xx", 503, "the receiver answered 503")
    text = await visitor.text("/deliveries/d1")
    assert re.search(r"The next attempt is in (60 min|1 h)", text)
    assert "#1 answered 503" in text
    assert "the receiver answered 503" in text
    assert "sorry \\x1b[2J" in text
    for secret in ("pa55", "t0ken", "s3cret", "k3y", '{"text"'):
        assert secret not in text


async def test_revealing_shows_body_and_url_and_is_audited(visitor: Visitor, database: Database) -> None:
    put(database, new("d/1", "https://u:pa55@receiver.example/t0ken"))
    page = html.unescape(await visitor.send("/deliveries/d%2F1/reveal", status=200))
    assert '{"text":"hello"}' in page
    assert "t0ken" in page
    assert "pa55" not in page
    (act,) = trail(database)
    assert (act.actor, act.source, act.act) == ("Ada", "console", "delivery.reveal")


async def test_a_selection_is_previewed_and_then_sent_again(visitor: Visitor, database: Database) -> None:
    put(database, *many(3), new("held", "https://held.example/"))
    for id_ in ("d1", "d2", "held"):
        ended(database, id_)
    stand(database, "paused", "https://held.example:443")
    text = await visitor.text("/replay?id=d1&id=d3&id=held")
    assert "2 deliveries, 32 B, to 2 destinations" in text
    assert "paused: they will wait" in text
    assert "Not 1: it is pending" in text
    assert states(database)["d1"] == "dead"
    assert await visitor.send("/replay", id="d1") == "/deliveries/d1?note=replayed"
    assert await visitor.send("/replay", state="dead", limit="5000") == "/deliveries?note=replayed-2"
    assert "2 deliveries go out again." in await visitor.text("/deliveries?note=replayed-2")
    assert set(states(database).values()) == {"pending"}
    assert [(act.actor, act.source) for act in trail(database)] == [("Ada", "console")] * 2


async def test_nothing_is_replayed_by_a_form_without_a_selection(visitor: Visitor, database: Database) -> None:
    put(database, new())
    ended(database, "d1")
    assert "Nothing is selected, and that does not mean all" in await visitor.text("/replay")
    await visitor.send("/replay", status=409)
    assert states(database) == {"d1": "dead"}


async def test_a_pending_delivery_is_given_up(visitor: Visitor, database: Database) -> None:
    put(database, *(new(f"s{number}", stream=Stream("live")) for number in range(2)))
    assert "the one before it in its stream" in await visitor.text("/deliveries/s1")
    assert await visitor.send("/deliveries/s0/cancel") == "/deliveries/s0?note=cancelled"
    assert states(database)["s0"] == "cancelled"


async def test_a_destination_is_paused_resumed_disabled_and_enabled(visitor: Visitor, database: Database) -> None:
    put(database, new())
    for act, words in (
        ("pause", "An operator paused it"),
        ("resume", "Nothing is the matter with it."),
        ("disable", "nothing goes out until somebody enables it"),
        ("enable", "Nothing is the matter with it."),
    ):
        assert words in await visitor.text(await visitor.send(f"/destination/{act}", origin=ORIGIN))
    assert trail(database)[0].act == "destination.enable"
    await visitor.send("/destination/erase", status=404, origin=ORIGIN)
    await visitor.send("/destination/pause", status=400, origin="nonsense")


def troubled_paths(database: Database) -> None:
    """One path in trouble, one that was paused, one with a limit of sizes, and two URLs of one that answered 410."""
    put(database, new())
    ill(database, failures=6, until=time.time() + 25)
    stand(database, "paused", path="/held")
    change(
        database,
        "INSERT INTO outspoken_destinations (origin, path, largest_accepted, smallest_refused) "
        "VALUES (?, '/small', 2048, 4096)",
        ORIGIN,
    )
    for sha256 in ("00", "01"):
        change(database, "INSERT INTO outspoken_gone_urls VALUES (?, ?, '/moved', 1)", sha256, ORIGIN)


@pytest.mark.parametrize("page", ["/destinations", f"/destination?origin={ORIGIN}"])
async def test_a_destination_opens_into_its_paths_and_what_holds_them(
    visitor: Visitor, database: Database, page: str
) -> None:
    troubled_paths(database)
    text = await visitor.text(page)
    id_ = destination_id(ORIGIN, "/held")
    assert f"/held paused {id_} An operator paused it: nothing goes there until" in text
    assert re.search(r"/hook trickling \w{8} .*It failed 6 times in a row: a few attempts .*, the next in \d+ s", text)
    assert re.search(r"/small delivering \w{8} Nothing holds it. It refused a body of 4.0 KiB as too large", text)
    assert re.search(r"/moved delivering 2 gone \w{8} 2 URLs of it answered 410 Gone and are called no more", text)
    assert "Destinations 1 " in await visitor.text(f"/destinations?text={id_[:6]}")


async def test_the_list_counts_what_is_to_look_at_and_finds_an_origin_by_its_paths(
    visitor: Visitor, database: Database
) -> None:
    troubled_paths(database)
    put(database, new("well", "https://well.example/"), new("slow", "https://slow.example/"))
    change(
        database, "INSERT INTO outspoken_destinations (origin, held, rate) VALUES ('https://slow.example:443', 1, 2)"
    )
    text = await visitor.text("/destinations")
    assert text.count("it is called slowly until it has kept up for a while") == 1
    assert f"4 paths to look at, 1 paused, 1 trickling, 2 URLs gone of {ORIGIN}" in text
    assert "of https://well.example:443" not in text
    assert "Destinations 1 " in await visitor.text("/destinations?state=paused")


async def test_a_path_is_paused_resumed_and_enabled_alone(visitor: Visitor, database: Database) -> None:
    troubled_paths(database)
    standing = "SELECT path, state FROM outspoken_destinations WHERE state <> 'active' ORDER BY path"
    page = await visitor.send("/destination/pause", origin=ORIGIN, path="/fine")
    assert "The path is paused." in await visitor.text(page)
    assert rows(database, standing) == [("/fine", "paused"), ("/held", "paused")]
    for act, path in (("resume", "/fine"), ("enable", "/held"), ("enable", "/moved")):
        assert "The path is called again" in await visitor.text(
            await visitor.send(f"/destination/{act}", origin=ORIGIN, path=path)
        )
    assert rows(database, standing) == rows(database, "SELECT sha256 FROM outspoken_gone_urls") == []
    assert rows(database, "SELECT open FROM outspoken_destinations WHERE path = '/hook'") == [(1,)]
    assert trail(database)[0].detail["destination"] == f"{ORIGIN}/moved"
    await visitor.send("/destination/pause", status=400, origin=ORIGIN, path="fine")


async def test_of_a_long_path_only_its_ends_are_shown(visitor: Visitor, database: Database) -> None:
    put(database, new())
    stand(database, "paused", path=(path := "/services/T0123456/B01/s3cr3t-s3cr3t-s3cr3t-wxyz"))
    for page in ("/destinations", f"/destination?origin={ORIGIN}"):
        text = await visitor.text(page)
        assert "/services/T0123456/B…wxyz" in text
        assert "s3cr3t" not in text
    await visitor.send("/destination/resume", origin=ORIGIN, path=path)
    assert f"destination {ORIGIN}/services/T0123456/B…wxyz" in await visitor.text("/audit")


async def test_no_more_paths_are_listed_than_can_be_looked_at(visitor: Visitor, database: Database) -> None:
    put(database, new())
    change(
        database,
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 203) "
        "INSERT INTO outspoken_destinations (origin, path, largest_accepted) SELECT ?, '/p' || i, 1 FROM n",
        ORIGIN,
    )
    assert "and 183 more" in await visitor.text("/destinations")
    assert "3 more are not shown" in await visitor.text(f"/destination?origin={ORIGIN}")


async def test_destinations_are_filtered_and_come_in_pages(
    visitor: Visitor, database: Database, recent: RecentAttempts
) -> None:
    put(database, *(new(f"d{n}", f"https://r{n}.example/") for n in range(103)))
    recent([replace(attempted(claimed(destination="https://r7.example:443")), finished_at=time.time())])
    text = await visitor.text("/destinations")
    assert "Destinations 103" in text
    assert "100.0 %" in text
    assert "r99" not in text
    assert "r99" in await visitor.text("/destinations?from=100")
    assert "Destinations 1 " in await visitor.text("/destinations?text=R55&state=delivering")
    assert "No destination matches." in await visitor.text("/destinations?state=paused")


async def test_a_new_key_is_shown_once_and_not_by_its_url(visitor: Visitor, database: Database) -> None:
    put(database, new())
    page = await visitor.send("/keys/rotate", status=200, destination=ORIGIN, overlap="1h")
    secret = re.findall(r"whsec_[A-Za-z0-9+/=]+", html.unescape(page))[0]
    for path in (f"/destination?origin={ORIGIN}", "/audit"):
        assert secret not in html.unescape(await visitor.see(path))
    assert "its own" in await visitor.text(f"/destination?origin={ORIGIN}")
    assert [act.act for act in trail(database)] == ["key.rotate"]


async def test_the_audit_tells_who_did_what(visitor: Visitor, database: Database) -> None:
    put(database, *many(2))
    await visitor.send("/destination/pause", origin=ORIGIN)
    await visitor.send("/deliveries/d1/cancel")
    text = await visitor.text("/audit")
    assert "Ada console destination.pause" in text
    assert "ids d1" in text
    assert "destination.pause" not in await visitor.text("/audit?act=delivery.cancel")
    assert "relay.port 9464 default" in await visitor.text("/settings")


async def test_a_delivery_is_found_by_its_id_or_its_beginning(visitor: Visitor, database: Database) -> None:
    put(database, new("ab/1"), new("ac"))
    for wanted, leads in (("ab/1", "/deliveries/ab%2F1"), ("ac", "/deliveries/ac"), ("a", "/deliveries?id_prefix=a")):
        sent = visitor.client.get("/deliveries", params={"find": wanted}, allow_redirects=False)
        async with sent as answer:
            assert answer.headers["Location"] == leads


async def test_a_link_by_a_destination_s_id_leads_to_its_page(visitor: Visitor, database: Database) -> None:
    troubled_paths(database)
    id_ = destination_id(ORIGIN, "/held")
    async with visitor.client.get(f"/destination?id={id_}", allow_redirects=False) as answer:
        assert answer.headers["Location"].endswith(f"#{id_}")
    await visitor.see("/destination?id=00000000", status=404)


async def test_what_went_wrong_is_a_page(visitor: Visitor) -> None:
    assert "no delivery" in await visitor.see("/deliveries/none", status=404)
    assert "Not there" in await visitor.see("/nowhere", status=404)
    await visitor.see("/destination?origin=https://none.example", status=404)
    await visitor.see("/audit?older=x", status=400)


async def test_a_database_that_is_gone_is_a_page(visitor: Visitor, path: Path) -> None:
    path.unlink()
    assert "no database there" in html.unescape(await visitor.see("/", status=503))


@pytest.mark.parametrize("note", ["replayed-<b>", "replayed-²", "<script>", "pause-now-at-evil.example"])
async def test_a_link_cannot_put_words_into_the_relay_s_mouth(visitor: Visitor, note: str) -> None:
    page = (await visitor.see("/deliveries?note=" + note)).partition("<main")[2]
    assert note not in html.unescape(page).replace("value", "")


IDS = ["a{b", "a}b", "{}", "{id}", "100%", "%2F", "a%2Fb", "a/b", "/", "a?b", "a#b", "a b", "a+b", "a;b", "~'<&>"]


@pytest.mark.parametrize("id_", IDS)
async def test_a_delivery_opens_whatever_its_id(visitor: Visitor, database: Database, id_: str) -> None:
    put(database, new(id_))
    ended(database, id_, attempts=1)
    (link,) = set(re.findall(r'href="(/deliveries/[^"?]+)"', await visitor.see("/deliveries")))
    page = await visitor.see(html.unescape(link))
    assert id_ in html.unescape(page)
    (act,) = set(re.findall(r'action="(/deliveries/[^"]+/reveal)"', page))
    assert id_ in html.unescape(await visitor.send(html.unescape(act), status=200))


BROKEN = [
    "UPDATE outspoken_attempts SET timing = '[]'",
    'UPDATE outspoken_attempts SET timing = \'{"dns": "soon"}\'',
    "UPDATE outspoken_attempts SET timing = 'no JSON'",
    "UPDATE outspoken_attempts SET request_headers = '{}'",
    "UPDATE outspoken_attempts SET request_headers = 'no JSON'",
    'UPDATE outspoken_attempts SET answer_headers = \'[1, ["a"], ["a", 2]]\'',
    'UPDATE outspoken_attempts SET answer_headers = \'{"server": "x"}\'',
    "UPDATE outspoken_attempts SET answer_headers = 'null'",
    "UPDATE outspoken_deliveries SET headers = '{\"x\": 1}'",
    "UPDATE outspoken_deliveries SET url = 'no url'",
]


@pytest.mark.parametrize("broken", BROKEN)
async def test_one_broken_row_takes_no_page_down(visitor: Visitor, database: Database, broken: str) -> None:
    put(database, new("d1"), new("d2"))
    ended(database, "d1", attempts=3, outcome="http_413", status=413)
    rows(database, broken)
    for path in (*PAGES, "/deliveries/d1", "/deliveries/d2"):
        await visitor.see(path)
