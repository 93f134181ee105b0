"""Hears each file whose path comes in, in one of these ways, and says what was said in it and what that took.

    python -m tests.bench.hearing WAY SPEC

WAY is `product`: the engine's recogniser as its workers use it, without a server around it. Or it is faster-whisper
as its own README calls it: `sequential`, `vad` (the same with its voice detector) or `batched`, with the same model,
beam and threads. SPEC is an engine.recognisers.base.Spec as JSON. Every answer is one line, a Heard as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine.audio.decode import decode
from engine.recognisers.base import RecognitionOptions, Spec
from engine.recognisers.workers.worker import NICENESS, load

WAYS = ("product", "sequential", "vad", "batched")
FASTER_WHISPER = WAYS[1:]

Words = list[tuple[str, float, float]]
"""What was said, with the seconds at which each word begins and ends."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The words of one file, and what it took to hear them, decoding included, in seconds."""

    words: Words
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Listener:
    """A process that hears in one way, with its model loaded, and the folder of the files that it is asked to hear."""

    process: subprocess.Popen[str]
    folder: Path

    def hear(self, audio: bytes) -> Heard:
        """A file with these bytes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        path = self.folder / "audio"
        path.write_bytes(audio)
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        return Heard(**json.loads(self.process.stdout.readline()))


@contextmanager
def listener(way: str, spec: Spec) -> Iterator[Listener]:
    """For the length of a block."""
    command = [sys.executable, "-m", "tests.bench.hearing", way, json.dumps(asdict(spec))]
    with (
        TemporaryDirectory(prefix="outspoken-bench-") as folder,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            yield Listener(process, Path(folder))
        finally:
            process.kill()


def product(spec: Spec) -> Callable[[str], Words]:
    """The recogniser as a worker has it."""
    recogniser = load(spec)

    def hear(path: str) -> Words:
        with decode(path, split=False) as audio:
            (channel,) = recogniser.transcribe(audio, RecognitionOptions()).channels
        return [(word.written or word.text, word.start, word.end) for word in channel.words]

    return hear


def faster_whisper(way: str, spec: Spec) -> Callable[[str], Words]:
    """The library that the recogniser stands on, without it."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    model = WhisperModel(spec.model, device="cpu", compute_type="int8", cpu_threads=spec.threads)
    ways: dict[str, dict[str, Any]] = {"sequential": {}, "vad": {"vad_filter": True}, "batched": {"batch_size": 8}}
    transcribe = BatchedInferencePipeline(model).transcribe if way == "batched" else model.transcribe

    def hear(path: str) -> Words:
        segments, _ = transcribe(path, beam_size=spec.beam_size, word_timestamps=True, **ways[way])
        return [(word.word, float(word.start), float(word.end)) for segment in segments for word in segment.words or ()]

    return hear


def main(way: str, spec: Spec) -> None:
    """Until the input ends. As polite as a worker: what else runs on the machine shall slow all alike."""
    os.nice(NICENESS)
    hear = product(spec) if way == "product" else faster_whisper(way, spec)
    for line in sys.stdin:
        began, burnt = time.perf_counter(), time.process_time()
        words = hear(line.strip())
        heard = Heard(words, time.perf_counter() - began, time.process_time() - burnt)
        print(json.dumps(asdict(heard)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Spec(**json.loads(sys.argv[2])))
