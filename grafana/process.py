"""Store and process: the causes, for whoever follows an alert here."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

from grafana import engine
from grafana.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    YELLOW,
    Ask,
    Panel,
    dashboard,
    graph,
    number,
    ours,
    p99,
    processes,
    quantile,
)

_LAG = "relay_event_loop_lag_seconds"


def build() -> Dashboard:
    """The page to open second, when it is us."""
    return dashboard(
        "outspoken-process",
        "Outspoken / Store and process",
        "Why it is late, when it is ours: the outbox, the loops, the machine.",
        [
            ("How it stands", [*_processes(), *_upkeep()]),
            ("The outbox as a database", [*_operations(), *_contents()]),
            ("The relay's loops", [*_turns(), *_lag_and_log()]),
            ("The engine", [*engine.requests(), *engine.recognition()]),
            ("Live speech", engine.live()),
            ("The machine", _machine()),
        ],
    )


def _processes() -> list[Panel]:
    return [
        number(
            "What runs",
            "Relays and engines that answer.",
            units.Short,
            Ask('count({__name__=~"(relay|engine)_build_info",job=~"$job",instance=~"$instance"})', "processes"),
        ),
        number(
            "Draining",
            "Processes that let their work finish before they leave.",
            units.Short,
            Ask('sum({__name__=~"(relay|engine)_draining",job=~"$job",instance=~"$instance"})', "draining"),
            steps=[(1, YELLOW)],
        ),
    ]


def _upkeep() -> list[Panel]:
    return [
        number(
            "Last backup",
            "How old the last `relay backup` is.",
            units.Seconds,
            Ask("time() - max(relay_backup_last_success_timestamp_seconds{@} > 0)", "age"),
            steps=[(93600, ORANGE)],
            nothing="never",
        ),
        number(
            "Oldest signing key",
            "Age of the oldest key that signs; 0: nothing is signed. `relay keys rotate` makes a new one.",
            units.Seconds,
            Ask("max(relay_signing_key_age_seconds{@})", "age"),
            steps=[(1, GREEN), (365 * 86400, YELLOW)],
            base=ORANGE,
        ),
        number(
            "Gauges counted",
            "How old what is said of outbox and queue is. They are counted every 5 s, and not when Prometheus asks.",
            units.Seconds,
            Ask(
                """time() - min({__name__=~"relay_outbox_stats_timestamp_seconds|engine_queue_stats_timestamp_seconds",
                job=~"$job",instance=~"$instance"})""",
                "age",
            ),
            steps=[(30, YELLOW), (120, RED)],
        ),
        number(
            "Disk left",
            "What the disk of the outbox has left. When it is full, nothing is taken in any more.",
            units.BytesIEC,
            Ask("min(relay_outbox_disk_free_bytes{@})", "left"),
            steps=[(1e9, ORANGE), (1e10, GREEN)],
            base=RED,
        ),
    ]


def _operations() -> list[Panel]:
    return [
        graph(
            "How long the outbox takes",
            "99 of 100 operations are quicker. A claim or settlement is a whole batch, its fsync included.",
            units.Seconds,
            Ask(p99("relay_store_operation_duration_seconds", "operation"), "{{operation}}"),
        ),
        graph(
            "What is asked of it",
            "Operations a second, each of them one transaction for many deliveries.",
            units.OpsPerSecond,
            Ask(
                "sum by (operation) (rate(relay_store_operation_duration_seconds_count{@}[$__rate_interval]))",
                "{{operation}}",
            ),
        ),
        graph(
            "What it refuses",
            "Operations that failed, by kind. Locks pass; a full or broken disk does not.",
            units.OpsPerSecond,
            Ask("sum by (kind) (rate(relay_store_errors_total{@}[$__rate_interval]))", "{{kind}}"),
            stacked=True,
        ),
    ]


def _contents() -> list[Panel]:
    return [
        graph(
            "The files",
            "The database and its write-ahead log. A log that only grows has a reader that never ends.",
            units.BytesIEC,
            Ask("max(relay_outbox_database_bytes{@})", "database"),
            Ask("max(relay_outbox_wal_bytes{@})", "log"),
            colours={"database": BLUE, "log": ORANGE},
        ),
        graph(
            "Leases that ran out, settlements that came too late",
            "Both mean that a relay died or stood still in the middle of an attempt, and that a result went out again.",
            units.Short,
            Ask("sum(increase(relay_leases_expired_total{@}[$__rate_interval]))", "leases taken over"),
            Ask("sum(increase(relay_settlements_stale_total{@}[$__rate_interval]))", "settlements too late"),
        ),
        graph(
            "Forgotten",
            "Rows that retention removed.",
            units.RowsPerSecond,
            Ask("sum by (table) (rate(relay_retention_deleted_rows_total{@}[$__rate_interval]))", "{{table}}"),
            stacked=True,
        ),
    ]


def _turns() -> list[Panel]:
    return [
        graph(
            "Since each loop last turned well",
            "A dead loop in a living process. Claims turn all the time, renewals with the leases.",
            units.Seconds,
            Ask(
                """time() - min by (loop) (
                relay_loop_last_success_timestamp_seconds{@,loop=~"claim|stats|renew|stream_hold"} > 0)""",
                "{{loop}}",
            ),
            lines=[(60, GREY)],
        ),
        graph(
            "Turns",
            "How often each loop turns.",
            units.OpsPerSecond,
            Ask("sum by (loop) (rate(relay_loop_iterations_total{@}[$__rate_interval]))", "{{loop}}"),
        ),
        graph(
            "Turns that failed",
            "The log says why: store.error or loop.failed.",
            units.OpsPerSecond,
            Ask("sum by (loop) (rate(relay_loop_errors_total{@}[$__rate_interval]))", "{{loop}}"),
        ),
    ]


def _lag_and_log() -> list[Panel]:
    return [
        graph(
            "Event loop lag",
            "How late a timer fires: the time that something else held the loop.",
            units.Seconds,
            quantile(0.5, _LAG, "p50"),
            quantile(0.99, _LAG, "p99"),
            lines=[(0.25, RED)],
        ),
        graph(
            "Counting the gauges",
            "What it took to count the gauges of the outbox, in a thread of its own.",
            units.Seconds,
            Ask("max by (instance) (relay_outbox_stats_duration_seconds{@})", "{{instance}}"),
        ),
        graph(
            "Log lines",
            "By level; levels without lines are left out.",
            units.EventsPerSecond,
            Ask("sum by (level) (rate(relay_log_events_total{@}[$__rate_interval])) > 0", "{{level}}"),
            stacked=True,
            colours={"info": BLUE, "warning": YELLOW, "error": RED},
        ),
    ]


def _machine() -> list[Panel]:
    return [
        *processes(),
        graph(
            "Open files",
            "Of those that a process may open.",
            units.PercentUnit,
            Ask(ours("process_open_fds{@} / process_max_fds{@}"), "{{job}} {{instance}}"),
            width=6,
            lines=[(0.8, RED)],
        ),
        graph(
            "Collector",
            "Passes of Python's garbage collector.",
            units.OpsPerSecond,
            Ask(
                ours("sum by (job, instance) (rate(python_gc_collections_total{@}[$__rate_interval]))"),
                "{{job}} {{instance}}",
            ),
            width=6,
        ),
    ]
