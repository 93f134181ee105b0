"""Audio behind a URL: fetched when the job runs, again after a transient failure, and told when it never comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from engine.audio.fetch import HttpFetcher
from engine.errors import StorageFull
from engine.jobs.folder import AudioFolder
from engine.jobs.handler import TranscriptionHandler
from engine.jobs.store import Job, JobStore
from engine.request import Failed, FailureCode
from relay.guard.resolver import Resolver
from relay.guard.rules import Rules
from relay.service.dns import system_names
from tests.engine.jobs.conftest import (
    MEDIA,
    TRANSCRIPT,
    UNFETCHED,
    Pauses,
    Rows,
    Transcribing,
    request,
    unused_fetcher,
)

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
        rules = Rules(ports=frozenset({self.server.port}), networks=(ip_network("127.0.0.0/8"),))
        return HttpFetcher(Resolver(rules, system_names()))


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


async def test_audio_is_fetched_transcribed_and_remembered(
    store: JobStore, folder: AudioFolder, host: Host, rows: Rows
) -> None:
    transcriber = Transcribing()
    handler = TranscriptionHandler(transcriber, host.fetcher(), folder, store)
    result = await handler.handle(await leased(store, host.url))
    assert (result.said, transcriber.given) == (TRANSCRIPT, [SOUND])
    assert (result.media.size, len(result.media.sha256)) == (len(SOUND), 64)
    assert rows("SELECT has_audio, media ->> 'sha256' FROM outspoken_jobs") == [(1, result.media.sha256)]


async def test_audio_that_has_come_is_not_fetched_again(store: JobStore, folder: AudioFolder, host: Host) -> None:
    job = await leased(store, host.url)
    handler = TranscriptionHandler(Transcribing(), host.fetcher(), folder, store)
    await handler.handle(job)
    await store.release([job])
    (again,) = await store.lease(1)
    await handler.handle(again)
    assert host.asked == 1


async def test_a_host_that_fails_for_now_is_asked_again_after_pauses_that_grow(
    store: JobStore, folder: AudioFolder, host: Host
) -> None:
    host.failures, pauses = 2, Pauses()
    handler = TranscriptionHandler(Transcribing(), host.fetcher(), folder, store, tries=3, sleep=pauses)
    assert (await handler.handle(await leased(store, host.url))).said == TRANSCRIPT
    assert (host.asked, pauses.asked) == (3, [1.0, 2.0])


async def test_audio_that_never_comes_is_a_failure_that_names_the_cause(
    store: JobStore, folder: AudioFolder, host: Host
) -> None:
    host.failures = 9
    transcriber = Transcribing()
    handler = TranscriptionHandler(transcriber, host.fetcher(), folder, store, tries=2, sleep=Pauses())
    result = await handler.handle(await leased(store, host.url))
    assert isinstance(result.said, Failed)
    assert result.said.code is FailureCode.REMOTE_CONTENT
    assert "503" in result.said.message
    assert (host.asked, transcriber.given, result.media) == (2, [], UNFETCHED)
    assert [path for path in folder.path("").rglob("*") if path.is_file()] == []


async def test_a_client_error_is_final_at_once(store: JobStore, folder: AudioFolder, host: Host) -> None:
    host.failures, host.status, pauses = 9, 404, Pauses()
    handler = TranscriptionHandler(Transcribing(), host.fetcher(), folder, store, tries=3, sleep=pauses)
    result = await handler.handle(await leased(store, host.url))
    assert isinstance(result.said, Failed)
    assert (result.said.code, host.asked, pauses.asked) == (FailureCode.REMOTE_CONTENT, 1, [])
    assert "client error: 404" in result.said.message


async def test_a_host_that_names_a_time_is_asked_then(store: JobStore, folder: AudioFolder, host: Host) -> None:
    host.failures, host.status, host.headers, pauses = 1, 429, {"Retry-After": "17"}, Pauses()
    handler = TranscriptionHandler(Transcribing(), host.fetcher(), folder, store, sleep=pauses)
    assert (await handler.handle(await leased(store, host.url))).said == TRANSCRIPT
    assert (host.asked, pauses.asked) == (2, [17.0])


async def test_a_host_that_asks_for_a_long_time_is_not_waited_for_beyond_a_minute(
    store: JobStore, folder: AudioFolder, host: Host
) -> None:
    host.failures, host.headers, pauses = 1, {"Retry-After": "3000"}, Pauses()
    handler = TranscriptionHandler(Transcribing(), host.fetcher(), folder, store, sleep=pauses)
    await handler.handle(await leased(store, host.url))
    assert pauses.asked == [60.0]


class FullAtFirst(AudioFolder):
    """On a disk that has no room for the first download."""

    tried = 0

    async def keep(self, received: Path, job_id: str) -> None:
        self.tried += 1
        if self.tried == 1:
            raise StorageFull
        await super().keep(received, job_id)


async def test_our_own_full_disk_is_not_the_jobs_fault(store: JobStore, tmp_path: Path, host: Host) -> None:
    folder = FullAtFirst(tmp_path / "audio")
    folder.create()
    handler = TranscriptionHandler(Transcribing(), host.fetcher(), folder, store, tries=1, sleep=Pauses())
    assert (await handler.handle(await leased(store, host.url))).said == TRANSCRIPT
    assert host.asked == 2


async def test_cleaning_up_after_a_job_deletes_its_audio(store: JobStore, folder: AudioFolder) -> None:
    await store.accept(request(), MEDIA)
    (job,) = await store.lease(1)
    folder.path(job.id).write_bytes(SOUND)
    handler = TranscriptionHandler(Transcribing(), unused_fetcher(), folder, store)
    await handler.clean_up(job)
    await handler.clean_up(job)
    assert not folder.path(job.id).exists()
