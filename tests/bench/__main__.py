"""Measures speed and memory of relay and engine, as ratios wherever the machine would decide otherwise.

    python -m tests.bench [KEY_PREFIX ...] [--runs 5]

shows a table and writes build/bench.json: {"key": {"min", "median", "max", "runs"}}. Some benchmarks only replace
their own keys in it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from tests.acceptance.stage import ROOT
from tests.bench import adding, big, diarisation, drain, engine, isolation, latency, live, live_lag, speed, wer
from tests.bench.console import console
from tests.bench.fair import fair
from tests.bench.growth import growth
from tests.bench.intake import intake
from tests.bench.restart import restart
from tests.bench.shared import postgres_drain
from tests.bench.stand import Result, Scale
from tests.bench.usage import idle, memory, postgres_idle
from tests.bench.workers import GOALS, workers

REPORT = ROOT / "build" / "bench.json"


@dataclass(frozen=True)
class Bench:
    """One benchmark: its keys, each with what is wanted of it, and how it is run once.

    `once`: it would find the same each time. `named`: it takes so long that it runs only for a prefix that begins so.
    """

    measure: Callable[[Scale], Result]
    goals: dict[str, str]
    once: bool = False
    named: str = ""

    def is_meant(self, prefixes: Sequence[str]) -> bool:
        return any(
            key.startswith(prefix) and prefix.startswith(self.named)
            for key in self.goals
            for prefix in prefixes or ("",)
        )


BENCHES = (
    Bench(drain.one, drain.goals("relay.drain.one", ">= 0.95")),
    Bench(drain.hundred, drain.goals("relay.drain.hundred", ">= 0.9")),
    Bench(drain.ten_thousand, drain.goals("relay.drain.ten_thousand", ">= 0.8")),
    Bench(
        postgres_drain,
        {
            "relay.drain.postgres.ratio": ">= 0.7",
            "relay.drain.postgres.two": "",
            "relay.drain.postgres.four": "",
            "relay.drain.postgres.relay_us": "",
            "relay.drain.postgres.server_us": "",
            "relay.drain.postgres.statements": "<= 0.1",
        },
    ),
    Bench(workers, GOALS),
    Bench(adding.sqlite, adding.goals("sqlite")),
    Bench(adding.postgres, adding.goals("postgres")),
    Bench(latency.latency, latency.GOALS),
    Bench(growth, {"relay.growth.ratio": ">= 0.95"}),
    Bench(isolation.isolation, {"relay.isolation.ratio": "<= 1.5"}),
    Bench(isolation.hanging, {"relay.isolation.hanging": "<= 1.5"}),
    Bench(isolation.dead_hosts, {"relay.isolation.dead_hosts": "<= 2"}),
    Bench(isolation.thousand, {"relay.isolation.dead_hosts.thousand": "<= 2"}, once=True),
    Bench(
        isolation.fifty_thousand,
        {"relay.isolation.dead_hosts.fifty_thousand": "<= 2"},
        once=True,
        named="relay.isolation.dead_hosts",
    ),
    Bench(isolation.known_hosts, {"relay.isolation.known_hosts": "<= 2"}),
    Bench(isolation.slow_hosts, {"relay.isolation.slow_hosts": "<= 2"}),
    Bench(isolation.slow_dns, {"relay.isolation.slow_dns": "<= 2"}),
    Bench(isolation.owner, {"relay.isolation.owner_ms": "< 1000"}),
    Bench(
        isolation.rate_limited,
        {"relay.isolation.rate_limited": "< 60", "relay.isolation.rate_limited.delivered": ">= 40"},
        once=True,
    ),
    Bench(big.big, big.goals("relay.big", ">= 0.6")),
    Bench(big.unsigned, big.goals("relay.big.unsigned", "")),
    Bench(big.held, {"relay.big.memory": "<= 1.2"}),
    Bench(fair, {"relay.fair.ratio": ">= 0.6"}),
    Bench(
        intake,
        {
            "relay.intake.commit_max_ms": "<= 100",
            "relay.intake.one.commit_max_ms": "",
            "relay.intake.one.rows_per_s": "",
            "relay.intake.four.rows_per_s": "",
            "relay.intake.behind_s": "",
        },
    ),
    Bench(
        engine.overhead,
        {"engine.overhead.ratio": "<= 1.10", "engine.overhead.served_s": "", "engine.overhead.direct_s": ""},
    ),
    Bench(speed.one, speed.goals("one")),
    Bench(speed.twenty, speed.goals("twenty")),
    Bench(wer.short, wer.goals("short"), once=True),
    Bench(wer.noisy, wer.goals("noisy", counts=True), once=True),
    Bench(wer.ten_minutes, wer.goals("ten_minutes", counts=True), once=True),
    Bench(wer.hour, wer.goals("hour", counts=True), once=True, named="engine.wer.hour"),
    Bench(diarisation.diarisation, diarisation.GOALS, once=True),
    Bench(diarisation.live, diarisation.LIVE_GOALS, once=True),
    Bench(diarisation.hour, diarisation.HOUR_GOALS, once=True, named="engine.diarisation.hour"),
    Bench(engine.submit, {"engine.submit.p50_ms": "< 25", "engine.submit.p99_ms": ""}),
    Bench(restart, {"engine.restart.lost": "<= 0", "engine.restart.jobs_per_s": ""}),
    Bench(
        live_lag.one,
        {
            "engine.live.lag.one.interim_p50_s": "<= 0.4",
            "engine.live.lag.one.final_p95_s": "<= 0.8",
            "engine.live.lag.one.interims_per_s": ">= 1",
        },
    ),
    Bench(live_lag.beside, live_lag.goals("beside")),
    Bench(live_lag.four, live_lag.goals("four")),
    Bench(
        live_lag.crowd,
        live_lag.goals("crowd")
        | {
            "engine.live.lag.crowd.admitted": ">= 4",
            "engine.live.lag.crowd.refused": ">= 1",
            "engine.live.lag.crowd.warned": "<= 0",
        },
    ),
    Bench(live.caller, {"live.caller.p99_ms": "< 20", "live.memory_per_session_mib": "< 1"}),
    Bench(live.callback, {"live.callback.p99_ms": "< 50"}),
    Bench(memory, {"relay.memory_mib": "<= 60", "relay.memory_growth_mib": "<= 64"}),
    Bench(
        idle,
        {"relay.idle.cpu_percent": "<= 0.3", "relay.idle.known_percent": "<= 0.6", "relay.idle.floor_percent": ""},
    ),
    Bench(
        postgres_idle,
        {
            "relay.idle.postgres.cpu_percent": "<= 0.3",
            "relay.idle.postgres.statements_per_s": "<= 2",
            "relay.idle.postgres.sessions": "<= 2",
        },
    ),
    Bench(console, {"relay.console.page_max_ms": "< 300"}),
)

Summary = dict[str, float]


def summarise(results: Sequence[Result]) -> dict[str, Summary]:
    """The spread of each key over the runs."""
    values: dict[str, list[float]] = defaultdict(list)
    for result in results:
        for key, value in result.items():
            values[key].append(round(value, 4))
    return {
        key: {"min": min(seen), "median": median(seen), "max": max(seen), "runs": len(seen)}
        for key, seen in values.items()
    }


def keep(report: Path, summaries: dict[str, Summary]) -> None:
    """Put them into the file, beside what others measured."""
    known = json.loads(report.read_text()) if report.exists() else {}
    report.parent.mkdir(exist_ok=True)
    report.write_text(json.dumps(known | summaries, indent=2, sort_keys=True) + "\n")


def show(summaries: dict[str, Summary]) -> None:
    """As a table."""
    goals = {key: goal for bench in BENCHES for key, goal in bench.goals.items()}
    table = Table("key", "min", "median", "max", "runs", "goal", box=box.SIMPLE)
    for key, summary in summaries.items():
        numbers = (f"{summary[name]:.2f}" for name in ("min", "median", "max"))
        table.add_row(key, *numbers, f"{summary['runs']:.0f}", goals[key])
    Console(width=max(100, Console().width)).print(table)


def main() -> None:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefixes", nargs="*", metavar="KEY_PREFIX")
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    meant = [bench for bench in BENCHES if bench.is_meant(asked.prefixes)]
    if not meant:
        parser.error("no key begins like this; they are " + ", ".join(key for bench in BENCHES for key in bench.goals))
    summaries: dict[str, Summary] = {}
    for bench in meant:
        first, *others = bench.goals
        print(f"{first} and {len(others)} more ..." if others else f"{first} ...", file=sys.stderr, flush=True)
        summaries |= summarise([bench.measure(Scale()) for _ in range(1 if bench.once else asked.runs)])
        keep(REPORT, summaries)
    show(summaries)


if __name__ == "__main__":
    main()
