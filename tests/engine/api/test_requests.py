"""Results can be fetched again, by the key that asked for them, and what a receiver missed can be listed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from engine import keys as api_keys
from engine.api import requests
from engine.api.errors import identify
from engine.jobs.archive import Archive
from engine.jobs.folder import AudioFolder
from engine.jobs.store import JobResult, JobStore
from engine.keys import ApiKeys
from engine.request import Callback, Failed, FailureCode, Media, Request
from engine.result_delivery import delivery_of
from relay.outbox.results import Results
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Database

from .stage import HELLO, Clock, key_id_of, served

MEDIA = Media("ab" * 32, 1000, 1_700_000_000.0)


@dataclass
class Place:
    """A server with nothing in its database but two API keys."""

    database: Database
    store: JobStore
    mine: str
    other: str
    clock: Clock
    url: str = ""

    async def get(self, path: str, **query: str) -> tuple[int, dict[str, Any]]:
        return await self.get_with(self.mine, path, **query)

    async def get_with(self, key: str, path: str, **query: str) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Token {key}"}
        async with (
            aiohttp.ClientSession(self.url, headers=headers) as client,
            client.get(path, params=query) as response,
        ):
            return response.status, await response.json()

    async def listed(self, **query: str) -> list[str]:
        status, answer = await self.get("/v1/requests", **query)
        assert status == 200, answer
        return [one["id"] for one in answer["requests"]]

    async def accept(self, request: Request) -> None:
        self.clock.now += 1
        await self.store.accept(replace(request, key_id=key_id_of(self.mine)), MEDIA)

    async def finish(self, request: Request, said: Any = HELLO) -> None:
        await self.accept(request)
        (job,) = await self.store.lease(1)
        await self.store.finish(
            job, JobResult(MEDIA, said), delivery_of(request, MEDIA, said) if request.callback else None
        )

    def write(self, sql: str, *values: object) -> None:
        with self.database.writing() as connection:
            connection.execute(sql, values)


def asked(job_id: str) -> Request:
    callback = Callback("http://user:pass@127.0.0.1:8080/hook?token=canary")
    return Request(job_id, "deepgram", "nova-3", "default", callback=callback)


@pytest.fixture
async def place(tmp_path: Path, database_path: Path) -> AsyncIterator[Place]:
    clock = Clock(1_700_000_000.0)
    database = SqliteDatabase(database_path, clock)
    mine, other = (api_keys.add(database, name) for name in ("mine", "other"))
    store, keys = JobStore(database, 60.0), ApiKeys(database, open_without_keys=False)
    archive, results = Archive(database, AudioFolder(tmp_path)), Results(database)
    application = web.Application(middlewares=[identify])
    application.add_routes(requests.routes(keys, archive, results, clock))
    here = Place(database, store, mine, other, clock)
    async with served(application) as (_, here.url):
        yield here
    for each in (archive, results, keys, store):
        await each.close()


async def test_a_result_is_what_the_callback_says(place: Place) -> None:
    await place.finish(asked("job-1"))
    status, told = await place.get("/v1/requests/job-1")
    assert status == 200
    with place.database.reading() as connection:
        ((body,),) = connection.execute("SELECT body FROM outspoken_bodies").fetchall()
    assert orjson.dumps(told["result"]) == body
    assert (told["state"], told["progress"], told["error"], told["dialect"]) == ("done", 1.0, None, "deepgram")
    assert (told["duration"], told["model"]) == (1.0, "nova-3")
    assert told["created_at"] == "2023-11-14T22:13:21.000Z"
    assert told["delivery"]["state"] == "pending"
    assert told["delivery"]["attempts"] == []


async def test_a_request_is_told_before_it_ended(place: Place) -> None:
    await place.accept(asked("job-1"))
    _, told = await place.get("/v1/requests/job-1")
    assert (told["state"], told["progress"], told["started_at"]) == ("queued", 0.0, None)
    assert (told["result"], told["error"], told["delivery"]) == (None, None, None)
    await place.store.lease(1)
    _, told = await place.get("/v1/requests/job-1")
    assert (told["state"], told["progress"], told["started_at"]) == ("processing", None, "2023-11-14T22:13:21.000Z")


async def test_a_failure_is_told_as_the_callback_tells_it(place: Place) -> None:
    await place.finish(asked("job-1"), Failed(FailureCode.AUDIO, "no audio in it"))
    _, told = await place.get("/v1/requests/job-1")
    assert (told["state"], told["result"]) == ("failed", None)
    assert "no audio in it" in told["error"]["details"]


async def test_every_attempt_is_told_and_no_secret_with_it(place: Place) -> None:
    await place.finish(asked("job-1"))
    place.write("UPDATE outspoken_deliveries SET attempts = 1, due_at = 1700000100.5")
    place.write(
        "INSERT INTO outspoken_attempts (seq, number, started_at, lag, duration, outcome, status, detail)"
        " VALUES (1, 1, 1700000000.0, 0, 0.25, 'http_5xx', 503, 'busy')"
    )
    _, told = await place.get("/v1/requests/job-1")
    assert told["delivery"] == {
        "state": "pending",
        "attempt_count": 1,
        "next_attempt_at": "2023-11-14T22:15:00.500Z",
        "last_status": 503,
        "last_error": "http_5xx",
        "attempts": [
            {
                "number": 1,
                "started_at": "2023-11-14T22:13:20.000Z",
                "duration": 0.25,
                "outcome": "http_5xx",
                "status": 503,
                "detail": "busy",
            }
        ],
    }
    assert "canary" not in str(told)
    assert "pass@" not in str(told)


async def test_nobody_learns_of_anothers_request(place: Place) -> None:
    await place.finish(asked("job-1"))
    mine = await place.get_with(place.other, "/v1/requests/job-1")
    nobodys = await place.get_with(place.other, "/v1/requests/job-2")
    assert (mine[0], mine[1]["err_code"], mine[1]["err_msg"]) == (
        nobodys[0],
        nobodys[1]["err_code"],
        nobodys[1]["err_msg"],
    )
    assert mine[0] == 404
    assert (await place.get_with(place.other, "/v1/requests"))[1] == {"requests": [], "next": None}


async def test_without_a_key_nothing_is_told(place: Place) -> None:
    await place.finish(asked("job-1"))
    for path in ("/v1/requests", "/v1/requests/job-1"):
        assert (await place.get_with("wrong", path))[0] == 401


async def test_a_receiver_that_was_down_lists_what_it_missed(place: Place) -> None:
    for name in ("delivered", "dead", "waiting"):
        await place.finish(asked(name))
    await place.accept(asked("unfinished"))
    place.write(
        "UPDATE outspoken_deliveries SET state = 'delivered', attempts = 1, finished_at = 1.0 WHERE id = 'delivered'"
    )
    place.write(
        "UPDATE outspoken_deliveries SET state = 'dead', reason = 'exhausted', finished_at = 1.0 WHERE id = 'dead'"
    )
    assert await place.listed(undelivered="true") == ["waiting", "dead"]
    assert await place.listed(undelivered="false") == ["unfinished", "waiting", "dead", "delivered"]
    assert await place.listed(undelivered="true", since="1700000003") == ["waiting"]
    assert await place.listed(undelivered="true", since="2023-11-14T22:13:23Z") == ["waiting"]
    assert await place.listed(since="2023-11-15T00:13:24+02:00", state="queued,done") == ["unfinished"]
    assert await place.listed(before="1700000002") == ["delivered"]
    _, told = await place.get("/v1/requests", undelivered="true", limit="1", state="done")
    assert told["requests"][0]["delivery"]["state"] == "pending"
    assert "result" not in told["requests"][0]


async def test_a_result_that_was_forgotten_is_told_from_a_body_that_was_never_received(place: Place) -> None:
    await place.finish(asked("job-1"))
    _, before = await place.get("/v1/requests/job-1")
    place.write("DELETE FROM outspoken_results")
    assert (await place.get("/v1/requests/job-1"))[1] == before
    place.write("DELETE FROM outspoken_bodies")
    assert (await place.get("/v1/requests/job-1"))[1] == before | {"result": None}


async def test_pages_follow_one_another_and_keep_the_question(place: Place) -> None:
    for number in range(5):
        await place.accept(asked(f"job-{number}"))
    seen, link = [], "/v1/requests?limit=2&state=queued"
    while link:
        _, told = await place.get(link)
        seen += [one["id"] for one in told["requests"]]
        await place.accept(asked(f"late-{len(seen)}"))  # what comes meanwhile moves nothing
        link = told["next"]
    assert seen == ["job-4", "job-3", "job-2", "job-1", "job-0"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("since", "yesterday"),
        ("since", "-5"),
        ("since", "1e300"),
        ("before", "2023-99-01T00:00:00Z"),
        ("limit", "0"),
        ("limit", "101"),
        ("limit", "many"),
        ("limit", "9" * 5000),
        ("state", "sleeping"),
        ("undelivered", "maybe"),
        ("cursor", "!!!"),
        ("cursor", "WzFd"),
        ("cursor", "W251bGwsbnVsbF0"),
        ("cursor", "WzFlOTk5LDFd"),
        ("cursor", "WzEsMWU0MF0"),
        ("colour", "red"),
    ],
)
async def test_a_mistake_is_told_by_its_name(place: Place, name: str, value: str) -> None:
    status, told = await place.get("/v1/requests", **{name: value})
    assert (status, told["err_code"]) == (400, "INVALID_QUERY_PARAMETER")
    assert told["err_msg"].startswith(f"{name}: ")


async def test_a_parameter_that_is_given_twice_is_a_mistake(place: Place) -> None:
    status, told = await place.get("/v1/requests?state=done&state=failed")
    assert (status, told["err_msg"][:6]) == (400, "state:")
