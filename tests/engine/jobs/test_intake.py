"""Accepted means on disk: the audio, then the row, then the answer; or nothing at all."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from engine.errors import StorageFull
from engine.jobs.audio_store import GRACE_SECONDS
from engine.jobs.folder import AudioFolder
from engine.jobs.intake import Intake
from engine.jobs.store import JobStore
from tests.engine.jobs.conftest import HEARD, IN_A_FILE, MEDIA, UNFETCHED, Rows, SmallDisk, delivery, request


@pytest.fixture
def folder(tmp_path: Path) -> AudioFolder:
    folder = AudioFolder(tmp_path / "audio")
    folder.create()
    return folder


@pytest.fixture
def upload(folder: AudioFolder) -> Path:
    path = folder.incoming / "upload"
    path.write_bytes(b"sound")
    return path


async def test_an_accepted_job_has_its_audio_and_is_announced(
    store: JobStore, folder: AudioFolder, upload: Path, rows: Rows
) -> None:
    woken = asyncio.Event()
    await Intake(store, folder, woken.set).accept(request(), MEDIA, upload)
    assert folder.path("job-1").read_bytes() == b"sound"
    assert not upload.exists()
    assert rows("SELECT id, has_audio FROM outspoken_jobs") == [("job-1", 1)]
    assert woken.is_set()


async def test_audio_behind_a_url_is_left_for_later(store: JobStore, folder: AudioFolder, rows: Rows) -> None:
    await Intake(store, folder, lambda: None).accept(request(audio_url="http://127.0.0.1:8080/a.wav"), UNFETCHED, None)
    assert rows("SELECT id, has_audio FROM outspoken_jobs") == [("job-1", 0)]


@IN_A_FILE
async def test_on_a_full_disk_nothing_is_half_stored(
    disk: SmallDisk, store_on_disk: JobStore, folder: AudioFolder, upload: Path, rows: Rows
) -> None:
    await disk.fill()
    big = request(audio_url="x" * 1_000_000)
    with pytest.raises(StorageFull):
        await Intake(store_on_disk, folder, _never).accept(big, MEDIA, upload)
    assert rows("SELECT id FROM outspoken_jobs") == []
    assert [path for path in folder.path("").iterdir() if path.is_file()] == []


async def test_a_caller_who_leaves_while_the_job_is_committed_does_not_cost_it_its_audio(
    store: JobStore, folder: AudioFolder, upload: Path, rows: Rows
) -> None:
    accepting = asyncio.create_task(Intake(store, folder, _never).accept(request(), MEDIA, upload))
    while not rows("SELECT id FROM outspoken_jobs"):
        await asyncio.sleep(0)
    accepting.cancel()  # the row is there, and the task has yet to hear of it
    with pytest.raises(asyncio.CancelledError):
        await accepting
    assert folder.path("job-1").exists()


def _never() -> None:
    raise AssertionError("nobody may hear of this job")


async def test_the_start_clears_what_kills_left_and_nothing_else(store: JobStore, folder: AudioFolder) -> None:
    for job_id in ("waiting", "ended"):
        await store.accept(request(job_id), MEDIA)
    running, ended = await store.lease(2)
    assert (running.id, ended.id) == ("waiting", "ended")
    await store.finish(ended, HEARD, delivery("ended"))
    for name in ("waiting", "ended", "orphan"):
        folder.path(name).write_bytes(b"sound")
    assert await folder.tidy(store.need_audio, time.time()) == 1
    assert {path.name for path in folder.path("").iterdir()} == {"waiting", "orphan", "incoming"}
    later = time.time() + GRACE_SECONDS + 1
    assert await folder.tidy(store.need_audio, later) == 1
    assert {path.name for path in folder.path("").iterdir()} == {"waiting", "incoming"}


def test_the_folder_is_its_owners_alone(folder: AudioFolder) -> None:
    assert {path.stat().st_mode & 0o077 for path in (folder.path(""), folder.incoming)} == {0}
