"""engine.overhead and engine.submit: what the server adds to its recogniser, and how soon it says that it has a job.

The recogniser called directly decodes the same file in a process of its own, with its model loaded and warm; the engine
gets the file over HTTP and is done when the delivery is committed. They take turns, so that a machine that changes its
mood changes it for both.
"""

from __future__ import annotations

import http.client
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import TypeVar

from engine.recognisers.base import Spec
from engine.settings import EngineSection
from tests.bench.hearing import Listener, listeners
from tests.bench.stand import Result, Scale, started
from tests.clips import RATE, clips
from tests.clips.sounds import joined, wav
from tests.ports import free_port

MIB = 1024 * 1024
_POLL_SECONDS = 0.001
_REST_SECONDS = 0.5  # OpenMP's threads spin for 0.2 s before they sleep
_WARM_UP = 10

Sound = TypeVar("Sound")
Took = TypeVar("Took")


@dataclass(frozen=True, slots=True)
class Running:
    """An engine that takes requests, its database, and its process."""

    port: int
    database: Path
    pid: int

    def submit(self, connection: http.client.HTTPConnection, audio: bytes) -> str:
        """The request id of a job that has a callback, which nobody delivers here."""
        connection.request("POST", "/v1/listen?callback=http://127.0.0.1:8080/hook", body=audio)
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer
        request_id: str = json.loads(answer)["request_id"]
        return request_id

    def connect(self) -> closing[http.client.HTTPConnection]:
        return closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60))

    def reader(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True))


@contextmanager
def engine(workers: int | None = 1, **settings: str) -> Iterator[Running]:
    """A running engine in a folder of its own, which is killed at the end. None: the default number of workers.

    `settings` are of [engine], such as live__sessions.
    """
    with TemporaryDirectory(prefix="outspoken-bench-") as folder:
        port, database = free_port(), Path(folder) / "outspoken.db"
        log = Path(folder) / "engine.log"
        with log.open("wb") as out:
            process = started("engine", out, _environment(port, database, workers, settings))
        try:
            while b"engine.ready" not in log.read_bytes():
                assert process.poll() is None, log.read_text()
                time.sleep(0.02)
            yield Running(port, database, process.pid)
        finally:
            process.kill()
            process.wait()


def _environment(port: int, database: Path, workers: int | None, more: dict[str, str]) -> dict[str, str]:
    """Settings for an engine under measurement, and none that a developer may have exported."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OUTSPOKEN_")}
    settings = {
        "OUTSPOKEN_OUTBOX__URL": f"sqlite:///{database}",
        "OUTSPOKEN_OUTBOX__GUARD__ALLOW_NETWORKS": "127.0.0.0/8",
        "OUTSPOKEN_ENGINE__AUDIO_DIR": str(database.parent / "audio"),
        "OUTSPOKEN_ENGINE__PORT": str(port),
    }
    chosen = {f"OUTSPOKEN_ENGINE__{name.upper()}": value for name, value in more.items()}
    return inherited | settings | chosen | ({"OUTSPOKEN_ENGINE__WORKERS": str(workers)} if workers else {})


@cache
def speech(seconds: float, start: float = 0.0) -> bytes:
    """So many seconds of the English clips, as a 16 kHz WAV file."""
    whole = joined(clips("en")).pcm
    return wav(whole[2 * int(start * RATE) : 2 * int((start + seconds) * RATE)])


def loaded(workers: int) -> Spec:
    """What an engine with so many workers loads when nothing is configured."""
    return EngineSection(workers=workers).specs()["default"]


def overhead(scale: Scale) -> Result:
    """Submission to commit over the recogniser alone, and the seconds of both."""
    short, audio = speech(1.0), speech(scale.audio_seconds)
    with engine() as running, listeners(("product",), loaded(workers=1)) as alone:
        both = (partial(_served, running), partial(_direct, alone["product"]))
        for hear in both:
            hear(short)  # warm from here on
        took = [[rested(hear, audio) for hear in both] for _ in range(scale.turns)]
    served, direct = (median(times) for times in zip(*took, strict=True))
    return {
        "engine.overhead.ratio": served / direct,
        "engine.overhead.served_s": served,
        "engine.overhead.direct_s": direct,
    }


def rested(hear: Callable[[Sound], Took], sound: Sound) -> Took:
    """What `hear` measures, once the threads of the one before have stopped to wait for more work."""
    time.sleep(_REST_SECONDS)
    return hear(sound)


def _served(running: Running, audio: bytes) -> float:
    """Seconds from the connection to the commit of the delivery."""
    with running.reader() as watch, running.connect() as connection:
        began = time.perf_counter()
        request_id = running.submit(connection, audio)
        while not watch.execute(
            "SELECT EXISTS (SELECT 1 FROM outspoken_deliveries WHERE id = ?)", (request_id,)
        ).fetchone()[0]:
            time.sleep(_POLL_SECONDS)
        return time.perf_counter() - began


def _direct(alone: Listener, audio: bytes) -> float:
    return alone.hear(audio).seconds


def submit(scale: Scale) -> Result:
    """Milliseconds from the first byte of a 1 MiB upload to its 200, one after another, while two jobs run."""
    audio = speech(MIB / (2 * RATE))
    with engine(workers=2) as running, running.connect() as connection:
        for _ in range(_WARM_UP):
            running.submit(connection, audio)
        took = [_timed(running, connection, audio) for _ in range(scale.uploads)]
        _two_jobs_run(running)
    percentiles = quantiles(took, n=100, method="inclusive")
    return {"engine.submit.p50_ms": percentiles[49] * 1e3, "engine.submit.p99_ms": percentiles[98] * 1e3}


def _timed(running: Running, connection: http.client.HTTPConnection, audio: bytes) -> float:
    began = time.perf_counter()
    running.submit(connection, audio)
    return time.perf_counter() - began


def _two_jobs_run(running: Running) -> None:
    with running.reader() as connection:
        (leased,) = connection.execute("SELECT count(*) FROM outspoken_jobs WHERE state = 'leased'").fetchone()
    assert leased == 2, f"{leased} jobs ran, not two: the numbers mean nothing"
