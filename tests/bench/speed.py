"""engine.time: what a transcription costs at the product, over faster-whisper called directly on the same audio.

The product is an engine with its own defaults, but for what live speech costs, which it does not find out beside: it
gets its files over HTTP, and is done when the last answer is there. faster-whisper has all cores, its model loaded, and
hears one file after another, in each of its three ways (see hearing.py). They take turns, so that a machine that
changes its mood changes it for all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

from tests.bench.engine import Running, engine, loaded, rested, speech
from tests.bench.hearing import FASTER_WHISPER, Listener, listeners
from tests.bench.stand import Result, Scale

Cost = tuple[float, float]
"""Seconds by the clock, and of all processors."""


def one(scale: Scale) -> Result:
    """One file of a minute."""
    return _compared("one", [speech(scale.audio_seconds)], scale.turns)


def twenty(scale: Scale) -> Result:
    """Twenty files of ten seconds, which come at once."""
    length, count = scale.audio_seconds / 6, min(20, scale.recordings)
    files = [speech(length, start=number * length) for number in range(count)]
    return _compared("twenty", files, max(1, scale.turns // 2))


def goals(name: str) -> dict[str, str]:
    """The keys of `one` and `twenty`, and what is wanted."""
    ratios = {f"{way}.{kind}": "" for way in FASTER_WHISPER for kind in ("ratio", "cpu_ratio")}
    wanted = ratios | {"sequential.ratio": "<= 1.05", "product_s": "", "product_cpu_s": ""}
    return {f"engine.time.{name}.{key}": goal for key, goal in wanted.items()}


def _compared(name: str, files: Sequence[bytes], turns: int) -> Result:
    spec = replace(loaded(workers=1), threads=os.cpu_count() or 1)
    # What live speech costs would be found out meanwhile, and taken for the product's.
    with engine(workers=None, preload="[]") as running, listeners(FASTER_WHISPER, spec) as alone:
        ways: dict[str, Callable[[Sequence[bytes]], Cost]] = {"product": partial(_served, running)}
        ways |= {way: partial(_direct, one) for way, one in alone.items()}
        for hear in ways.values():
            hear(files[:2])  # all are warm from here on
        took = [{way: rested(hear, files) for way, hear in ways.items()} for _ in range(turns)]
    return _ratios(f"engine.time.{name}", took)


def _ratios(key: str, took: Sequence[dict[str, Cost]]) -> Result:
    seconds = {way: median(turn[way][0] for turn in took) for way in took[0]}
    cpu = {way: median(turn[way][1] for turn in took) for way in took[0]}
    found = {f"{key}.product_s": seconds["product"], f"{key}.product_cpu_s": cpu["product"]}
    for way in FASTER_WHISPER:
        found[f"{key}.{way}.ratio"] = seconds["product"] / seconds[way]
        found[f"{key}.{way}.cpu_ratio"] = cpu["product"] / cpu[way]
    return found


def _served(running: Running, files: Sequence[bytes]) -> Cost:
    began, burnt = time.perf_counter(), burnt_by(running.pid)
    with ThreadPoolExecutor(len(files)) as callers:
        list(callers.map(partial(_ask, running), files))
    return time.perf_counter() - began, burnt_by(running.pid) - burnt


def _ask(running: Running, audio: bytes) -> None:
    with running.connect() as connection:
        connection.request("POST", "/v1/listen", body=audio)
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer


def _direct(alone: Listener, files: Sequence[bytes]) -> Cost:
    heard = [alone.hear(audio) for audio in files]
    return sum(one.seconds for one in heard), sum(one.cpu_seconds for one in heard)


def burnt_by(pid: int) -> float:
    """CPU seconds of a process and of all that it started, which must live on."""
    threads = list(Path(f"/proc/{pid}/task").iterdir())
    own = sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
    return own + sum(burnt_by(int(child)) for thread in threads for child in (thread / "children").read_text().split())
