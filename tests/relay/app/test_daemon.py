"""`relay run` as a real process, with a real receiver: delivered, drained, killed, and on a full disk."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from aiohttp import ClientConnectionError, ClientSession, web
from prometheus_client.parser import text_string_to_metric_families
from standardwebhooks import Webhook

from relay.app.daemon import prepare
from relay.outbox import OUTBOX, Notifier
from relay.outbox.model import Method, Stream
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Database
from tests.acceptance.stage import Line, Process, Stage
from tests.ports import free_port
from tests.relay.deliveries import new, put, rows, states
from tests.relay.logged import Lines
from tests.services.postgres import Server

pytestmark = pytest.mark.acceptance


@dataclass
class Request:
    """What came, and the answer that it waits for."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    answer: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Receiver:
    """Answers 200 at once, or waits to be told while it is `patient`."""

    def __init__(self) -> None:
        self.port = free_port()
        self.patient = False
        self.came: list[Request] = []
        self._requests: asyncio.Queue[Request] = asyncio.Queue()

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        came = Request(request.method, request.raw_path, headers, body)
        if not self.patient:
            came.answer.set_result(200)
        self.came.append(came)
        self._requests.put_nowait(came)
        return web.Response(status=await came.answer)

    def hang_up(self) -> None:
        """Keep nobody waiting any longer."""
        for request in self.came:
            request.answer.cancel()

    async def request(self) -> Request:
        async with asyncio.timeout(20):
            return await self._requests.get()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    served = Receiver()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", served.answer)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", served.port).start()
    yield served
    served.hang_up()
    await runner.cleanup()


@pytest.fixture
def stage(folder: Path, receiver: Receiver) -> Stage:
    # A lease of two seconds, so that the heir of a killed relay need not be waited for long.
    return Stage(folder, receiver.port, relay__lease_seconds=2)


@pytest.fixture
async def relay(stage: Stage) -> AsyncIterator[Process]:
    process = await stage.relay()
    yield process
    await process.kill()


def outbox_of(stage: Stage) -> Database:
    return SqliteDatabase(stage.database)


def submit(stage: Stage, *ids: str, method: Method = Method.POST, body: bytes = b'{"text":"hello"}') -> None:
    put(
        outbox_of(stage),
        *(new(id_, f"{stage.callback_url}?id={id_}", method=method, body=body) for id_ in ids),
    )
    notifier = Notifier(stage.database)
    notifier.notify()
    notifier.close()


async def metric(stage: Stage, wanted: str) -> float:
    async with ClientSession() as session, session.get(stage.metrics_url) as response:
        families = text_string_to_metric_families(await response.text())
    return sum(sample.value for family in families for sample in family.samples if sample.name == wanted)


async def ready(stage: Stage) -> tuple[int, dict[str, str]]:
    async with ClientSession() as session, session.get(stage.metrics_url.replace("/metrics", "/readyz")) as response:
        return response.status, (await response.json())["checks"]


async def test_a_file_that_others_may_read_is_told_of_at_the_start(path: Path, lines: Lines) -> None:
    path.chmod(0o644)
    await prepare(SqliteDatabase(path))
    (told,) = (line for line in lines() if line["event"] == "store.exposed")
    assert (told["level"], told["files"][0]) == ("warning", str(path))
    assert told["remedy"].startswith(f"chmod o= {path}")


def is_about(id_: str, line: Line) -> bool:
    return line.get("delivery.id") == id_


def fill_disk(relay: Process) -> None:
    """No file of the relay can grow any more."""
    _, hard = resource.prlimit(relay.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, (0, hard))


def free_disk(relay: Process) -> None:
    """They can again."""
    _, hard = resource.prlimit(relay.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, (hard, hard))


async def test_a_post_and_a_put_arrive_and_are_logged_and_counted(
    stage: Stage, relay: Process, receiver: Receiver
) -> None:
    assert await ready(stage) == (200, {"store": "ok", "claims": "ok", "drain": "ok"})
    body = bytes(range(256)) * 100
    submit(stage, "posted", body=body)
    post = await receiver.request()
    submit(stage, "put", method=Method.PUT, body=body)
    put_ = await receiver.request()
    for request, method, id_ in ((post, "POST", "posted"), (put_, "PUT", "put")):
        assert (request.method, request.path, request.body) == (method, f"/callback?id={id_}", body)
        assert (request.headers["webhook-id"], request.headers["webhook-attempt"]) == (id_, "1")
        assert request.headers["content-type"] == "application/json"
        assert request.headers["user-agent"].startswith("Outspoken/")
        line = await relay.said(partial(is_about, id_))
        assert (line["event"], line["outcome"], line["verdict"]) == (
            "delivery.attempt.finished",
            "success",
            "delivered",
        )
        assert line["destination"] == f"http://127.0.0.1:{stage.callback_port}"
    assert states(outbox_of(stage)) == {"posted": "delivered", "put": "delivered"}
    assert await metric(stage, "relay_delivery_attempts_total") == 2
    assert not any("?id=" in word for word in relay.words)


async def test_deliveries_go_by_way_of_the_forward_proxy_that_is_named(folder: Path, receiver: Receiver) -> None:
    proxy = f"http://user:secret@127.0.0.1:{receiver.port}"
    stage = Stage(folder, receiver.port, relay__http__proxy=proxy)
    relay = await stage.relay()
    url = f"http://hook.invalid:{receiver.port}/callback"
    put(outbox_of(stage), new("proxied", url))
    request = await receiver.request()
    line = await relay.said(partial(is_about, "proxied"))
    await relay.kill()
    assert request.path == url
    assert request.headers["proxy-authorization"] == "Basic dXNlcjpzZWNyZXQ="
    assert line["outcome"] == "success"
    told = "".join(relay.words) + repr(rows(outbox_of(stage), "SELECT * FROM outspoken_attempts"))
    assert "secret" not in told
    assert "dXNlcjpzZWNyZXQ=" not in told


async def test_sigterm_lets_the_attempt_under_way_finish_and_claims_no_more(
    stage: Stage, relay: Process, receiver: Receiver
) -> None:
    receiver.patient = True
    submit(stage, "under-way")
    request = await receiver.request()
    leaving = asyncio.create_task(relay.stop())
    await relay.event("relay.draining")
    assert await ready(stage) == (503, {"store": "ok", "claims": "ok", "drain": "draining"})
    submit(stage, "too-late")
    request.answer.set_result(200)
    assert await leaving == 0
    assert states(outbox_of(stage)) == {"under-way": "delivered", "too-late": "pending"}
    assert len(receiver.came) == 1
    assert relay.lines[-1]["event"] == "relay.stopped"


async def test_sigterm_gives_back_unsent_what_was_claimed_ahead(folder: Path, receiver: Receiver) -> None:
    stage = Stage(folder, receiver.port, relay__concurrency=2, relay__drain_seconds=0.2)
    relay = await stage.relay()
    submit(stage, "first")  # whoever has yet to answer gets a quarter of the slots
    await receiver.request()
    await relay.event("delivery.attempt.finished")
    receiver.patient = True
    submit(stage, *(f"d{number}" for number in range(6)))
    for _ in range(2):
        await receiver.request()
    assert await relay.stop() == 0
    assert Counter(states(outbox_of(stage)).values()) == {"pending": 6, "delivered": 1}
    assert rows(
        outbox_of(stage), "SELECT lapses, count(*) FROM outspoken_deliveries WHERE id <> 'first' GROUP BY lapses"
    ) == [
        (0, 4),
        (1, 2),
    ]


async def test_a_new_key_signs_the_next_delivery(stage: Stage, relay: Process, receiver: Receiver) -> None:
    old, new_ = "whsec_" + "a" * 32, "whsec_" + "b" * 32
    insert = "INSERT INTO outspoken_signing_keys (key, created_at) VALUES (?, 1.0)"
    submit(stage, "unsigned")
    assert "webhook-signature" not in (await receiver.request()).headers
    rows(outbox_of(stage), insert, old)
    submit(stage, "signed")
    signed = await receiver.request()
    assert Webhook(old).verify(signed.body, signed.headers) == {"text": "hello"}
    rows(outbox_of(stage), insert, new_)
    submit(stage, "rotated")
    rotated = await receiver.request()
    for key in (old, new_):
        Webhook(key).verify(rotated.body, rotated.headers)


async def test_a_stream_arrives_in_order(stage: Stage, relay: Process, receiver: Receiver) -> None:
    messages = (new(f"s{number}", stage.callback_url, stream=Stream("session")) for number in range(20))
    put(outbox_of(stage), *messages)
    came = [(await receiver.request()).headers for _ in range(20)]
    assert [headers["webhook-id"] for headers in came] == [f"s{number}" for number in range(20)]
    assert [headers["webhook-sequence"] for headers in came] == [str(number) for number in range(1, 21)]


async def test_a_second_signal_leaves_at_once(stage: Stage, relay: Process, receiver: Receiver) -> None:
    receiver.patient = True
    submit(stage, "under-way")
    await receiver.request()
    leaving = asyncio.create_task(relay.stop())
    await relay.event("relay.draining")
    assert await relay.stop() == await leaving == 128 + signal.SIGTERM
    assert states(outbox_of(stage)) == {"under-way": "leased"}


async def test_what_a_killed_relay_was_sending_another_sends_again_under_the_same_id(
    stage: Stage, relay: Process, receiver: Receiver
) -> None:
    receiver.patient = True
    submit(stage, "survivor", body=b"the same bytes")
    first = await receiver.request()
    await relay.kill()
    assert states(outbox_of(stage)) == {"survivor": "leased"}
    receiver.patient = False
    heir = await stage.relay()
    second = await receiver.request()
    await heir.said(partial(is_about, "survivor"))
    assert await heir.stop() == 0
    assert [first.headers["webhook-id"], second.headers["webhook-id"]] == ["survivor", "survivor"]
    assert [first.headers["webhook-attempt"], second.headers["webhook-attempt"]] == ["1", "2"]
    assert first.body == second.body == b"the same bytes"
    assert rows(outbox_of(stage), "SELECT state, attempts, lapses FROM outspoken_deliveries") == [("delivered", 1, 1)]


async def test_on_a_full_disk_the_relay_keeps_the_lease_and_writes_when_there_is_room(
    stage: Stage, relay: Process, receiver: Receiver
) -> None:
    receiver.patient = True
    submit(stage, "d1")
    request = await receiver.request()
    fill_disk(relay)
    request.answer.set_result(200)
    complaint = await relay.said(lambda line: line.get("operation") == "settle")
    assert (complaint["event"], complaint["kind"]) == ("store.error", "io")
    assert (await ready(stage))[1]["store"] == "the outbox cannot be written"
    assert states(outbox_of(stage)) == {"d1": "leased"}
    receiver.patient = False
    free_disk(relay)
    await relay.event("delivery.attempt.finished")
    assert states(outbox_of(stage)) == {"d1": "delivered"}
    assert len(receiver.came) <= 2
    assert await relay.stop() == 0


def clock_of(folder: Path) -> tuple[Path, dict[str, str]]:
    """What makes a process take the time for another: by so many seconds as a file says. Its monotonic clock stays."""
    offset = folder / "offset"
    offset.write_text("+0")
    told = subprocess.run(["faketime", "-f", "+0", "env"], capture_output=True, text=True, check=True).stdout
    library = next(line for line in told.splitlines() if line.startswith("LD_PRELOAD="))
    env = {"FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return offset, env | {"LD_PRELOAD": library.partition("=")[2], "DONT_FAKE_MONOTONIC": "1"}


@pytest.mark.needs("faketime")
async def test_a_relay_whose_clock_is_set_forward_sends_nothing_twice_that_it_has_in_flight(
    folder: Path, receiver: Receiver
) -> None:
    stage = Stage(folder, receiver.port)
    offset, env = clock_of(folder)
    relay = await Process.start("relay", "run", env=stage.env | env)
    await relay.event("relay.ready")
    receiver.patient = True
    submit(stage, "under-way")
    under_way = await receiver.request()
    receiver.patient = False
    offset.write_text("+120")
    put(outbox_of(stage), *(new(f"later-{number}", stage.callback_url + "/later") for number in range(3)))
    await relay.until(lambda: relay.ended >= {f"later-{number}" for number in range(3)})
    under_way.answer.set_result(200)
    await relay.until(lambda: "under-way" in relay.ended)
    assert Counter(came.headers["webhook-id"] for came in receiver.came)["under-way"] == 1
    assert set(states(outbox_of(stage)).values()) == {"delivered"}
    assert await relay.stop() == 0


async def test_a_database_whose_path_is_no_utf_8_is_a_database_as_any_other(folder: Path, receiver: Receiver) -> None:
    odd = folder / os.fsdecode(b"\xff\xfe")
    odd.mkdir()
    stage = Stage(odd, receiver.port)
    relay = await stage.relay()
    submit(stage, "d1")
    assert (await receiver.request()).headers["webhook-id"] == "d1"
    await relay.until(lambda: "d1" in relay.ended)
    assert await ready(stage) == (200, dict.fromkeys(("store", "claims", "drain"), "ok"))
    assert await relay.stop() == 0
    assert [line for line in relay.lines if line["level"] == "error"] == []


async def test_a_relay_on_a_full_disk_leaves_when_it_is_told_to(folder: Path, receiver: Receiver) -> None:
    stage = Stage(folder, receiver.port, relay__drain_seconds=0.2)
    relay = await stage.relay()
    submit(stage, "first")  # a host that answered may have two at once
    await receiver.request()
    await relay.event("delivery.attempt.finished")
    receiver.patient = True
    submit(stage, "answered", "under-way")
    requests = [await receiver.request() for _ in range(2)]
    fill_disk(relay)
    next(one for one in requests if one.headers["webhook-id"] == "answered").answer.set_result(200)
    await relay.said(lambda line: line.get("operation") == "settle")
    assert await relay.stop() == 0
    assert any(line.get("operation") == "release" for line in relay.lines)
    assert states(outbox_of(stage)) == {"first": "delivered", "answered": "leased", "under-way": "leased"}


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_relay_whose_file_was_replaced_says_so_and_ends_and_the_next_opens_what_is_there(
    folder: Path, receiver: Receiver, workers: int
) -> None:
    stage = Stage(folder, receiver.port, relay__workers=workers)
    relay = await stage.relay()
    moved = SqliteDatabase(folder / "another.db")
    moved.migrate([OUTBOX])
    put(moved, new("d1", stage.callback_url))
    moved.path.rename(stage.database)
    for suffix in ("-wal", "-shm"):
        stage.database.with_name(stage.database.name + suffix).unlink()
    assert (await relay.event("store.replaced"))["remedy"].startswith("start this program again")
    assert await relay.finished() == 1
    assert f"relay: outbox.url: {stage.database}: the file was replaced or removed" in "\n".join(relay.words)
    heir = await stage.relay()
    assert (await receiver.request()).headers["webhook-id"] == "d1"
    assert await heir.stop() == 0


async def test_a_relay_whose_file_was_removed_is_not_ready(stage: Stage) -> None:
    told = None
    while told is None:  # once in a while one is gone before it is asked
        relay = await stage.relay()
        stage.database.unlink()
        with suppress(ClientConnectionError):
            told = (await ready(stage))[1]["store"]
        assert await relay.finished() == 1
    assert told == "the database: the file was replaced or removed"


async def test_a_relay_on_a_corrupt_file_is_not_ready_and_does_not_fill_the_log(stage: Stage, relay: Process) -> None:
    submit(stage, *(f"d{number}" for number in range(500)))
    with stage.database.open("r+b") as file:
        size = stage.database.stat().st_size
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    complaint = await relay.said(lambda line: line.get("kind") == "corrupt")
    assert complaint["remedy"].startswith("stop what uses it")
    status, checks = await ready(stage)
    assert (status, "corrupt" in checks["store"] or "written" in checks["store"]) == (503, True)
    assert len([line for line in relay.lines if line["event"] == "store.error"]) < 10
    await relay.kill()


@pytest.mark.needs("postgres")
async def test_a_relay_one_of_whose_sessions_is_refused_is_not_ready_and_says_what_mends_it(
    folder: Path, receiver: Receiver, postgres: Server
) -> None:
    name = postgres.create()
    postgres.sql("CREATE ROLE narrow LOGIN", f"ALTER DATABASE {name} OWNER TO narrow")
    url = postgres.url(name).replace("postgres@", "narrow@")
    PostgresDatabase(url).migrate([OUTBOX])
    relay = await Stage(folder, receiver.port, outbox__url=url, relay__port=(port := free_port())).relay()
    try:
        # Only now: a session of who migrated may still be ending, and then the relay would not start.
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'narrow'"
        postgres.sql("ALTER ROLE narrow CONNECTION LIMIT 1", cut)
        complaint = await relay.said(lambda line: line.get("kind") == "connections")
        assert "max_connections" in complaint["remedy"]
        asked = Stage(folder, receiver.port)
        asked.relay_port = port
        assert (await ready(asked))[0] == 503
    finally:
        await relay.kill()
        postgres.sql(f"DROP DATABASE {name} WITH (FORCE)", "DROP ROLE narrow")
