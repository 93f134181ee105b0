"""Streams carried over real sockets from a real outbox: the loops are turned by hand, or run as a relay runs them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from ipaddress import IPv4Network
from typing import Any

import pytest

from relay import outbox
from relay.delivery.stream_session import Gateway
from relay.delivery.streams import StreamCarrier, StreamPace
from relay.guard.resolver import Resolver
from relay.guard.rules import Rules
from relay.guard.url import Target, read
from relay.outbox.model import KillReason, NewDelivery, Stream, StreamState, StreamStatus
from relay.outbox.store import Database
from relay.policy import request_headers
from relay.policy.attempt import Attempted, HeldStream, Outcome
from relay.queue.streams import LiveStreams
from relay.service.dns import system_names
from relay.transports.websocket import WebSocketTransport
from relay.transports.websocket_connection import WebSocketBounds
from tests.acceptance.sockets import Conversation, Receiver, receiving
from tests.relay.databases import on_sqlite
from tests.relay.deliveries import new, put, reading, rows, stand, states, writing
from tests.relay.delivery.doubles import full_disk
from tests.relay.transports.peers import deaf
from tests.relay.transports.receivers import receiving as listening

Log = list[MutableMapping[str, Any]]


class Observer:
    """What observers heard."""

    def __init__(self) -> None:
        self.attempts: list[Attempted] = []
        self.ends: list[KillReason | None] = []
        self.failed: list[str] = []
        self.news = asyncio.Event()

    def attempted(self, attempts: Sequence[Attempted]) -> None:
        self.attempts += attempts
        self.news.set()

    def finished(self, reason: KillReason | None) -> None:
        self.ends.append(reason)
        self.news.set()

    def turned(self, loop: str, *, ok: bool) -> None:
        if not ok:
            self.failed.append(loop)
            self.news.set()

    async def until(self, ready: Callable[[Observer], bool]) -> None:
        """Wait until they have heard enough."""
        async with asyncio.timeout(10):
            while not ready(self):
                self.news.clear()
                await self.news.wait()


async def seal(stream: HeldStream, target: Target, now: float) -> request_headers.Headers:
    """The handshake of a stream for which nobody has a key."""
    return request_headers.handshake(stream.id, stream.key, target, "tests", stream.headers, (), now)


class LiveOutbox:
    """One outbox, and the relays that carry its streams."""

    def __init__(self, database: Database, port: int) -> None:
        self.database = database
        self.port = port
        self.notifier = database.notifier()

    def message(self, number: int, key: str = "s", live_until: float | None = None) -> NewDelivery:
        """The n-th of a stream."""
        url = f"ws://u:p@127.0.0.1:{self.port}/live"
        body = b'{"key":"%s","n":%d}' % (key.encode(), number)
        return new(
            f"{key}-{number}", url, body=body, stream=Stream(key, live_until=live_until), headers={"dg-token": "t"}
        )

    def add(self, *numbers: int, key: str = "s", live_until: float | None = None) -> None:
        put(self.database, *(self.message(number, key, live_until) for number in numbers))
        self.notifier.notify()

    def end(self, key: str = "s") -> None:
        writing(self.database, lambda connection: outbox.end_stream(connection, key))
        self.notifier.notify()

    def status(self, key: str = "s") -> StreamStatus:
        return reading(self.database, lambda connection: outbox.watch_streams(connection, [key]))[key]

    @asynccontextmanager
    async def relay(
        self,
        observer: Observer,
        *,
        rules: Rules | None = None,
        sockets: int = 100,
        bounds: WebSocketBounds | None = None,
        hold: float = 10.0,
        drain: float = 0.0,
    ) -> AsyncIterator[StreamCarrier]:
        """One that runs until the block ends, and drains then."""
        rules = rules or Rules(ports=frozenset({self.port}), networks=(IPv4Network("127.0.0.0/8"),))
        store, wake = LiveStreams(self.database, hold), asyncio.Event()
        listener = self.database.listener(wake)
        await listener.open()
        carrier = StreamCarrier(
            Gateway(
                store,
                WebSocketTransport(Resolver(rules, system_names()), bounds or WebSocketBounds(close_timeout=0.5)),
                read=partial(read, rules=rules, schemes=frozenset({"ws", "wss"})),
                seal=seal,
            ),
            observer=observer,
            loops=observer,
            wake=wake,
            sockets=sockets,
            pace=StreamPace(hold=hold, closing=0.5),
        )
        running = asyncio.create_task(carrier.run(drain))
        try:
            yield carrier
        finally:
            carrier.stop()
            await running
            await listener.close()
            await store.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """One that hears everything."""
    async with receiving() as opened:
        yield opened


@pytest.fixture
def live(database: Database, receiver: Receiver) -> Iterator[LiveOutbox]:
    """An outbox whose streams lead there."""
    opened = LiveOutbox(database, receiver.port)
    yield opened
    opened.notifier.close()


def texts(key: str, count: int) -> list[str]:
    return [f'{{"key":"{key}","n":{number}}}' for number in range(count)]


async def test_messages_arrive_in_order_over_one_socket_which_is_closed_after_the_last(
    live: LiveOutbox, receiver: Receiver
) -> None:
    observer = Observer()
    live.add(*range(5))
    async with live.relay(observer):
        conversation = await receiver.next()
        for number in range(5, 20):
            live.add(number)
        live.end()
        assert await conversation.closed() == 1000
        await observer.until(lambda it: it.ends == [None])
    assert conversation.texts == texts("s", 20)
    assert receiver.opened.empty()
    assert live.status() == StreamStatus(StreamState.CLOSED, None, 0)
    assert set(states(live.database).values()) == {"delivered"}
    assert [one.delivery.id for one in observer.attempts] == [f"s-{number}" for number in range(20)]
    assert {one.outcome for one in observer.attempts} == {Outcome.SUCCESS}
    assert [one.answer.reused for one in observer.attempts] == [False] + [True] * 19
    assert all(0 <= one.lag < 10 for one in observer.attempts)


async def test_the_handshake_names_the_stream_and_carries_credentials_and_headers(
    live: LiveOutbox, receiver: Receiver
) -> None:
    observer = Observer()
    live.add(1)
    async with live.relay(observer):
        headers = {name.lower(): value for name, value in (await receiver.next()).headers.items()}
        await observer.until(lambda it: len(it.attempts) == 1)
    assert headers["authorization"] == "Basic dTpw"
    assert (headers["webhook-id"], headers["webhook-stream"], headers["dg-token"]) == ("s", "1", "t")
    assert "content-type" not in headers
    ((kept,),) = rows(live.database, "SELECT request_headers FROM outspoken_attempts")
    assert "dTpw" not in kept
    assert '["authorization","[redacted]"]' in kept


async def test_what_was_cancelled_is_left_out_and_holds_nothing_up(live: LiveOutbox, receiver: Receiver) -> None:
    live.add(*range(6))
    rows(
        live.database, "UPDATE outspoken_deliveries SET state = 'cancelled', finished_at = 1 WHERE id IN ('s-2', 's-5')"
    )
    rows(live.database, "UPDATE outspoken_streams SET position = 9")
    live.end()
    async with live.relay(Observer()):
        conversation = await receiver.next()
        assert await conversation.closed() == 1000
    assert conversation.texts == [text for text in texts("s", 5) if text != texts("s", 3)[2]]


async def test_a_backlog_arrives_whole(live: LiveOutbox, receiver: Receiver) -> None:
    observer = Observer()
    live.add(*range(1000))
    live.end()
    async with live.relay(observer):
        conversation = await receiver.next()
        assert await conversation.closed() == 1000
    assert conversation.texts == texts("s", 1000)


async def test_a_hundred_streams_go_at_once(live: LiveOutbox, receiver: Receiver) -> None:
    observer = Observer()
    keys = [f"k{number}" for number in range(100)]
    async with live.relay(observer) as carrier:
        for number in range(3):
            put(live.database, *(live.message(number, key) for key in keys))
            live.notifier.notify()
        conversations = [await receiver.next() for _ in keys]
        assert carrier.held == 100
        for key in keys:
            live.end(key)
        assert [await conversation.closed() for conversation in conversations] == [1000] * 100
        await observer.until(lambda it: len(it.ends) == 100)
    assert sorted(conversation.texts for conversation in conversations) == sorted(texts(key, 3) for key in keys)


async def test_a_stream_begins_with_its_socket(live: LiveOutbox, receiver: Receiver) -> None:
    url = f"ws://127.0.0.1:{live.port}/"
    writing(live.database, lambda connection: outbox.begin_stream(connection, Stream("s"), url, {"dg-token": "t"}))
    async with live.relay(Observer()):
        conversation = await receiver.next()
        live.end()
        assert await conversation.closed() == 1000
    assert conversation.texts == []
    assert conversation.headers["dg-token"] == "t"


@pytest.mark.parametrize("drop", [Conversation.drop, lambda it: asyncio.ensure_future(it.socket.close(code=1000))])
async def test_a_socket_that_drops_kills_its_stream_by_itself_and_no_other(
    live: LiveOutbox, receiver: Receiver, drop: Callable[[Conversation], object], log: Log
) -> None:
    observer = Observer()
    async with live.relay(observer, hold=600):  # nobody would miss it for minutes
        live.add(0)
        conversation = await receiver.next()
        await conversation.heard(1)
        await observer.until(lambda it: len(it.attempts) == 1)
        live.add(0, key="other")
        other = await receiver.next()
        drop(conversation)
        await observer.until(lambda it: it.ends == [KillReason.DROPPED])
        assert live.status() == StreamStatus(StreamState.KILLED, KillReason.DROPPED, 0)
        live.add(1, key="other")
        assert await other.heard(2) == texts("other", 2)
        assert receiver.opened.empty()
    (killed,) = [line for line in log if line["event"] == "stream.killed" and line["stream"] == "s"]
    assert (killed["reason"], killed["delivered"]) == ("connection_lost", 1)


async def test_what_waits_behind_a_lost_socket_is_dead(live: LiveOutbox) -> None:
    observer, bounds = Observer(), WebSocketBounds(pong_timeout=0.3, close_timeout=0.1)
    async with listening(deaf(reads=True)) as receiver:
        live.port = receiver.port
        async with live.relay(observer, bounds=bounds):
            live.add(*range(300))
            await observer.until(lambda it: it.ends == [KillReason.SILENT])
        assert set(rows(live.database, "SELECT state, reason FROM outspoken_deliveries")) == {("dead", "stream_killed")}
    assert {one.outcome for one in observer.attempts} == {Outcome.READ_TIMEOUT}
    assert 0 < len(observer.attempts) < 300
    assert rows(live.database, "SELECT count(*) FROM outspoken_attempts") == [(len(observer.attempts),)]


async def test_a_slow_receiver_holds_up_its_own_stream_only(live: LiveOutbox, receiver: Receiver) -> None:
    rules = Rules(ports=frozenset(range(1, 65536)), networks=(IPv4Network("127.0.0.0/8"),))
    async with listening(deaf(reads=False)) as stuck, live.relay(Observer(), rules=rules):
        put(
            live.database,
            new("slow", f"ws://127.0.0.1:{stuck.port}/", body=b"x" * 30_000_000, stream=Stream("slow")),
        )
        live.notifier.notify()
        await stuck.reached.wait()
        live.add(0)
        conversation = await receiver.next()
        assert await conversation.heard(1, within=2.0) == texts("s", 1)
    assert live.status("slow") == StreamStatus(StreamState.KILLED, KillReason.RELAY, 0)


async def test_a_receiver_that_refuses_kills_the_stream_and_is_asked_once(live: LiveOutbox) -> None:
    from aiohttp import web

    observer = Observer()
    async with receiving(answer=lambda _: web.Response(status=401)) as refusing:
        live.port = refusing.port
        live.add(0, 1)
        async with live.relay(observer):
            await observer.until(lambda it: it.ends == [KillReason.REFUSED])
        assert refusing.refused.qsize() == 1
    assert rows(live.database, "SELECT status, outcome, detail FROM outspoken_attempts") == [
        (401, "http_4xx", "the receiver answered 401")
    ]
    assert set(states(live.database).values()) == {"dead"}


async def test_a_forbidden_address_is_never_dialled(live: LiveOutbox, receiver: Receiver) -> None:
    observer = Observer()
    live.add(0, 1)
    async with live.relay(observer, rules=Rules(ports=frozenset({live.port}))):
        await observer.until(lambda it: it.ends == [KillReason.FORBIDDEN])
    assert receiver.opened.empty()
    assert rows(live.database, "SELECT reason FROM outspoken_deliveries ORDER BY seq") == [
        ("forbidden_destination",),
        ("stream_killed",),
    ]


async def test_a_destination_that_is_left_alone_gets_no_new_socket_and_keeps_its_old_one(
    live: LiveOutbox, receiver: Receiver
) -> None:
    observer = Observer()
    async with live.relay(observer):
        live.add(0)
        conversation = await receiver.next()
        await conversation.heard(1)
        for (origin,) in rows(live.database, "SELECT DISTINCT origin FROM outspoken_deliveries"):
            stand(live.database, "paused", origin)
        live.add(1)
        live.add(0, key="late")
        await observer.until(lambda it: it.ends == [KillReason.LEFT_ALONE])
        assert await conversation.heard(2) == texts("s", 2)
    assert receiver.opened.empty()
    assert live.status("late") == StreamStatus(StreamState.KILLED, KillReason.LEFT_ALONE, 0)


async def test_what_a_producer_left_behind_is_delivered_and_then_the_socket_is_closed(
    live: LiveOutbox, receiver: Receiver
) -> None:
    observer = Observer()
    live.add(0, 1, live_until=time.time() + 0.3)
    async with live.relay(observer):
        conversation = await receiver.next()
        assert await conversation.closed() == 1001
        await observer.until(lambda it: it.ends == [None])
    assert conversation.texts == texts("s", 2)
    assert live.status() == StreamStatus(StreamState.CLOSED, None, 0)


async def test_streams_beyond_the_bound_wait_for_one_that_ends(live: LiveOutbox, receiver: Receiver) -> None:
    live.add(0, key="a")
    live.add(0, key="b")
    async with live.relay(Observer(), sockets=1) as carrier:
        first = await receiver.next()
        assert await first.heard(1) == texts("a", 1)
        assert carrier.held == 1
        live.end("a")
        second = await receiver.next()
        assert first.close_code == 1000
        assert await second.heard(1) == texts("b", 1)


async def test_a_relay_that_stops_lets_streams_end_and_kills_the_rest(live: LiveOutbox, receiver: Receiver) -> None:
    observer = Observer()
    async with AsyncExitStack() as stack:
        carrier = await stack.enter_async_context(live.relay(observer, drain=0.5))
        live.add(0, key="ending")
        live.add(0, key="lasting")
        by_key = {}
        for _ in range(2):
            conversation = await receiver.next()
            by_key[(await conversation.heard(1))[0]] = conversation
        ending, lasting = by_key[texts("ending", 1)[0]], by_key[texts("lasting", 1)[0]]
        carrier.stop()
        live.add(1, key="ending")
        live.add(0, key="new")
        live.end("ending")
        assert await ending.closed() == 1000
        assert await lasting.closed() == 1001
    assert ending.texts == texts("ending", 2)
    assert live.status("lasting").reason is KillReason.RELAY
    assert live.status("new") == StreamStatus(StreamState.OPEN, None, 1)


@on_sqlite
async def test_a_full_disk_holds_no_message_up_and_loses_no_end(live: LiveOutbox, receiver: Receiver, log: Log) -> None:
    observer = Observer()
    async with live.relay(observer):
        live.add(0)
        conversation = await receiver.next()
        await observer.until(lambda it: len(it.attempts) == 1)
        put(live.database, live.message(1))
        with full_disk():
            live.notifier.notify()
            await conversation.heard(2)
            await observer.until(lambda it: "stream_settle" in it.failed)
        await observer.until(lambda it: len(it.attempts) == 2)
        live.end()
        assert await conversation.closed() == 1000
    assert set(states(live.database).values()) == {"delivered"}
    assert any(line["event"] == "store.error" for line in log)


async def test_a_stream_that_somebody_else_ended_is_let_go(live: LiveOutbox, receiver: Receiver) -> None:
    async with live.relay(Observer()) as carrier:
        live.add(0)
        conversation = await receiver.next()
        await conversation.heard(1)
        rows(
            live.database,
            "UPDATE outspoken_streams SET state = 'killed', reason = 'relay_gone', finished_at = 1, holder = NULL,"
            " holder_until = NULL",
        )
        live.notifier.notify()
        await conversation.closed()
        assert carrier.held == 0
