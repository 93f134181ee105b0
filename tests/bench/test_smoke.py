"""Every benchmark still runs, and measures what it says: once each, with next to nothing to do."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path

import pytest

from tests.bench.__main__ import BENCHES, Bench, keep, summarise
from tests.bench.stand import Scale
from tests.services import voices

TINY = Scale(
    deliveries=200,
    history=1000,
    large_bodies=4,
    batches=2,
    samples=20,
    rest=0.0,
    seconds=0.3,
    audio_seconds=1.0,
    turns=1,
    recordings=1,
    recording_seconds=6.0,  # the first two lines of the clips
    dialogue_turns=4,
    uploads=3,
    queued=3,
    sessions=3,
    callers=2,
    live_seconds=4.0,
    relays=1,
    dead_hosts=4,
    known_hosts=4,
    slow_names=2,
    limited=2,
    limited_seconds=0.1,
)

pytestmark = pytest.mark.acceptance


# Each is as another one is, but for what it is given: an hour of speech is heard as a minute of it is.
SIBLINGS = {
    "relay.drain.hundred.ratio",
    "relay.drain.ten_thousand.ratio",
    "relay.big.unsigned.ratio",
    "relay.isolation.hanging",
    "relay.isolation.known_hosts",
    "relay.isolation.slow_hosts",
    "relay.isolation.dead_hosts.thousand",
    "relay.isolation.dead_hosts.fifty_thousand",
    "engine.overhead.ratio",
    "engine.time.twenty.sequential.ratio",
    "engine.wer.short.over",
    "engine.wer.noisy.over",
    "engine.wer.hour.over",
    # In which a machine that is busy besides may have no time for anything but final results, or lets nobody in.
    "engine.live.lag.beside.interim_p95_s",
    "engine.live.lag.four.interim_p95_s",
    "engine.live.lag.crowd.interim_p95_s",
}


@pytest.mark.parametrize(
    "bench",
    [bench for bench in BENCHES if not SIBLINGS & bench.goals.keys()],
    ids=lambda bench: next(iter(bench.goals)),
)
def test_a_benchmark_measures_every_key_that_it_names(bench: Bench) -> None:
    if any(key.startswith("engine.diarisation") for key in bench.goals):
        voices.skip_without()
    result = bench.measure(TINY)
    assert result.keys() == bench.goals.keys()
    assert all(isfinite(value) for value in result.values())


@pytest.mark.parametrize(
    ("prefixes", "meant"), [([], False), (["engine"], False), (["live", "engine.wer.hour"], True), (["live"], False)]
)
def test_an_hour_of_speech_is_heard_only_when_it_is_asked_for_by_name(prefixes: list[str], meant: bool) -> None:
    hour = next(bench for bench in BENCHES if "engine.wer.hour.over" in bench.goals)
    assert hour.is_meant(prefixes) is meant


def test_a_report_keeps_the_spread_and_what_was_measured_before(tmp_path: Path) -> None:
    report = tmp_path / "build" / "bench.json"
    keep(report, summarise([{"a": 1.0}, {"a": 4.0}, {"a": 2.0}]))
    keep(report, summarise([{"b": 1.0}]))
    assert json.loads(report.read_text()) == {
        "a": {"min": 1.0, "median": 2.0, "max": 4.0, "runs": 3},
        "b": {"min": 1.0, "median": 1.0, "max": 1.0, "runs": 1},
    }
