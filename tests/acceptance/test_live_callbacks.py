"""Live results to a WebSocket, from one process by way of another: whoever dies, the survivors end the stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from relay import outbox
from relay.outbox.model import KillReason, StreamState, StreamStatus
from relay.outbox.sqlite.database import SqliteDatabase
from tests.acceptance.receiver import Arrival, Reply
from tests.acceptance.receiver import receiving as listening
from tests.acceptance.sockets import Conversation, Receiver, receiving
from tests.acceptance.stage import Line, Process, Stage
from tests.relay.deliveries import rows

pytestmark = pytest.mark.acceptance


class Play:
    """A receiver of live results, and the processes that lead to it."""

    def __init__(self, stage: Stage, receiver: Receiver, stack: AsyncExitStack) -> None:
        self.stage = stage
        self.receiver = receiver
        self._stack = stack

    async def relay(self) -> Process:
        """One more relay on the same outbox, stopped at the end if it is still there."""
        relay = await self.stage.relay()
        self._stack.push_async_callback(relay.stop)
        return relay

    async def producer(self, *keys: str, url: str | None = None) -> Process:
        """It has added its first messages."""
        where = (str(self.stage.database), url or self.receiver.url)
        producer = await Process.start("python", "-m", "tests.acceptance.live_producer", *where, *keys)
        self._stack.push_async_callback(producer.kill)
        await producer.said(lambda line: "committed" in line)
        return producer

    def status(self, key: str) -> StreamStatus:
        """As the outbox knows it."""
        return _status(self.stage.database, key)

    async def settled(self, relay: Process, event: str, key: str) -> Line:
        """The relay's word on the end of a stream."""
        return await relay.said(lambda line: line.get("event") == event and line["stream"] == key)


@pytest.fixture
async def play(tmp_path: Path) -> AsyncIterator[Play]:
    """An empty stage."""
    async with receiving() as receiver, AsyncExitStack() as stack:
        stage = Stage(
            tmp_path,
            receiver.port,
            relay__streams__hold_seconds=60,  # a relay that is gone is known to be without it
            relay__port=0,
            relay__drain_seconds=0,
        )
        yield Play(stage, receiver, stack)


def numbers(conversation: Conversation) -> list[int]:
    """Of the messages that arrived."""
    return [json.loads(text)["n"] for text in conversation.texts]


async def gone(producer: Process, key: str, within: float = 20.0) -> Line:
    """What the producer learnt about the end of its stream."""
    return await producer.said(lambda line: line.get("gone") == key, within)


async def test_every_message_arrives_in_order_and_the_last_is_followed_by_a_goodbye(play: Play) -> None:
    await play.relay()
    producer = await play.producer("a", "b")
    conversations = [await play.receiver.next() for _ in range(2)]
    for conversation in conversations:
        await conversation.heard(50)
    await producer.stop()
    assert [await conversation.closed() for conversation in conversations] == [1000, 1000]
    committed = max(line["committed"] for line in producer.lines if "committed" in line)
    assert [numbers(conversation) for conversation in conversations] == [list(range(committed))] * 2
    assert play.receiver.opened.empty()


async def test_a_producer_that_is_killed_leaves_a_stream_that_is_delivered_and_closed(play: Play) -> None:
    relay = await play.relay()
    producer = await play.producer("s")
    conversation = await play.receiver.next()
    await conversation.heard(10)
    await producer.kill()
    assert await conversation.closed() == 1001  # long before the minute is over that it promised to live
    await play.settled(relay, "stream.closed", "s")
    ((committed,),) = _rows(play, "SELECT position FROM outspoken_streams")
    assert numbers(conversation) == list(range(committed))
    await relay.stop()
    assert play.status("s") == StreamStatus(StreamState.CLOSED, None, 0)
    assert _rows(play, "SELECT count(*) FROM outspoken_deliveries WHERE state <> 'delivered'") == [(0,)]


async def test_a_receiver_that_drops_is_known_to_the_producer_and_costs_no_other_stream(play: Play) -> None:
    await play.relay()
    producer = await play.producer("s", "other")
    by_key = {}
    for _ in range(2):
        conversation = await play.receiver.next()
        by_key[json.loads((await conversation.heard(5))[0])["key"]] = conversation
    by_key["s"].drop()
    end = await gone(producer, "s")
    assert (end["state"], end["reason"]) == ("killed", "connection_lost")
    heard = len(by_key["other"].texts)
    await by_key["other"].heard(heard + 10)
    assert play.receiver.opened.empty()
    left = rows(
        SqliteDatabase(play.stage.database),
        "SELECT DISTINCT state, reason FROM outspoken_deliveries WHERE id LIKE 's-%' ORDER BY state",
    )
    assert [row for row in left if row != ("delivered", None)] in ([], [("dead", "stream_killed")])


async def test_a_relay_that_is_killed_ends_its_streams_although_nobody_is_left_to_write_it_down(play: Play) -> None:
    relay = await play.relay()
    producer = await play.producer("s")
    conversation = await play.receiver.next()
    await conversation.heard(10)
    await relay.kill()
    assert await conversation.closed() == 1006
    end = await gone(producer, "s")
    assert (end["state"], end["reason"]) == ("killed", "relay_gone")
    assert _rows(play, "SELECT state FROM outspoken_streams") == [("open",)]

    successor = await play.relay()
    assert (await play.settled(successor, "stream.killed", "s"))["reason"] == "relay_gone"
    assert play.status("s") == StreamStatus(StreamState.KILLED, KillReason.RELAY, 0)
    assert play.receiver.opened.empty()


async def test_of_several_relays_each_holds_its_own_and_takes_no_more_than_them_along(play: Play) -> None:
    relays = [await play.relay(), await play.relay()]
    keys = [f"k{number}" for number in range(8)]
    producer = await play.producer(*keys)
    conversations = {}
    for _ in keys:
        conversation = await play.receiver.next()
        conversations[json.loads((await conversation.heard(3))[0])["key"]] = conversation
    held = [{line["stream"] for line in relay.lines if line.get("event") == "stream.opened"} for relay in relays]
    assert held[0] | held[1] == set(keys)
    assert not held[0] & held[1]

    victim = 0 if held[0] else 1
    await relays[victim].kill()
    for key in held[victim]:
        assert await conversations[key].closed() == 1006
        assert (await gone(producer, key))["reason"] == "relay_gone"
    for key in held[1 - victim]:
        await conversations[key].heard(len(conversations[key].texts) + 5)
        assert play.status(key).state is StreamState.OPEN
    assert play.receiver.opened.empty()


async def test_a_relay_that_is_stopped_says_goodbye(play: Play) -> None:
    relay = await play.relay()
    producer = await play.producer("s")
    conversation = await play.receiver.next()
    await conversation.heard(10)
    assert await relay.stop() == 0
    assert await conversation.closed() == 1001
    assert (await gone(producer, "s"))["reason"] == "relay_gone"


async def test_a_stream_that_cannot_be_opened_is_known_to_the_producer_at_once(play: Play) -> None:
    await play.relay()
    producer = await play.producer("s", url="ws://127.0.0.1:1/live")
    end = await gone(producer, "s")
    assert (end["state"], end["reason"]) == ("killed", "forbidden_destination")
    assert play.receiver.opened.empty()


async def test_requests_of_a_killed_producer_arrive_in_order_and_its_stream_is_closed(play: Play) -> None:
    came: list[Arrival] = []

    def handle(arrival: Arrival, reply: Reply) -> None:
        came.append(arrival)
        reply(500 if arrival.number == 1 and len(came) % 5 == 0 else 200)

    async with listening(handle) as port:
        play.stage.env["OUTSPOKEN_OUTBOX__GUARD__PORTS"] += f", {port}"
        play.stage.env["OUTSPOKEN_RELAY__RETRY__DELAY"] = "0.05"
        relay = await play.relay()
        producer = await play.producer("s", url=f"http://127.0.0.1:{port}/")
        await producer.said(lambda line: line.get("committed", 0) >= 20)
        await producer.kill()
        await closed(play.stage.database, "s")
        await relay.stop()
    ((committed,),) = _rows(play, "SELECT position FROM outspoken_streams")
    firsts = [arrival for arrival in came if arrival.number == 1]
    assert [json.loads(arrival.body)["n"] for arrival in firsts] == list(range(committed))
    assert [arrival.id for arrival in came] == sorted((one.id for one in came), key=lambda id_: int(id_[2:]))
    assert len(came) > committed


async def closed(database: Path, key: str) -> None:
    """Wait until a stream is; the outbox tells whoever asks, and nobody else."""
    async with asyncio.timeout(20):
        while _status(database, key).state is not StreamState.CLOSED:
            await asyncio.sleep(0.05)


def _status(database: Path, key: str) -> StreamStatus:
    with SqliteDatabase(database).reading() as connection:
        return outbox.watch_streams(connection, [key])[key]


def _rows(play: Play, sql: str) -> list[Any]:
    return rows(SqliteDatabase(play.stage.database), sql)
