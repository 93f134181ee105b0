"""Audio behind a URL: fetched when the job runs, again when the other side stumbles, and told when it never comes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from engine.audio.fetch import HttpFetcher
from engine.audio.sink import Stored
from engine.errors import StorageFull
from engine.jobs.folder import AudioFolder
from engine.jobs.store import Job, JobStore
from engine.jobs.work import Workshop
from engine.request import Failed, FailureCode, Request
from engine.transcript import Transcript
from relay.guard.resolver import Resolver
from relay.guard.rules import Rules
from tests.engine.jobs.conftest import MEDIA, TRANSCRIPT, UNFETCHED, Rows, request

SOUND = b"what was said"


@dataclass
class Host:
    """Serves audio, after so many answers that are errors."""

    failures: int = 0
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    asked: int = 0
    server: TestServer = field(init=False)

    async def start(self) -> None:
        application = web.Application()
        application.router.add_get("/a.wav", self._answer)
        self.server = TestServer(application)
        await self.server.start_server()

    async def _answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        if self.asked <= self.failures:
            return web.Response(status=self.status, headers=self.headers)
        return web.Response(body=SOUND)

    @property
    def url(self) -> str:
        return str(self.server.make_url("/a.wav"))

    def fetcher(self) -> HttpFetcher:
        assert self.server.port
        return HttpFetcher(Resolver(Rules(ports=frozenset({self.server.port}), networks=(ip_network("127.0.0.0/8"),))))


@dataclass
class Listening:
    """Remembers what lay in the files that it heard."""

    heard: list[bytes] = field(default_factory=list)

    async def hear(self, request: Request, path: Path) -> Transcript | Failed:
        self.heard.append(path.read_bytes())
        return TRANSCRIPT


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    await host.start()
    yield host
    await host.server.close()


@pytest.fixture
def folder(tmp_path: Path) -> AudioFolder:
    folder = AudioFolder(tmp_path / "audio")
    folder.create()
    return folder


async def leased(store: JobStore, url: str) -> Job:
    await store.accept(request(audio_url=url), UNFETCHED, has_audio=False)
    (job,) = await store.lease(1)
    return job


async def test_audio_is_fetched_heard_and_remembered(
    store: JobStore, folder: AudioFolder, host: Host, rows: Rows
) -> None:
    ear = Listening()
    result = await Workshop(ear, host.fetcher(), folder, store).do(await leased(store, host.url))
    assert (result.said, ear.heard) == (TRANSCRIPT, [SOUND])
    assert (result.media.size, len(result.media.sha256)) == (len(SOUND), 64)
    assert rows("SELECT has_audio, media ->> 'sha256' FROM jobs") == [(1, result.media.sha256)]


async def test_audio_that_has_come_is_not_fetched_again(store: JobStore, folder: AudioFolder, host: Host) -> None:
    job = await leased(store, host.url)
    workshop = Workshop(Listening(), host.fetcher(), folder, store)
    await workshop.do(job)
    await store.release([job])
    (again,) = await store.lease(1)
    await workshop.do(again)
    assert host.asked == 1


async def test_a_host_that_stumbles_is_asked_again(store: JobStore, folder: AudioFolder, host: Host) -> None:
    host.failures = 2
    workshop = Workshop(Listening(), host.fetcher(), folder, store, tries=3, pause=0)
    assert (await workshop.do(await leased(store, host.url))).said == TRANSCRIPT
    assert host.asked == 3


async def test_audio_that_never_comes_is_a_failure_that_names_the_cause(
    store: JobStore, folder: AudioFolder, host: Host
) -> None:
    host.failures = 9
    ear = Listening()
    workshop = Workshop(ear, host.fetcher(), folder, store, tries=2, pause=0)
    result = await workshop.do(await leased(store, host.url))
    assert isinstance(result.said, Failed)
    assert result.said.code is FailureCode.REMOTE_CONTENT
    assert "503" in result.said.message
    assert (host.asked, ear.heard, result.media) == (2, [], UNFETCHED)
    assert [path for path in folder.path("").rglob("*") if path.is_file()] == []


async def test_a_client_error_is_final_at_once(store: JobStore, folder: AudioFolder, host: Host) -> None:
    host.failures, host.status = 9, 404
    workshop = Workshop(Listening(), host.fetcher(), folder, store, tries=3, pause=60)
    result = await workshop.do(await leased(store, host.url))
    assert isinstance(result.said, Failed)
    assert (result.said.code, host.asked) == (FailureCode.REMOTE_CONTENT, 1)
    assert "client error: 404" in result.said.message


async def test_a_host_that_names_a_time_is_asked_then(store: JobStore, folder: AudioFolder, host: Host) -> None:
    host.failures, host.status, host.headers = 1, 429, {"Retry-After": "1"}
    workshop = Workshop(Listening(), host.fetcher(), folder, store, pause=0)
    began = time.monotonic()
    assert (await workshop.do(await leased(store, host.url))).said == TRANSCRIPT
    assert (host.asked, time.monotonic() - began >= 1) == (2, True)


@dataclass
class FullAtFirst:
    """A disk that has no room for the first download."""

    tried: int = 0

    async def fetch(self, url: str, path: Path) -> Stored | Failed:
        self.tried += 1
        path.write_bytes(SOUND)
        if self.tried == 1:
            raise StorageFull
        return Stored("ab" * 32, len(SOUND))


async def test_our_own_full_disk_is_not_the_jobs_fault(store: JobStore, folder: AudioFolder) -> None:
    workshop = Workshop(Listening(), FullAtFirst(), folder, store, tries=1, storage_pause=0)
    job = await leased(store, "http://127.0.0.1:8080/a.wav")
    assert (await workshop.do(job)).said == TRANSCRIPT


async def test_forgetting_a_job_deletes_its_audio(store: JobStore, folder: AudioFolder) -> None:
    await store.accept(request(), MEDIA)
    (job,) = await store.lease(1)
    folder.path(job.id).write_bytes(SOUND)
    workshop = Workshop(Listening(), FullAtFirst(), folder, store)
    await workshop.forget(job)
    await workshop.forget(job)
    assert not folder.path(job.id).exists()
