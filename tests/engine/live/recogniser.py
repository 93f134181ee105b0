"""A recogniser whose words are the test's own: it takes every byte, and says what it is told to."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from engine.errors import Busy
from engine.events import Broken, Final, Finished, LiveEvent, LiveOptions
from engine.recognisers.whisper.passes import Costs
from engine.transcript import Model, Word

MODEL = Model("5f3c1a52-9d3b-5d4e-8f6a-0c2b7e1d9a10", "tiny.en", "1.2.1", "whisper")
COSTS = Costs(final=0.001, interim=0.001)
HELLO = (Word("hello", 0.1, 0.6, 0.9, "Hello,"), Word("there", 0.6, 1.0, 0.7, "there."))


@dataclass
class FakeRecognition:
    """Finishes as soon as it is asked to, unless it is `stuck`; a second of audio is 32000 bytes."""

    options: LiveOptions
    model: Model = MODEL
    duration: float = 0.0
    channels: int = 1
    taken: bytes = b""
    stuck: bool = False
    lag: float = 0.0
    room: asyncio.Event = field(default_factory=asyncio.Event)
    flushed: asyncio.Queue[int | None] = field(default_factory=asyncio.Queue)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Queue[LiveEvent | None] = field(default_factory=asyncio.Queue)

    async def push(self, data: bytes) -> None:
        await self.room.wait()
        self.taken += data
        self.duration = len(self.taken) / 32000

    async def finalize(self, channel: int | None = None) -> None:
        self.flushed.put_nowait(channel)
        self.heard.put_nowait(Final(channel or 0, 0.0, self.duration, HELLO, from_finalize=True))

    async def finish(self) -> None:
        if not self.stuck:
            self.heard.put_nowait(Finished(self.duration, self.channels, hashlib.sha256(self.taken).hexdigest()))

    async def close(self) -> None:
        self.closed.set()
        self.heard.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[LiveEvent]:
        while heard := await self.heard.get():
            yield heard
            if isinstance(heard, Finished | Broken):
                return


@dataclass
class FakeRecogniser:
    """Hands out recognitions, until it has none left, and says what they cost."""

    places: int = 100
    stuck: bool = False
    costs: Costs = COSTS
    measured: int = 0
    opened: asyncio.Queue[FakeRecognition] = field(default_factory=asyncio.Queue)

    async def open(self, recogniser: str, options: LiveOptions) -> FakeRecognition:
        if not self.places:
            raise Busy("no place is left", "memory")
        self.places -= 1
        recognition = FakeRecognition(options, stuck=self.stuck)
        recognition.room.set()
        self.opened.put_nowait(recognition)
        return recognition

    async def measure(self, recogniser: str) -> Costs:
        self.measured += 1
        return self.costs
