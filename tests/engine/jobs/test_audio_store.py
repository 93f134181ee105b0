"""Where audio lies: the same in a folder and in a bucket, for every engine that looks there."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.jobs.archive import Archive, Upload
from engine.jobs.audio_store import GRACE_SECONDS, AudioStore
from engine.jobs.bucket import FOLDER, AudioBucket, BucketLocation
from engine.jobs.folder import AudioFolder
from engine.jobs.handler import TranscriptionHandler
from engine.jobs.intake import Intake
from engine.jobs.store import JobStore
from relay.outbox.errors import StoreUnavailable
from relay.outbox.store import Database
from tests.engine.jobs.conftest import (
    HEARD,
    MEDIA,
    TRANSCRIPT,
    Pauses,
    Rows,
    Transcribing,
    delivery,
    request,
    unused_fetcher,
)
from tests.services.s3 import Bucketry, Cable

SECRET = "f2b7-nobody-may-see-this"


def at(url: str, bucket: str) -> BucketLocation:
    return BucketLocation(bucket, "some/where", url, "eu-central-1", "access-key", SECRET)


def created(store: AudioStore) -> AudioStore:
    store.create()
    return store


Open = Callable[[str], AudioStore]


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.acceptance)])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the one store as an engine would, on a machine of that name."""
    if request.param == "folder":
        return lambda _: created(AudioFolder(tmp_path / "audio"))
    s3: Bucketry = request.getfixturevalue("s3")
    place = at(s3.url, s3.create())
    return lambda machine: created(AudioBucket(place, tmp_path / machine / "incoming"))


@pytest.fixture
def audio(opened: Open) -> AudioStore:
    return opened("here")


async def put(audio: AudioStore, name: str, sound: bytes = b"sound") -> None:
    with audio.arriving(name) as path:
        path.write_bytes(sound)
        await audio.keep(path, name)
        assert not path.exists(), "it was moved away"


async def heard(audio: AudioStore, name: str) -> bytes:
    async with audio.at_hand(name) as path:
        return path.read_bytes()


async def there(audio: AudioStore, *names: str) -> set[str]:
    found = set()
    for name in names:
        try:
            await heard(audio, name)
            found.add(name)
        except FileNotFoundError:
            continue
    return found


async def test_what_one_engine_keeps_another_has_at_hand_byte_for_byte(opened: Open) -> None:
    sound = os.urandom(12_000_000)
    here, elsewhere = opened("here"), opened("elsewhere")
    await put(here, "job-1", sound)
    assert await heard(elsewhere, "job-1") == sound
    assert list(here.incoming.iterdir()) == list(elsewhere.incoming.iterdir()) == []


async def test_what_is_not_there_is_said(audio: AudioStore) -> None:
    with pytest.raises(FileNotFoundError):
        await heard(audio, "job-1")
    assert list(audio.incoming.iterdir()) == []


async def test_an_upload_and_the_job_made_of_it_go_independently(audio: AudioStore) -> None:
    await put(audio, "up-1")
    await audio.link("up-1", "job-1")
    await audio.remove("up-1")
    await audio.remove("up-1")
    assert await there(audio, "up-1", "job-1") == {"job-1"}
    with pytest.raises(FileNotFoundError):
        await audio.link("up-1", "job-2")


async def test_what_kills_left_is_cleared_away_and_nothing_else(audio: AudioStore, store: JobStore) -> None:
    for job_id in ("waiting", "ended"):
        await store.accept(request(job_id), MEDIA)
    _, ended = await store.lease(2)
    await store.finish(ended, HEARD, delivery("ended"))
    names = ("waiting", "ended", "orphan")
    for name in names:
        await put(audio, name)
    assert await audio.tidy(store.need_audio, time.time()) == 1
    assert await there(audio, *names) == {"waiting", "orphan"}
    assert await audio.tidy(store.need_audio, time.time() + GRACE_SECONDS + 5) == 1
    assert await there(audio, *names) == {"waiting"}


async def test_an_upload_becomes_a_job_that_is_transcribed_and_forgotten(
    audio: AudioStore, store: JobStore, database: Database
) -> None:
    archive = Archive(database, audio)
    with audio.arriving("up-1") as received:
        received.write_bytes(b"sound")
        await archive.add_upload(Upload("up-1", None, "a.wav", "wav", 5, "ab" * 32, 1.0, 1, 1.0), received)
    await Intake(store, audio, lambda: None).accept(replace(request(), upload_id="up-1"), MEDIA, None)
    (job,) = await store.lease(1)
    transcriber = Transcribing()
    handler = TranscriptionHandler(transcriber, unused_fetcher(), audio, store)
    await handler.handle(job)
    await handler.clean_up(job)
    assert transcriber.given == [b"sound"]
    assert await there(audio, "up-1", "job-1") == {"up-1"}
    async with archive.audio("job-1", None) as path:
        assert path is None
    await archive.close()


# --- what only a bucket does


async def test_what_others_have_in_the_bucket_is_left_alone(s3: Bucketry, tmp_path: Path, store: JobStore) -> None:
    bucket = s3.create()
    s3.put(bucket, "some/where/else.txt", b"theirs")
    s3.put(bucket, f"some/where/{FOLDER}-too/else.txt", b"theirs")
    audio = created(AudioBucket(at(s3.url, bucket), tmp_path))
    await put(audio, "orphan")
    assert f"some/where/{FOLDER}/orphan" in s3.listing(bucket)
    assert await audio.tidy(store.need_audio, time.time() + GRACE_SECONDS + 5) == 1
    assert s3.listing(bucket).count("else.txt") == 2


@pytest.fixture
async def cable(s3: Bucketry) -> AsyncIterator[Cable]:
    cable = Cable(s3.port)
    await cable.plug_in()
    yield cable
    await cable.pull_out()


@pytest.fixture
def far(cable: Cable, s3: Bucketry, tmp_path: Path) -> AudioStore:
    """A bucket whose cable can be pulled out."""
    return created(AudioBucket(at(cable.url, s3.create()), tmp_path / "incoming"))


async def test_a_store_that_is_away_is_said_without_secrets(far: AudioStore, cable: Cable, store: JobStore) -> None:
    await cable.pull_out()
    with far.arriving("job-1") as path:
        path.write_bytes(b"sound")
        for work in (
            far.keep(path, "job-1"),
            far.link("up-1", "job-1"),
            far.remove("job-1"),
            far.tidy(store.need_audio, 0.0),
            heard(far, "job-1"),
        ):
            with pytest.raises(StoreUnavailable, match=r"^engine\.audio\.url: s3://audio-.*/some/where: ") as away:
                await work
            assert (away.value.kind, SECRET in str(away.value)) == ("unavailable", False)
        assert path.exists(), "nothing was moved"


async def test_a_bucket_that_is_missing_is_said(s3: Bucketry, tmp_path: Path) -> None:
    audio = created(AudioBucket(at(s3.url, "not-there"), tmp_path))
    for work in (put(audio, "job-1"), heard(audio, "job-1"), audio.link("up-1", "job-1")):
        with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
            await work


async def test_what_cannot_be_kept_is_not_accepted(far: AudioStore, cable: Cable, store: JobStore, rows: Rows) -> None:
    await cable.pull_out()
    with far.arriving("job-1") as path:
        path.write_bytes(b"sound")
        with pytest.raises(StoreUnavailable):
            await Intake(store, far, lambda: None).accept(request(), MEDIA, path)
    assert rows("SELECT id FROM outspoken_jobs") == []


async def test_a_job_waits_for_the_store_to_come_back(far: AudioStore, cable: Cable, store: JobStore) -> None:
    await put(far, "job-1")
    await store.accept(request(), MEDIA)
    (job,) = await store.lease(1)
    await cable.pull_out()
    pauses = Pauses(3)
    handler = TranscriptionHandler(Transcribing(), unused_fetcher(), far, store, sleep=pauses)
    working = asyncio.create_task(handler.handle(job))
    await asyncio.wait_for(pauses.enough.wait(), 30)  # as many tries, all in vain
    assert not working.done()
    await cable.plug_in()
    assert (await asyncio.wait_for(working, 30)).said == TRANSCRIPT
