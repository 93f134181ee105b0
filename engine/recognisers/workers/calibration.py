"""What a recogniser costs on this machine, found out by having it transcribe a few seconds of speech."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.resources import as_file, files

from engine.audio.decode import decode
from engine.audio.pcm import SAMPLE_BYTES, SAMPLE_RATE
from engine.events import LiveOptions
from engine.recognisers.whisper.passes import Costs, Hypothesis, Pass

_TRIES = 3
_SECONDS = 1.0
"""With a slow model, or on a machine that has much to do, one try is enough."""

MakePass = Callable[[Pass, LiveOptions], Hypothesis]


def measure(make: MakePass, passes: int, *, speakers: bool = False) -> Costs:
    """What either kind of pass takes while as many are made as can be: cores that share caches and memory, or are one
    core's two threads, slow each other down. The least of a few tries, because what else the machine does at the moment
    is no part of it. With `speakers` it is also found out what it takes to tell who speaks."""
    pcm, plain = sample(), LiveOptions()
    with ThreadPoolExecutor(passes) as threads:
        make(Pass(0.0, pcm, final=True), plain)  # the first one warms up
        wanted = [(True, plain), (False, plain), *([(True, replace(plain, speakers=True))] if speakers else [])]
        took = [_least(make, Pass(0.0, pcm, final=final), options, passes, threads) for final, options in wanted]
    seconds = len(pcm) / SAMPLE_BYTES / SAMPLE_RATE
    final, interim, telling = (*took, took[0])[:3]
    return Costs(final=final / seconds, interim=interim, speakers=max(0.0, telling - final) / seconds)


def sample() -> bytes:
    """A sentence of synthetic speech, s16le at 16 kHz: what lies between two pauses."""
    with (
        as_file(files("engine.recognisers.workers") / "sample.opus") as path,
        decode(str(path), None, split=False) as audio,
    ):
        return b"".join(block for (block,) in audio)


def _least(make: MakePass, wanted: Pass, options: LiveOptions, passes: int, threads: ThreadPoolExecutor) -> float:
    began = time.perf_counter()
    took: list[float] = []
    while not took or (len(took) < _TRIES and time.perf_counter() - began < _SECONDS):
        before = time.perf_counter()
        list(threads.map(lambda _: make(wanted, options), range(passes)))
        took.append(time.perf_counter() - before)
    return min(took)
