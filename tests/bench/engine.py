"""engine.overhead and engine.submit: what the server adds to its recogniser, and how soon it says that it has a job.

The recogniser called directly decodes the same file in a process of its own, with its model loaded and warm; the engine
gets the file over HTTP and is done when the delivery is committed. They take turns, so that a machine that changes its
mood changes it for both.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import sqlite3
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import TypeVar

from engine.recognisers.base import Spec
from engine.settings import read
from tests.acceptance.speech import RATE, first_seconds
from tests.acceptance.stage import ROOT, free_port
from tests.bench.stand import Result, Scale

ENGINE = (str(Path(sys.executable).with_name("engine")), "run")
MIB = 1024 * 1024
WHISPER = f"""
[engine]
default_model = "tiny"
[engine.models]
tiny = "tiny"
[engine.recognisers.tiny]
kind = "whisper"
model = "{ROOT / "tests" / "models" / "digits"}"
device = "cpu"
"""
"""The small model of the tests: quick, so that whatever the server adds shows."""

_CLIP_SECONDS = 11.0  # of the demo clip, which is repeated
_POLL_SECONDS = 0.001
_REST_SECONDS = 0.5  # OpenMP's threads spin for 0.2 s before they sleep
_WARM_UP = 10

Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True)
class Running:
    """An engine that takes requests, and its database."""

    port: int
    database: Path

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

    def spec(self, recogniser: str) -> Spec:
        """What the engine loads under this name."""
        config = self.database.with_name("outspoken.toml")
        return read(config, {"OUTSPOKEN_ENGINE__WORKERS": "1"}).engine.specs()[recogniser]


@contextmanager
def engine(config: str = "", workers: int = 1) -> Iterator[Running]:
    """A running engine in a folder of its own, which is killed at the end."""
    with TemporaryDirectory(prefix="outspoken-bench-") as folder:
        running = Running(free_port(), Path(folder) / "outspoken.db")
        (Path(folder) / "outspoken.toml").write_text(config)
        log = Path(folder) / "engine.log"
        with log.open("wb") as out:
            process = subprocess.Popen(ENGINE, stdout=out, env=_environment(running, workers))
        try:
            while b"engine.ready" not in log.read_bytes():
                assert process.poll() is None, log.read_text()
                time.sleep(0.02)
            yield running
        finally:
            process.kill()
            process.wait()


def _environment(running: Running, workers: int) -> dict[str, str]:
    """Settings for an engine under measurement, and none that a developer may have exported."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OUTSPOKEN_")}
    return inherited | {
        "OUTSPOKEN_CONFIG": str(running.database.with_name("outspoken.toml")),
        "OUTSPOKEN_OUTBOX__URL": f"sqlite:///{running.database}",
        "OUTSPOKEN_OUTBOX__GUARD__ALLOW_NETWORKS": "127.0.0.0/8",
        "OUTSPOKEN_ENGINE__AUDIO_DIR": str(running.database.parent / "audio"),
        "OUTSPOKEN_ENGINE__PORT": str(running.port),
        "OUTSPOKEN_ENGINE__WORKERS": str(workers),
    }


@cache
def speech(seconds: float) -> bytes:
    """So many seconds of the demo clip, again and again, as a 16 kHz WAV file."""
    with wave.open(io.BytesIO(first_seconds(_CLIP_SECONDS)), "rb") as clip:
        pcm = clip.readframes(clip.getnframes())
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((pcm * (int(seconds / _CLIP_SECONDS) + 1))[: int(seconds * RATE) * 2])
    return out.getvalue()


def pocketsphinx(scale: Scale) -> Result:
    """Submission to commit over the recogniser alone, and the seconds of both."""
    return _overhead("pocketsphinx", "", "pocketsphinx", scale.audio_seconds, turns=1)


def whisper(scale: Scale) -> Result:
    """The same for Whisper."""
    return _overhead("whisper", WHISPER, "tiny", scale.audio_seconds, scale.turns)


def _overhead(key: str, config: str, recogniser: str, seconds: float, turns: int) -> Result:
    short, audio = speech(1.0), speech(seconds)
    with engine(config) as running, _recogniser(running.spec(recogniser)) as alone:
        _served(running, short), alone.hear(short)  # both are warm from here on
        took = [(_rested(_served, running, audio), _rested(Alone.hear, alone, audio)) for _ in range(turns)]
    served, direct = (median(times) for times in zip(*took, strict=True))
    return {
        f"engine.overhead.{key}": served / direct,
        f"engine.overhead.{key}.served_s": served,
        f"engine.overhead.{key}.direct_s": direct,
    }


def _rested(hear: Callable[[Subject, bytes], float], subject: Subject, audio: bytes) -> float:
    """What `hear` measures, once the threads of the one before have stopped to wait for more work."""
    time.sleep(_REST_SECONDS)
    return hear(subject, audio)


def _served(running: Running, audio: bytes) -> float:
    """Seconds from the connection to the commit of the delivery."""
    with running.reader() as watch, running.connect() as connection:
        began = time.perf_counter()
        request_id = running.submit(connection, audio)
        while not watch.execute("SELECT EXISTS (SELECT 1 FROM deliveries WHERE id = ?)", (request_id,)).fetchone()[0]:
            time.sleep(_POLL_SECONDS)
        return time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class Alone:
    """The process that has a recogniser and nothing else, and the folder of the files that it is asked to hear."""

    process: subprocess.Popen[str]
    folder: Path

    def hear(self, audio: bytes) -> float:
        """Seconds for the whole file."""
        assert self.process.stdin
        assert self.process.stdout
        path = self.folder / "audio.wav"
        path.write_bytes(audio)
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


@contextmanager
def _recogniser(spec: Spec) -> Iterator[Alone]:
    command = [sys.executable, "-m", "tests.bench.engine_alone", json.dumps(asdict(spec))]
    with (
        TemporaryDirectory(prefix="outspoken-bench-") as folder,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            yield Alone(process, Path(folder))
        finally:
            process.kill()


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
        (leased,) = connection.execute("SELECT count(*) FROM jobs WHERE state = 'leased'").fetchone()
    assert leased == 2, f"{leased} jobs ran, not two: the numbers mean nothing"
