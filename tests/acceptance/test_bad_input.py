"""Audio that is none, or too much, or a way in: clearly refused, within bounds, and nothing else is opened."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from tests.acceptance.speech import first_seconds
from tests.acceptance.stage import Process, Stage
from tests.engine.audio.encoding import encode, endless_silence, referring, video_only
from tests.ports import free_port
from tests.schemas import told

SECRET = b"what nobody may read" * 100
REFUSAL = "Bad Request: failed to process audio: corrupt or unsupported data. "
MOST_SECONDS = 120
MIB = 1024 * 1024

pytestmark = [pytest.mark.acceptance, pytest.mark.asyncio(loop_scope="module")]


@dataclass
class Host:
    """A web server that the engine may fetch from: what it serves, and every path that was asked for."""

    port: int
    body: bytes = b""
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        return web.Response(body=self.body)


@dataclass
class Canary:
    """A file and an address that the engine could open, and must not."""

    path: Path
    pipe: int
    server: socket.socket

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.getsockname()[1]}"

    def assert_alive(self) -> None:
        assert os.read(self.pipe, len(SECRET)) == SECRET
        os.write(self.pipe, SECRET)
        with pytest.raises(BlockingIOError):
            self.server.accept()


@dataclass
class World:
    """A running engine, the host that it may fetch from, and the canary."""

    stage: Stage
    engine: Process
    host: Host
    canary: Canary
    session: aiohttp.ClientSession

    async def listen(self, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
        """Send audio and wait for the answer."""
        async with self.session.post("/v1/listen", data=body, headers=headers) as response:
            return response.status, await response.json()

    async def listen_to(self, url: str) -> tuple[int, dict[str, Any]]:
        return await self.listen(json.dumps({"url": url}).encode(), **{"Content-Type": "application/json"})

    def workers(self) -> dict[int, int]:
        """The most memory that each worker has held, in bytes, by process id."""
        children = Path(f"/proc/{self.engine.pid}/task/{self.engine.pid}/children").read_text()
        return {int(pid): peak(int(pid)) for pid in children.split()}

    def worked(self) -> int:
        """The processor time that all workers have used so far, in the kernel's ticks."""
        return sum(ticks(pid) for pid in self.workers())


def ticks(pid: int) -> int:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


def peak(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    path = tmp_path_factory.mktemp("canary") / "secret.wav"
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    os.write(pipe, SECRET)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield Canary(path, pipe, server)
    os.close(pipe)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> AsyncIterator[World]:
    host = Host(free_port())
    ports = f"8080, {host.port}, {canary.address.partition(':')[2]}"  # the guard would let it through
    stage = Stage(
        tmp_path_factory.mktemp("bad"),
        8080,
        outbox__guard__ports=ports,
        engine__workers=1,
        engine__max_audio_seconds=MOST_SECONDS,
    )
    async with AsyncExitStack() as stack:
        await hosting(stack, host)
        engine = await stage.engine()
        stack.push_async_callback(engine.stop)
        session = await stack.enter_async_context(aiohttp.ClientSession(stage.engine_url))
        yield World(stage, engine, host, canary, session)


async def hosting(stack: AsyncExitStack, host: Host) -> None:
    application = web.Application()
    application.router.add_get("/{path:.*}", host.answer)
    server = web.AppRunner(application)
    await server.setup()
    stack.push_async_callback(server.cleanup)
    await web.TCPSite(server, "127.0.0.1", host.port).start()


def hls(target: str) -> str:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n"


def encrypted_hls(target: str) -> str:
    return (
        f'#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-MAP:URI="{target}"\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n'
        f"#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n"
    )


def concat(target: str) -> str:
    return f"concat:{target}|{target}"


def ffconcat(target: str) -> str:
    return f"ffconcat version 1.0\nfile '{target}'\n"


def sdp(target: str) -> str:
    return (
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\na=control:{target}\n"
    )


def dash(target: str) -> str:
    return (
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet '
        f'mimeType="audio/mp4"><Representation id="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet>'
        "</Period></MPD>"
    )


def asx(target: str) -> str:
    return f"[Reference]\nRef1={target}\n"


def pls(target: str) -> str:
    return f"[playlist]\nFile1={target}\nNumberOfEntries=1\nVersion=2\n"


Playlist = Callable[[str], str]
PLAYLISTS: tuple[Playlist, ...] = (hls, encrypted_hls, concat, ffconcat, sdp, dash, asx, pls)


@pytest.mark.parametrize("playlist", PLAYLISTS, ids=lambda playlist: playlist.__name__)
@pytest.mark.parametrize("scheme", ["", "file:", "subfile,,start,0,end,0,,:", "http://", "tcp://"])
async def test_a_playlist_leads_nowhere_sent_or_fetched(world: World, playlist: Playlist, scheme: str) -> None:
    target = world.canary.address if scheme.endswith("//") else world.canary.path
    world.host.body = playlist(f"{scheme}{target}").encode()
    world.host.asked.clear()
    for status, body in (
        await world.listen(world.host.body),
        await world.listen_to(f"{world.host.url}/a.wav"),
    ):
        assert (status, body["err_code"]) == (400, "Bad Request")
        assert told(body).startswith(REFUSAL)
    assert world.host.asked == ["/a.wav"], "the named URL, once, and nothing beside it"
    world.canary.assert_alive()


async def test_a_film_that_keeps_its_sound_elsewhere_has_none(world: World, tmp_path: Path) -> None:
    film = referring(tmp_path / "film.mov", world.canary.path)
    status, body = await world.listen(film.read_bytes())
    assert (status, told(body).startswith(REFUSAL)) == (400, True)
    world.canary.assert_alive()


def text_named_wav(folder: Path) -> bytes:
    return b"These are words, but nobody speaks them.\n" * 1000


def cut_mp3(folder: Path) -> bytes:
    return encode(folder / "clip.mp3", "libmp3lame", sample_format="s16p").read_bytes()[:100]


def mute_film(folder: Path) -> bytes:
    return video_only(folder / "film.mp4").read_bytes()


def ten_hours(folder: Path) -> bytes:
    return endless_silence(folder / "bomb.flac", hours=10).read_bytes()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (text_named_wav, "the audio is corrupt, or in a format that is not supported; send a WAV, FLAC, MP3,"),
        (cut_mp3, "the audio is corrupt, or in a format that is not supported; send a WAV, FLAC, MP3,"),
        (mute_film, "the file has no audio track; send one that has"),
        (ten_hours, "the audio is longer than 120 seconds; send it in parts"),
    ],
)
async def test_what_is_no_audio_is_refused_before_a_job_is_made(
    world: World, tmp_path: Path, make: Callable[[Path], bytes], message: str
) -> None:
    audio = make(tmp_path)
    disposition = {"Content-Disposition": 'attachment; filename="speech.wav"', "Content-Type": "audio/wav"}
    status, body = await world.listen(audio, **disposition)
    assert (status, body["err_code"]) == (400, "Bad Request")
    assert told(body).startswith(REFUSAL + message)
    with closing(sqlite3.connect(world.stage.database)) as connection:
        assert connection.execute("SELECT count(*) FROM outspoken_jobs").fetchone() == (0,)
    assert [path for path in (world.stage.folder / "audio").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("suffix", "codec", "sample_format", "message"),
    [
        (".mp3", "libmp3lame", "s16p", "The file announces 11.1 seconds of audio, of which 5.5 could be decoded."),
        (".wav", "pcm_s16le", "s16", "The file ends in the middle of its audio."),
    ],
)
async def test_speech_that_is_cut_off_is_heard_as_far_as_it_goes_with_a_warning(
    world: World, tmp_path: Path, suffix: str, codec: str, sample_format: str, message: str
) -> None:
    audio = encode(tmp_path / f"clip{suffix}", codec, sample_format=sample_format).read_bytes()
    status, body = await world.listen(audio[: len(audio) // 2 + 37])
    assert (status, body["metadata"]["duration"]) == (200, pytest.approx(5.5, abs=0.1))
    assert body["results"]["channels"][0]["alternatives"][0]["words"]
    (warning,) = body["metadata"]["warnings"]
    assert (warning["parameter"], warning["type"]) == ("audio", "incomplete_audio")
    assert warning["message"] == f"{message} Was all of it sent?"


async def test_hours_that_nobody_announced_cost_no_more_than_the_longest_audio_allowed(
    world: World, tmp_path: Path
) -> None:
    """Ten hours in 25 KB, whose length only decoding tells: as a caller who waits, and as a job."""
    allowed = endless_silence(tmp_path / "allowed.flac", hours=(MOST_SECONDS - 40) / 3600, promised=False).read_bytes()
    bomb = endless_silence(tmp_path / "bomb.flac", hours=10, promised=False).read_bytes()
    assert len(bomb) < 30_000
    assert (await world.listen(first_seconds(1.0)))[0] == 200
    await world.listen(allowed)
    before, began = world.workers(), world.worked()
    assert (await world.listen(allowed))[0] == 200
    paid = world.worked()
    status, body = await world.listen(bomb)
    assert (status, told(body)) == (400, f"{REFUSAL}the audio is longer than 120 seconds; send it in parts")
    assert world.worked() - paid < 10 * (paid - began), "decoding all of it would take 300 times as much"
    assert told(await as_a_job(world, bomb)) == told(body)
    after = world.workers()
    assert after.keys() == before.keys(), "no worker died of it"
    assert max(after[pid] - before[pid] for pid in after) < 64 * MIB, "all of it would be a thousand"


async def as_a_job(world: World, audio: bytes) -> dict[str, Any]:
    """The body of the callback that tells of a job's failure."""
    query = {"callback": "http://127.0.0.1:8080/hook"}
    async with world.session.post("/v1/listen", params=query, data=audio) as response:
        assert response.status == 200
        request_id = (await response.json())["request_id"]
    await world.engine.said(lambda line: line.get("event") == "job.failed" and line.get("job.id") == request_id)
    with closing(sqlite3.connect(world.stage.database)) as connection:
        ((body,),) = connection.execute(
            "SELECT body FROM outspoken_bodies JOIN outspoken_deliveries USING (seq) WHERE id = ? AND kind = 'error'",
            (request_id,),
        )
    document: dict[str, Any] = json.loads(body)
    return document


async def test_after_all_that_speech_is_heard_as_before(world: World) -> None:
    status, body = await world.listen(first_seconds(1.5))
    assert status == 200
    assert "morning" in body["results"]["channels"][0]["alternatives"][0]["transcript"]
    assert world.engine.returncode is None
    assert not [line for line in world.engine.lines if line.get("event") == "worker.died"]
