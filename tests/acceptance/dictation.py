"""Speech spoken into the vendors' own live clients, unmodified, at the pace at which it was spoken, or `speed` times as
fast."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from deepgram import AsyncDeepgramClient, DeepgramClient
from deepgram.core.events import EventType
from deepgram.environment import DeepgramClientEnvironment
from gladiaio_sdk import GladiaClient
from websockets.exceptions import ConnectionClosed

from tests.acceptance.speech import RATE

CHUNK_SECONDS = 0.1
PATIENCE = 30.0
CHUNK = int(RATE * CHUNK_SECONDS) * 2
SECOND = RATE * 2
AUDIO: dict[str, Any] = {"encoding": "linear16", "sample_rate": RATE}


@dataclass
class Heard:
    """What a client was told, and how its connection ended. `said` is how many bytes it sent until then."""

    messages: list[Any] = field(default_factory=list)
    code: int | None = None
    reason: str = ""
    said: int = 0
    results: threading.Event = field(default_factory=threading.Event)

    def tell(self, message: Any) -> None:
        self.messages.append(message)
        if message.type == "Results":
            self.results.set()

    def end(self, code: int | None, reason: str | None) -> None:
        self.code, self.reason = code, reason or ""

    def of(self, type_: str) -> list[Any]:
        return [message for message in self.messages if message.type == type_]

    @property
    def words(self) -> list[str]:
        """The final words of a Deepgram session."""
        finals = [message for message in self.of("Results") if message.is_final]
        return " ".join(message.channel.alternatives[0].transcript for message in finals).split()


def environment(url: str) -> DeepgramClientEnvironment:
    socket = url.replace("http", "ws", 1)
    return DeepgramClientEnvironment(base=url, production=socket, agent=socket, agent_rest=url)


def deepgram(url: str, key: str, sound: bytes, heard: Heard, *, stop: bool = True, **options: Any) -> Heard:
    """With the synchronous client, to the end, which it asks for once it has a result; without `stop` it only waits for
    the connection to end."""
    client = DeepgramClient(api_key=key, environment=environment(url))
    with client.listen.v1.connect(model="nova-3", **AUDIO | options) as live:
        live.on(EventType.MESSAGE, heard.tell)
        listening = threading.Thread(target=live.start_listening)
        listening.start()
        heard.said = _speak(sound, live.send_media)
        if stop:
            assert heard.results.wait(PATIENCE)
            live.send_close_stream()
        listening.join()
        heard.end(live._websocket.close_code, live._websocket.close_reason)
    return heard


def _speak(sound: bytes, send: Callable[[bytes], None]) -> int:
    """In real time, until nobody listens any more. Returns the bytes that were said."""
    began = time.monotonic()
    for number, start in enumerate(range(0, len(sound), CHUNK), 1):
        try:
            send(sound[start : start + CHUNK])
        except ConnectionClosed:
            return start
        time.sleep(max(0.0, began + number * CHUNK_SECONDS - time.monotonic()))
    return len(sound)


@asynccontextmanager
async def deepgram_session(url: str, key: str, heard: Heard, **options: Any) -> AsyncIterator[Any]:
    """The asynchronous client, connected; it has heard everything when the block ends by itself."""
    client = AsyncDeepgramClient(api_key=key, environment=environment(url))
    async with client.listen.v1.connect(model="nova-3", **AUDIO | options) as live:
        live.on(EventType.MESSAGE, heard.tell)
        listening = asyncio.create_task(live.start_listening())
        yield live
        await listening
        heard.end(live._websocket.close_code, live._websocket.close_reason)


async def speak(live: Any, sound: bytes, speed: float = 1.0) -> None:
    """Until nobody listens any more."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number, start in enumerate(range(0, len(sound), CHUNK), 1):
        try:
            await live.send_media(sound[start : start + CHUNK])
        except ConnectionClosed:
            return
        await asyncio.sleep(began + number * CHUNK_SECONDS / speed - loop.time())


async def deepgram_async(url: str, key: str, sound: bytes, heard: Heard, speed: float = 1.0, **options: Any) -> Heard:
    """With the asynchronous client, to the end."""
    async with deepgram_session(url, key, heard, **options) as live:
        await speak(live, sound, speed)
        await live.send_close_stream()
    return heard


def gladia(url: str, key: str, sound: bytes, heard: Heard, **options: Any) -> Heard:
    """With Gladia's synchronous client, to the end."""
    client = GladiaClient(api_key=key, api_url=url).live_v2()
    session = client.start_session(GLADIA | options)
    session.on("message", heard.tell)
    session.on("ended", lambda ended: heard.end(ended.code, ended.reason))
    assert session.wait_until_ready(PATIENCE)
    _speak(sound, session.send_audio)
    session.stop_recording()
    assert session.join(60)
    client._http_client.close()
    return heard


async def gladia_async(url: str, key: str, sound: bytes, heard: Heard, speed: float = 1.0, **options: Any) -> Heard:
    """With Gladia's asynchronous client, to the end."""
    connected, over = asyncio.Event(), asyncio.Event()

    def ended(ending: Any) -> None:
        heard.end(ending.code, ending.reason)
        over.set()

    client = GladiaClient(api_key=key, api_url=url).live_v2_async()
    session = client.start_session(GLADIA | options)
    session.on("message", heard.tell)
    session.on("connected", lambda _: connected.set())
    session.on("ended", ended)
    await asyncio.wait_for(connected.wait(), PATIENCE)
    for start in range(0, len(sound), CHUNK):
        session.send_audio(sound[start : start + CHUNK])
        await asyncio.sleep(CHUNK_SECONDS / speed)
    session.stop_recording()
    await asyncio.wait_for(over.wait(), 60)
    await client._http_client.close()
    return heard


GLADIA: dict[str, Any] = {"encoding": "wav/pcm", "bit_depth": 16, "sample_rate": RATE, "channels": 1}
