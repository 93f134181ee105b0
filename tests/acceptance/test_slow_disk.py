"""A disk that takes long to flush: what was committed is sent at once, and only its settlement waits."""

from __future__ import annotations

import asyncio
import subprocess
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

from relay import outbox
from relay.outbox.model import NewDelivery
from tests.acceptance.receiver import Arrival, Reply, callback, receiving
from tests.acceptance.stage import Process, Stage

FLUSH_SECONDS = 0.03
PAIRS = 12

# The disk is slow for whoever has this loaded, while the file is there.
_SLOW = f"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int flush(const char *name, int descriptor) {{
    const char *slow = getenv("SLOW_DISK");
    if (slow && access(slow, F_OK) == 0) usleep({FLUSH_SECONDS * 1e6:.0f});
    return ((int (*)(int)) dlsym(RTLD_NEXT, name))(descriptor);
}}

int fsync(int descriptor) {{ return flush("fsync", descriptor); }}
int fdatasync(int descriptor) {{ return flush("fdatasync", descriptor); }}
"""

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("g++")]


@dataclass
class Arrivals:
    """When the next request came."""

    at: asyncio.Future[float]

    def handle(self, _: Arrival, reply: Reply) -> None:
        self.at.set_result(time.perf_counter())
        reply(204)


@dataclass
class Sender:
    """A producer beside a relay on a disk that is slow while `slow` exists."""

    stage: Stage
    relay: Process
    arrivals: Arrivals
    slow: Path

    async def took(self, number: int) -> tuple[float, float]:
        """Seconds from a commit to its request, and from there until its settlement was durable."""
        self.arrivals.at = asyncio.get_running_loop().create_future()
        with closing(outbox.connect(self.stage.database)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            outbox.add(connection, NewDelivery(str(number), callback(self.stage.callback_port, 0), bytes(2048)))
            connection.execute("COMMIT")
            committed = time.perf_counter()
            with closing(outbox.Notifier(self.stage.database)) as notifier:
                notifier.notify()
            arrived = await self.arrivals.at
        await self.relay.until(lambda: str(number) in self.relay.ended)
        return arrived - committed, time.perf_counter() - arrived

    async def pair(self, number: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """One on the disk as it is, then one on the slow one."""
        swift = await self.took(2 * number)
        self.slow.touch()
        slow = await self.took(2 * number + 1)
        self.slow.unlink()
        return swift, slow


async def test_what_was_committed_is_sent_as_soon_on_a_disk_that_takes_long_to_flush(tmp_path: Path) -> None:
    arrivals = Arrivals(asyncio.get_running_loop().create_future())
    async with receiving(arrivals.handle) as port:
        stage = Stage(tmp_path, port)
        slow = tmp_path / "slow"
        stage.env |= {"LD_PRELOAD": str(_compiled(tmp_path)), "SLOW_DISK": str(slow)}
        relay = await stage.relay()
        sender = Sender(stage, relay, arrivals, slow)
        await sender.took(-1)  # it connects
        pairs = [await sender.pair(number) for number in range(PAIRS)]
        await relay.stop()

    assert min(settled for _, (_, settled) in pairs) > FLUSH_SECONDS, "the disk was not slow"
    assert median(slow - swift for (swift, _), (slow, _) in pairs) < FLUSH_SECONDS / 2


def _compiled(folder: Path) -> Path:
    source, library = folder / "slow.c", folder / "slow.so"
    source.write_text(_SLOW)
    subprocess.run(["g++", "-x", "c", "-shared", "-fPIC", "-o", library, source], check=True)
    return library
