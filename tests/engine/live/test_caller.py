"""What a caller is to read: it waits for one that is away, and is dropped for one that never reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from engine.dialects.live import EndReason, Goodbye
from engine.live.caller import CallerMessages

PATIENCE = 30.0
BYE = Goodbye(1000, "")


class Socket:
    """Takes one message at a time, once the test opens the `gate`."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.farewell: EndReason | None = None
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()
        self.sending = asyncio.Event()
        self.sent: list[str] = []
        self.goodbyes: list[Goodbye] = []

    async def send(self, text: str) -> None:
        self.sending.set()
        await self.gate.wait()
        self.sent.append(text)

    async def close(self, goodbye: Goodbye) -> None:
        self.goodbyes.append(goodbye)

    async def __aiter__(self) -> AsyncIterator[bytes | str]:
        return
        yield ""


async def test_what_comes_while_nobody_is_there_is_read_by_whoever_comes_back() -> None:
    messages, first, second = CallerMessages(resumable=True), Socket(), Socket()
    await messages.connect(first)
    assert messages.disconnected(first) is None
    assert messages.put("one")
    assert messages.put("two")
    await messages.connect(second)
    messages.close(BYE)
    await asyncio.wait_for(messages.write_to(second), PATIENCE)
    assert (second.sent, second.goodbyes, messages.count) == (["one", "two"], [BYE], 2)


async def test_a_new_socket_takes_the_place_of_an_old_one_whose_end_ends_nothing() -> None:
    messages, first, second = CallerMessages(resumable=False), Socket(), Socket()
    await messages.connect(first)
    await messages.connect(second)
    assert [goodbye.code for goodbye in first.goodbyes] == [1001]
    assert messages.disconnected(first) is None
    assert messages.disconnected(second) is EndReason.LEFT


async def test_a_caller_who_says_goodbye_does_not_come_back() -> None:
    messages, socket = CallerMessages(resumable=True), Socket()
    socket.farewell = EndReason.LEFT
    await messages.connect(socket)
    assert messages.disconnected(socket) is EndReason.LEFT


async def test_a_caller_who_never_reads_loses_what_waits_and_is_still_told_goodbye() -> None:
    messages, socket = CallerMessages(resumable=False), Socket(is_open=False)
    await messages.connect(socket)
    writing = asyncio.create_task(messages.write_to(socket))
    assert messages.put("first")
    await asyncio.wait_for(socket.sending.wait(), PATIENCE)
    while messages.put("x" * 100_000):
        pass
    socket.gate.set()
    messages.close(BYE)
    await asyncio.wait_for(writing, PATIENCE)
    assert (socket.sent, socket.goodbyes) == (["first"], [BYE])
