"""Store and process: the causes, for whoever follows an alert here."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

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
            ("How it stands", _standing()),
            ("The outbox as a database", _store()),
            ("The relay's loops", _loops()),
            ("The engine", [*_engine(), *_recognition()]),
            ("Live speech", _live()),
            ("The machine", _machine()),
        ],
    )


def _standing() -> list[Panel]:
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


def _store() -> list[Panel]:
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


def _loops() -> list[Panel]:
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
        graph(
            "Event loop lag",
            "How late a timer fires: the time that something else held the loop.",
            units.Seconds,
            quantile(0.5, _LAG, "p50"),
            quantile(0.99, _LAG, "p99"),
            lines=[(0.25, RED)],
        ),
        graph(
            "Counting stock",
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


def _engine() -> list[Panel]:
    return [
        graph(
            "Requests",
            "What the HTTP surface answered, by status class.",
            units.RequestsPerSecond,
            Ask("sum by (status) (rate(engine_http_requests_total{@}[$__rate_interval])) > 0", "{{status}}"),
            stacked=True,
            colours={"2xx": GREEN, "4xx": YELLOW, "5xx": RED},
            width=6,
        ),
        graph(
            "How long a request takes",
            "From its head to the end of its answer. Callers who wait for a transcript wait here.",
            units.Seconds,
            quantile(0.5, "engine_http_request_duration_seconds", "p50"),
            quantile(0.95, "engine_http_request_duration_seconds", "p95"),
            width=6,
        ),
        graph(
            "Turned away",
            "Requests refused because too much waits, by the bound that they met.",
            units.RequestsPerSecond,
            Ask("sum by (bound) (rate(engine_requests_turned_away_total{@}[$__rate_interval]))", "{{bound}}"),
            stacked=True,
            width=6,
        ),
        graph(
            "Audio that came in",
            "The sizes of uploads.",
            units.BytesIEC,
            quantile(0.5, "engine_http_upload_bytes", "p50"),
            quantile(0.95, "engine_http_upload_bytes", "p95"),
            width=6,
        ),
    ]


def _recognition() -> list[Panel]:
    return [
        graph(
            "Audio on disk",
            "Of all unfinished jobs; engine.queue.bytes bounds it.",
            units.BytesIEC,
            Ask("max(engine_queue_bytes{@})", "waits"),
            width=6,
        ),
        graph(
            "How long jobs wait",
            "From accepted to a recogniser.",
            units.Seconds,
            quantile(0.5, "engine_job_queue_lag_seconds", "p50"),
            quantile(0.95, "engine_job_queue_lag_seconds", "p95"),
            quantile(0.99, "engine_job_queue_lag_seconds", "p99"),
            width=6,
        ),
        graph(
            "Recognisers",
            "Processes that write down, and those of them that died at work.",
            units.Short,
            Ask("sum(engine_workers{@})", "may run"),
            Ask("sum(increase(engine_worker_deaths_total{@}[$__rate_interval]))", "died"),
            colours={"may run": BLUE, "died": RED},
            width=6,
        ),
        graph(
            "Event loop lag of the engine",
            "How late a timer fires in it.",
            units.Seconds,
            quantile(0.5, "engine_event_loop_lag_seconds", "p50"),
            quantile(0.99, "engine_event_loop_lag_seconds", "p99"),
            width=6,
        ),
    ]


def _live() -> list[Panel]:
    return [
        graph(
            "Sessions",
            "Under way, as many as can be kept in real time, and turned away by why.",
            units.Short,
            Ask("sum(engine_live_sessions{@})", "under way"),
            Ask("sum(engine_live_capacity_sessions{@})", "can be kept"),
            Ask(
                "sum by (reason) (increase(engine_live_sessions_refused_total{@}[$__rate_interval])) > 0",
                "turned away: {{reason}}",
            ),
            colours={"under way": BLUE, "can be kept": GREY, "turned away: capacity": RED},
        ),
        graph(
            "How late results are",
            "From the arrival of the audio that a result needed; and the longest that audio waits now. At 5 s a caller "
            "is warned, at 30 s the session is ended.",
            units.Seconds,
            quantile(0.95, "engine_live_lag_seconds", "interim, p95", narrow=',kind="interim"'),
            quantile(0.5, "engine_live_lag_seconds", "final, p50", narrow=',kind="final"'),
            quantile(0.95, "engine_live_lag_seconds", "final, p95", narrow=',kind="final"'),
            Ask("max(engine_live_lag_max_seconds{@})", "the latest now"),
            lines=[(5, YELLOW), (30, RED)],
            colours={"the latest now": RED},
        ),
        graph(
            "What was left out",
            "Interim results for which there was no time, and times that a caller was told that he is late.",
            units.Short,
            Ask("sum(increase(engine_live_interims_dropped_total{@}[$__rate_interval]))", "interim results"),
            Ask("sum(increase(engine_live_sessions_behind_total{@}[$__rate_interval]))", "warnings"),
            colours={"interim results": YELLOW, "warnings": RED},
        ),
        graph(
            "How sessions end",
            "By why: done is the caller's own word.",
            units.Short,
            Ask(
                "sum by (ending) (increase(engine_live_sessions_ended_total{@}[$__rate_interval])) > 0",
                "{{ending}}",
            ),
            stacked=True,
            colours={"done": GREEN, "failed": RED, "too_late": RED, "callback_lost": ORANGE},
        ),
        graph(
            "Messages to whom",
            "Of sessions that have ended.",
            units.Short,
            Ask("sum by (to) (rate(engine_live_messages_total{@}[$__rate_interval]))", "{{to}} a second"),
            Ask("sum(rate(engine_live_audio_seconds_total{@}[$__rate_interval]))", "seconds of audio a second"),
        ),
        graph(
            "How long it takes",
            "A session in all, and a message for a callback until it is committed.",
            units.Seconds,
            quantile(0.5, "engine_live_session_duration_seconds", "session, p50"),
            quantile(0.99, "engine_live_commit_seconds", "commit, p99"),
        ),
    ]


def _machine() -> list[Panel]:
    return [
        graph(
            "Processor",
            "Cores in use.",
            units.Short,
            Ask(ours("rate(process_cpu_seconds_total{@}[$__rate_interval])"), "{{job}} {{instance}}"),
            width=6,
        ),
        graph(
            "Memory",
            "Resident, without the recogniser processes.",
            units.BytesIEC,
            Ask(ours("process_resident_memory_bytes{@}"), "{{job}} {{instance}}"),
            width=6,
        ),
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
