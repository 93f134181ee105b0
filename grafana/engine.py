"""The engine's part of the page "Store and process": its requests, its recognisers, and live speech."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from grafana.panels import BLUE, GREEN, GREY, ORANGE, RED, YELLOW, Ask, Panel, graph, quantile


def requests() -> list[Panel]:
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


def recognition() -> list[Panel]:
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


def live() -> list[Panel]:
    return [*_live_results(), *_live_sessions()]


def _live_results() -> list[Panel]:
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
    ]


def _live_sessions() -> list[Panel]:
    return [
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
