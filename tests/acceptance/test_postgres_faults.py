"""PostgreSQL fails in every way that it has, under a relay at work: nothing is lost, and nobody has to start it anew.

`TESTS_FULL=1` cuts connections for longer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance.outage import Play, play
from tests.services.postgres import running, small_disk

FULL = bool(os.environ.get("TESTS_FULL"))
CUTS = 100 if FULL else 20
# A log that soon needs another file, and never more room than is there.
SMALL = ("max_wal_size=48MB", "min_wal_size=32MB", "wal_recycle=off")

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Play]:
    """A relay at work. Its leases are long: nothing that an outage leaves in doubt may wait for the end of one."""
    with running(durable=True) as server:
        async with play(tmp_path, server) as started:
            yield started


async def _restart(scene: Play, how: signal.Signals) -> None:
    await asyncio.to_thread(scene.server.stop, how)
    await scene.unready()
    await asyncio.to_thread(scene.server.start)
    await scene.recovers(f"restart by {how.name}", time.monotonic())


async def _cut(scene: Play) -> None:
    cut = 0
    for _ in range(CUTS):
        cut += await asyncio.to_thread(scene.server.cut)
        accepted = len(scene.producer.accepted)
        await scene.producer.until(lambda at=accepted: len(scene.producer.accepted) > at)  # type: ignore[misc]
    assert cut >= CUTS
    await scene.recovers(f"{cut} connections cut", time.monotonic())


async def _pause(scene: Play) -> None:
    scene.server.pause()
    try:
        await scene.unready()
    finally:
        scene.server.resume()
    await scene.recovers("a pause", time.monotonic())


async def test_nothing_is_lost_though_the_server_restarts_crashes_hangs_up_and_freezes(
    scene: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    await _restart(scene, signal.SIGINT)
    await _restart(scene, signal.SIGQUIT)
    await _cut(scene)
    await _pause(scene)
    with capsys.disabled():
        print(scene.told())
    assert scene.relay.returncode is None


@pytest.mark.skipif(os.geteuid() != 0, reason="to mount a small disk takes root")
async def test_nothing_is_lost_though_the_disk_of_the_server_is_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk() as disk, running(*SMALL, durable=True, on=disk.folder) as server:
        async with play(tmp_path, server) as scene:
            disk.fill()
            # A relay changes rows where they are: there may be room for that.
            await scene.producer.until(lambda: scene.producer.refused["full"] > 10)
            disk.free()
            await scene.recovers("disk full under the tables", time.monotonic())

            disk.fill()
            crashing = asyncio.create_task(asyncio.to_thread(server.crash_for_want_of_room))
            await scene.producer.until(lambda: scene.producer.refused["unavailable"] > 0)
            await scene.unready()
            await crashing
            disk.free()
            await asyncio.to_thread(server.start)
            await scene.recovers("disk full under the log, and a crash of the server", time.monotonic())
            with capsys.disabled():
                print(scene.told())


async def test_nothing_is_lost_though_a_standby_takes_the_place_of_the_primary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At first the address leads to a standby that nobody has promoted: it can be read and not written."""
    with running(durable=True) as primary, running(durable=True, primary=primary) as standby:
        await asyncio.to_thread(primary.wait_for_standby)
        async with play(tmp_path, primary) as scene:
            await asyncio.to_thread(primary.stop, signal.SIGQUIT)
            await scene.unready()
            await asyncio.to_thread(standby.move_to, primary.port)
            before = len(scene.producer.accepted)
            refused = scene.producer.refused["read_only"]
            await scene.producer.until(lambda: scene.producer.refused["read_only"] > refused + 10)
            assert (scene.watch.status, len(scene.producer.accepted)) == (503, before)
            await asyncio.to_thread(standby.promote)
            await scene.recovers("a promoted standby", time.monotonic())
            with capsys.disabled():
                print(scene.told())
