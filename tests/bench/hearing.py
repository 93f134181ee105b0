"""Hears each file whose path comes in, in the way that is named, and says what was said in it and what that took.

    python -m tests.bench.hearing SPEC WAY...

WAY is `product`: the engine's recogniser as its workers use it, without a server around it. Or it is faster-whisper
as its own README calls it: `sequential`, `vad` (the same with its voice detector) or `batched`, with the same model,
beam and threads. SPEC is an engine.recognisers.base.Spec as JSON. Every line that comes in is a way and a path; every
answer is one line, a Heard as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
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
    """One way of a process that has its model loaded, and the folder of the files that it is asked to hear."""

    way: str
    process: subprocess.Popen[str]
    folder: Path

    def hear(self, audio: bytes) -> Heard:
        """A file with these bytes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        path = self.folder / "audio"
        path.write_bytes(audio)
        self.process.stdin.write(f"{self.way} {path}\n")
        self.process.stdin.flush()
        return Heard(**json.loads(self.process.stdout.readline()))


@contextmanager
def listeners(ways: Sequence[str], spec: Spec) -> Iterator[dict[str, Listener]]:
    """One process for the length of a block, by the ways in which it hears; those of faster-whisper share a model."""
    command = [sys.executable, "-m", "tests.bench.hearing", json.dumps(asdict(spec)), *ways]
    with (
        TemporaryDirectory(prefix="outspoken-bench-") as folder,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            yield {way: Listener(way, process, Path(folder)) for way in ways}
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


def faster_whisper(spec: Spec) -> dict[str, Callable[[str], Words]]:
    """The library that the recogniser stands on, without it."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    model = WhisperModel(spec.model, device="cpu", compute_type="int8", cpu_threads=spec.threads)

    def hear(path: str, transcribe: Callable[..., Any] = model.transcribe, **how: Any) -> Words:
        segments, _ = transcribe(path, beam_size=spec.beam_size, word_timestamps=True, **how)
        return [(word.word, float(word.start), float(word.end)) for segment in segments for word in segment.words or ()]

    batched = BatchedInferencePipeline(model).transcribe
    return {
        "sequential": hear,
        "vad": partial(hear, vad_filter=True),
        "batched": partial(hear, transcribe=batched, batch_size=8),
    }


def main(spec: Spec, ways: Sequence[str]) -> None:
    """Until the input ends. As polite as a worker: what else runs on the machine shall slow all alike."""
    os.nice(NICENESS)
    hear = {"product": product(spec)} if "product" in ways else {}
    hear |= faster_whisper(spec) if {*ways} & {*FASTER_WHISPER} else {}
    for line in sys.stdin:
        way, path = line.rstrip("\n").split(" ", 1)
        began, burnt = time.perf_counter(), time.process_time()
        words = hear[way](path)
        heard = Heard(words, time.perf_counter() - began, time.process_time() - burnt)
        print(json.dumps(asdict(heard)), flush=True)


if __name__ == "__main__":
    main(Spec(**json.loads(sys.argv[1])), sys.argv[2:])
