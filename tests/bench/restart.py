"""engine.restart: a full queue survives a kill, and how long the next engine takes to work it off.

The clips are silent and short, because what is measured is the queue and not a recogniser: each is uploaded, decoded,
heard and committed like any other.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from tests.acceptance.speech import silence
from tests.acceptance.stage import DEFAULTS, Process, Stage
from tests.bench.stand import Result, Scale

_SUBMITTED_AT_ONCE = 16
_POLL_SECONDS = 0.05

_UNFINISHED = "SELECT EXISTS (SELECT 1 FROM outspoken_jobs WHERE state IN ('queued', 'leased'))"


def restart(scale: Scale) -> Result:
    """How many of the accepted jobs were lost (no delivery, or no success), and the rest's finished jobs a second."""
    return asyncio.run(_restart(scale.queued))


async def _restart(count: int) -> Result:
    with TemporaryDirectory(prefix="outspoken-bench-") as folder:
        stage = Stage(Path(folder), 8080, engine__lease_seconds=1.0, **DEFAULTS)
        engine = await stage.engine()
        accepted = await _submit(stage, count)
        await engine.kill()
        before, began = _finished(stage), time.perf_counter()
        engine = await stage.engine()
        await _worked_off(stage, engine)
        took = time.perf_counter() - began
        await engine.stop()
        return {
            "engine.restart.lost": float(len(accepted - _finished(stage))),
            "engine.restart.jobs_per_s": (count - len(before)) / took,
        }


async def _submit(stage: Stage, count: int) -> set[str]:
    """The ids of so many accepted jobs."""
    audio, room = silence(0.2), asyncio.Semaphore(_SUBMITTED_AT_ONCE)
    url, query = f"{stage.engine_url}/v1/listen", {"callback": stage.callback_url}
    async with aiohttp.ClientSession() as session:

        async def one() -> str:
            async with room, session.post(url, params=query, data=audio) as response:
                assert response.status == 200, await response.text()
                request_id: str = (await response.json())["request_id"]
                return request_id

        return set(await asyncio.gather(*(one() for _ in range(count))))


async def _worked_off(stage: Stage, engine: Process) -> None:
    with closing(sqlite3.connect(f"file:{stage.database}?mode=ro", uri=True)) as connection:
        while connection.execute(_UNFINISHED).fetchone()[0]:
            assert engine.returncode is None, engine.words[-20:]
            await asyncio.sleep(_POLL_SECONDS)


def _finished(stage: Stage) -> set[str]:
    """The jobs that succeeded and whose delivery is in the outbox."""
    with closing(sqlite3.connect(f"file:{stage.database}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT id FROM outspoken_jobs JOIN outspoken_deliveries USING (id) WHERE outspoken_jobs.state = 'done'"
        )
        return {id_ for (id_,) in rows.fetchall()}
