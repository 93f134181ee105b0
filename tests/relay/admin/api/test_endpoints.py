"""The admin API from outside: what it tells, what it does, and what it says when it does not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from relay.admin.api.endpoints import ENDPOINTS
from relay.admin.auth import Authenticator
from relay.app.admin_server import application
from relay.outbox.store import Database
from tests.relay.admin.past import change, ended, trail, tried
from tests.relay.admin.served import BEARER, TOKEN, context
from tests.relay.databases import on_sqlite
from tests.relay.deliveries import ill, many, new, put, states

ORIGIN = "https://receiver.example:443"
SECRET_URL = "https://user:pa55word@receiver.example/hook/t0ken?sig=s3cret"


class Api:
    """The admin API, for somebody with the token."""

    def __init__(self, client: TestClient[Any, Any]) -> None:
        self.client = client

    async def get(self, path: str, **query: str) -> Any:
        async with self.client.get(f"/api/v1{path}", params=query, headers=BEARER) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def post(self, path: str, headers: dict[str, str] | None = None, **body: object) -> Any:
        async with self.client.post(f"/api/v1{path}", json=body, headers=BEARER | (headers or {})) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def error(self, method: str, path: str, status: int, **sent: Any) -> Any:
        async with self.client.request(method, f"/api/v1{path}", headers=BEARER, **sent) as answer:
            assert answer.status == status, await answer.text()
            return (await answer.json())["error"]


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Api]:
    async with TestClient(TestServer(application(context(database), Authenticator(TOKEN)))) as client:
        yield Api(client)


@on_sqlite
@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"bearer  {TOKEN}x"])
async def test_without_the_token_nothing_is_told(api: Api, header: str) -> None:
    for path in ("/status", "/openapi.json", "/nowhere"):
        async with api.client.get(f"/api/v1{path}", headers={"Authorization": header}) as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert "Authorization: Bearer" in (await answer.json())["error"]["message"]


@on_sqlite
async def test_a_session_of_the_console_does_not_open_the_api(api: Api) -> None:
    cookie = {"relay_session": Authenticator(TOKEN).session("Ada", time.time())}
    async with api.client.get("/api/v1/status", cookies=cookie) as answer:
        assert answer.status == 401


async def test_it_tells_how_things_stand(api: Api, database: Database) -> None:
    put(database, *many(2))
    told = await api.get("/status")
    assert (told["ready"], told["delivered_today"]) == (2, 0)
    assert told["taken_at"].endswith("Z")
    assert told["condition"]["severity"] == "broken"
    assert "No relay has worked on this database yet" in told["condition"]["headline"]


async def test_deliveries_come_in_pages_and_filtered(api: Api, database: Database) -> None:
    put(database, *many(5), new("else", "https://other.example/"))
    ended(database, "d3", outcome="dns", status=None)
    page = await api.get("/deliveries", limit="2", destination="https://receiver.example/any?thing")
    assert [one["id"] for one in page["found"]] == ["d5", "d4"]
    following = await api.get("/deliveries", limit="2", destination=ORIGIN, older=str(page["older"]))
    assert [one["id"] for one in following["found"]] == ["d3", "d2"]
    assert [one["id"] for one in (await api.get("/deliveries", outcome="dns", state="dead"))["found"]] == ["d3"]
    assert (await api.get("/deliveries", since="2000-01-01", until="1h"))["found"] == []


async def test_the_key_of_an_owner_shows_what_is_its_own_and_nothing_else(api: Api, database: Database) -> None:
    put(database, new("mine", SECRET_URL, owner="shop/3", priority=7), new("theirs", owner="shop"), new("nobodys"))
    ended(database, "mine", outcome="http_error", status=500)
    key = {"Authorization": f"Bearer {Authenticator(TOKEN).owner_key('shop/3', time.time() + 60)}"}

    async def asked(path: str, method: str = "GET", **query: str) -> tuple[int, Any]:
        async with api.client.request(method, f"/api/v1{path}", params=query, headers=key) as answer:
            return answer.status, await answer.json()

    _, page = await asked("/deliveries")
    assert [one["id"] for one in page["found"]] == ["mine"]
    _, shown = await asked("/deliveries/mine")
    assert (shown["delivery"]["state"], shown["delivery"]["owner"], shown["delivery"]["priority"]) == (
        "dead",
        "shop/3",
        7,
    )
    _, tries = await asked("/deliveries/mine/attempts")
    assert [one["status"] for one in tries["attempts"]] == [500]
    for another in ("theirs", "nobodys", "unknown"):
        for path in (f"/deliveries/{another}", f"/deliveries/{another}/attempts"):
            status, why = await asked(path)
            assert (status, why["error"]["message"]) == (404, f"no delivery {another!r}")
    for path, query in (("/deliveries", {"owner": "shop"}), ("/deliveries/mine", {"reveal": "true"})):
        assert (await asked(path, **query))[0] == 403
    others = [(one.method, one.path.replace("{id}", "mine")) for one in ENDPOINTS if not one.for_owners]
    for method, path in [*others, ("GET", "/attempts/stream"), ("GET", "/openapi.json"), ("GET", "/nowhere")]:
        assert (await asked(path, method))[0] == 403, path
    assert trail(database) == ()
    async with api.client.get("/deliveries", headers=key, allow_redirects=False) as console:
        assert console.status == 303


@on_sqlite
async def test_the_key_of_an_owner_ends_with_its_time_and_with_the_token(api: Api) -> None:
    other = Authenticator(TOKEN + "x").owner_key("shop", time.time() + 60)
    good = Authenticator(TOKEN).owner_key("shop", time.time() + 60)
    session = Authenticator(TOKEN).session("shop", time.time())
    for key in (Authenticator(TOKEN).owner_key("shop", time.time() - 1), other, good + "0", good[1:], session):
        async with api.client.get("/api/v1/deliveries", headers={"Authorization": f"Bearer {key}"}) as answer:
            assert answer.status == 401


async def test_whose_they_are_narrows_a_list_and_an_act(api: Api, database: Database) -> None:
    put(database, new("mine", owner="shop"), new("theirs", owner="other"))
    assert [one["id"] for one in (await api.get("/deliveries", owner="shop"))["found"]] == ["mine"]
    await api.post("/cancel", owner="shop")
    assert states(database) == {"mine": "cancelled", "theirs": "pending"}


async def test_a_url_is_masked_until_it_is_revealed_and_that_is_audited(api: Api, database: Database) -> None:
    put(database, new("d1", SECRET_URL, headers={"x-key": "s3cret"}))
    shown = await api.get("/deliveries/d1")
    for secret in ("pa55word", "t0ken", "s3cret"):
        assert secret not in json.dumps(shown)
    revealed = await api.get("/deliveries/d1", reveal="true")
    assert revealed["delivery"]["url"] == "https://***@receiver.example/hook/t0ken?sig=s3cret"
    assert "t0ken" in revealed["curl"]
    async with api.client.get("/api/v1/deliveries/d1/body", headers=BEARER) as answer:
        assert await answer.read() == b'{"text":"hello"}'
        assert answer.content_type == "application/octet-stream"
    assert [(act.act, act.source, act.detail["what"]) for act in trail(database)] == [
        ("delivery.reveal", "api", "body"),
        ("delivery.reveal", "api", "headers"),
    ]


async def test_attempts_are_told_with_all_that_is_kept(api: Api, database: Database) -> None:
    put(database, new())
    ended(database, "d1", attempts=2, detail="the receiver answered 500", at=time.time())
    first, last = (await api.get("/deliveries/d1/attempts"))["attempts"]
    assert (first["number"], last["outcome"], last["detail"]) == (1, "http_5xx", "the receiver answered 500")
    (recent,) = (await api.get("/attempts", limit="1"))["attempts"]
    assert (recent["id"], recent["state"]) == ("d1", "dead")
    (tally,) = (
        await api.get(
            "/stats",
            by="outcome",
            since="2000-01-01",
        )
    )["tallies"][:1]
    assert tally["attempts"] == 1


async def test_a_replay_is_previewed_done_and_audited_under_the_caller_s_name(api: Api, database: Database) -> None:
    put(database, *many(3))
    for id_ in ("d1", "d2"):
        ended(database, id_)
    asked: dict[str, Any] = {"state": "dead", "destination": ORIGIN}
    preview = await api.post("/replay", dry_run=True, **asked)
    assert (preview["count"], preview["done"], preview["destinations"]) == (2, 0, {ORIGIN: 2})
    assert states(database)["d1"] == "dead"
    done = await api.post("/replay", headers={"X-Relay-Actor": "ada"}, **asked)
    assert (done["count"], done["done"]) == (2, 2)
    assert states(database) == {"d1": "pending", "d2": "pending", "d3": "pending"}
    (act,) = trail(database)
    assert (act.actor, act.source, act.act, act.detail["run"]) == ("ada", "api", "delivery.replay", done["run"])


async def test_a_bulk_act_says_what_it_is_about(api: Api, database: Database) -> None:
    put(database, *many(2))
    assert (await api.error("POST", "/cancel", 409, json={}))["code"] == "refused"
    both = await api.error("POST", "/cancel", 400, json={"ids": ["d1"], "all": True})
    assert "not both" in both["message"]
    assert (await api.error("POST", "/replay", 404, json={"all": True}))["code"] == "nothing_matched"
    assert (await api.error("POST", "/replay", 404, json={"ids": ["x"]}))["code"] == "not_found"
    assert (await api.post("/cancel", all=True))["done"] == 2


async def test_a_destination_is_paused_resumed_disabled_and_enabled(api: Api, database: Database) -> None:
    put(database, new())
    for act, state in (
        ("pause", "paused"),
        ("resume", "delivering"),
        ("disable", "disabled"),
        ("enable", "delivering"),
    ):
        assert await api.post(f"/destinations/{act}", destination=ORIGIN) == {"destination": ORIGIN, "changed": True}
        (place,) = (await api.get("/destinations"))["destinations"]
        assert place["state"] == state
    assert (await api.post("/destinations/resume", destination=ORIGIN))["changed"] is False
    assert (await api.error("POST", "/destinations/resume", 404, json={"destination": "https://no.example"}))["code"]


async def test_failing_destinations_come_with_a_sentence(api: Api, database: Database) -> None:
    put(database, new())
    ill(database, failures=7)
    change(database, "UPDATE outspoken_deliveries SET attempts = 1")
    tried(database, "d1", 1, time.time(), "tls")
    (trouble,) = (await api.get("/destinations"))["troubles"]
    assert "TLS handshake" in trouble["sentence"]


async def test_keys_are_made_rotated_and_retired_and_shown_once(api: Api) -> None:
    made = await api.post("/keys")
    rotated = await api.post("/keys/rotate", overlap="1h")
    assert made["handover"].startswith("whsec_")
    assert rotated["retiring"] == [made["key"]["id"]]
    listed = await api.get("/keys")
    assert made["handover"] not in json.dumps(listed)
    assert [key["id"] for key in listed["keys"]] == [1, 2]
    assert (await api.error("POST", "/keys/2/retire", 409, json={}))["code"] == "refused"
    assert (await api.post("/keys/2/retire", force=True))["retires_at"] is not None
    pair = await api.post("/keys", destination=ORIGIN, ed25519=True)
    assert (pair["key"]["destination"], pair["handover"][:5]) == (ORIGIN, "whpk_")


@on_sqlite
async def test_a_key_that_is_not_one_is_refused_without_being_repeated(api: Api) -> None:
    error = await api.error("POST", "/keys", 409, json={"key": "whsec_n0tAkey!"})
    assert "n0tAkey" not in json.dumps(error)


async def test_the_rest_of_the_command_line_is_there_too(api: Api) -> None:
    verdict = await api.post("/verify-url", url="https://10.0.0.1/", offline=True)
    assert (verdict["verdict"], verdict["rule"]) == ("deny", "forbidden_address")
    assert {one["check"] for one in (await api.get("/doctor"))["findings"]} >= {"schema", "disk", "signing"}
    assert (await api.get("/settings"))["settings"] == [{"setting": "relay.port", "value": 9464, "origin": "default"}]
    assert (await api.post("/retention", dry_run=True))["forgotten"]["deliveries"] == 0
    assert (await api.post("/retention"))["forgotten"]["deliveries"] == 0
    assert [act["act"] for act in (await api.get("/audit"))["acts"]] == ["retention"]


@on_sqlite
async def test_a_file_is_copied_to_a_folder_beside_it(api: Api, path: Path) -> None:
    copied = await api.post("/backup", name="monday.db")
    assert Path(copied["path"]) == path.parent / "backups" / "monday.db"
    assert [act["act"] for act in (await api.get("/audit"))["acts"]] == ["backup"]


async def test_a_probe_is_judged_sent_and_told(api: Api) -> None:
    refused = await api.error("POST", "/probe", 409, json={"url": "https://10.0.0.1/"})
    assert refused["message"].startswith("url: ")
    probed = await api.post("/probe", url="https://127.0.0.1/nobody-listens", bytes=1000)
    assert (probed["bytes"], probed["outcome"], probed["verdict"]) == (1000, "connect", "retried")


@pytest.mark.parametrize("name", ["../up.db", "/etc/passwd", "", ".hidden", "a/b"])
async def test_a_backup_goes_to_its_own_folder_and_nowhere_else(api: Api, name: str) -> None:
    error = await api.error("POST", "/backup", 400, json={"name": name})
    assert error["fields"][0]["field"] == "name"


@on_sqlite
@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("limit=0", "limit", "greater than or equal to 1"),
        ("limit=x", "limit", "valid integer"),
        ("since=yesterday", "since", "expected how long ago"),
        ("destination=ftp://x", "destination", "scheme://host:port"),
        ("state=lost", "state", "'pending', 'leased', 'delivered', 'dead' or 'cancelled'"),
        ("limits=3", "limits", "no such field (misspelt?)"),
    ],
)
async def test_what_is_wrong_with_a_query_is_said_by_field(api: Api, query: str, field: str, words: str) -> None:
    error = await api.error("GET", f"/deliveries?{query}", 400)
    (flaw,) = error["fields"]
    assert flaw["field"] == field
    assert words in flaw["message"]


@on_sqlite
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "no JSON object"),
        (b'{"rate": NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"all": "yes"}', "all: should be a valid boolean"),
        (b'{"ids": "d1"}', "ids: should be a valid array"),
        (b'{"dry-run": true}', "dry-run: no such field"),
    ],
)
async def test_what_is_wrong_with_a_body_is_said(api: Api, body: bytes, words: str) -> None:
    assert words in (await api.error("POST", "/replay", 400, data=body))["message"]


@on_sqlite
async def test_other_ways_to_ask_are_errors_of_the_same_form(api: Api) -> None:
    assert "given twice" in (await api.error("GET", "/deliveries?limit=1&limit=2", 400))["message"]
    assert (await api.error("GET", "/deliveries/none", 404))["code"] == "not_found"
    assert (await api.error("GET", "/nowhere", 404))["code"] == "not_found"
    assert (await api.error("DELETE", "/keys", 405))["code"] == "method_not_allowed"
    assert (await api.error("POST", "/replay", 413, data=BytesIO(b" " * (1 << 21))))["code"] == "too_large"


@on_sqlite
async def test_an_outbox_that_is_not_there_is_a_503(path: Path, api: Api) -> None:
    path.unlink()
    error = await api.error("GET", "/status", 503)
    assert (error["code"], "no database there" in error["message"]) == ("store_unavailable", True)


async def test_attempts_are_streamed_as_they_happen_until_the_caller_leaves(api: Api, database: Database) -> None:
    put(database, *many(2))
    change(database, "UPDATE outspoken_deliveries SET attempts = 1 WHERE id = 'd1'")
    tried(database, "d1", 1, 1000.0, "dns")
    async with api.client.get("/api/v1/attempts/stream", headers=BEARER) as answer:
        assert answer.content_type == "application/x-ndjson"
        first = json.loads(await answer.content.readline())
        tried(database, "d2", 1, 1001.0, "tls")
        second = json.loads(await asyncio.wait_for(answer.content.readline(), 10))
    assert [(one["id"], one["outcome"]) for one in (first, second)] == [("d1", "dns"), ("d2", "tls")]


@on_sqlite
async def test_only_so_many_streams_are_open_at_once(api: Api) -> None:
    streams: list[aiohttp.ClientResponse] = []
    for _ in range(8):
        streams.append(await api.client.get("/api/v1/attempts/stream", headers=BEARER))
    assert (await api.error("GET", "/attempts/stream", 409))["code"] == "refused"
    for stream in streams:
        stream.close()
