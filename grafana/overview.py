"""Overview: is anything late, whose fault is it, and what is it that fails?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

from grafana.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    OUTCOMES,
    PURPLE,
    REASONS,
    RED,
    YELLOW,
    Ask,
    Panel,
    bars,
    dashboard,
    graph,
    number,
    p99,
    processes,
    quantile,
)


def build() -> Dashboard:
    """The page to open first."""
    return dashboard(
        "outspoken-overview",
        "Outspoken / Overview",
        "What is late, whose fault it is, and what fails.",
        [
            ("Is anything late?", [*_promise(), *_condition(), *_losses()]),
            ("What comes, what goes, what receivers say", [*_flow(), *_attempts()]),
            ("How long it takes, and what waits", [*_times(), *_waiting()]),
            ("Speech to text", _engine()),
            ("Have the processes room?", _room()),
        ],
    )


def _promise() -> list[Panel]:
    return [
        number(
            "Late, and ours",
            "How late the latest delivery is that nothing but the relay holds up. Alert RelayOutboxOverdue at 5 min.",
            units.Seconds,
            Ask('max(relay_outbox_oldest_due_age_seconds{@,held_by="relay"})', "late"),
            steps=[(5, YELLOW), (300, RED)],
        ),
        number(
            "Late, and theirs",
            "How late the latest is that waits for its destination: paused, disabled, left alone, or full.",
            units.Seconds,
            Ask('max(relay_outbox_oldest_due_age_seconds{@,held_by="destination"})', "held"),
            leads="/destinations",
            steps=[(3600, YELLOW), (86400, ORANGE)],
        ),
        number(
            "Time to drain",
            "What is ready, at the pace of now.",
            units.Seconds,
            Ask(
                """max(relay_outbox_deliveries{@,state="ready"}) / clamp_min(
                   sum(rate(relay_deliveries_finished_total{@,result!="cancelled"}[$__rate_interval])), 0.001)""",
                "to drain",
            ),
            steps=[(60, YELLOW), (600, RED)],
            width=3,
        ),
    ]


def _condition() -> list[Panel]:
    return [
        number(
            "Condition",
            "0 well, 1 attention, 2 broken: what the console's first page and `relay status` say in a sentence.",
            units.Short,
            Ask("max(relay_condition_severity{@})", "condition"),
            leads="/",
            steps=[(1, YELLOW), (2, RED)],
            width=3,
            decimals=0,
        ),
        number(
            "Attempts that succeed",
            "Of all attempts. Low is as often the receivers' fault as ours: the outcomes below tell which.",
            units.PercentUnit,
            Ask(
                """sum(rate(relay_delivery_attempts_total{@,outcome="success"}[$__rate_interval]))
                   / sum(rate(relay_delivery_attempts_total{@}[$__rate_interval]))""",
                "success",
            ),
            steps=[(0.8, YELLOW), (0.95, GREEN)],
            base=RED,
        ),
    ]


def _losses() -> list[Panel]:
    return [
        number(
            "Given up in the last hour",
            "Dead letters. They are kept, and can be replayed: `relay list --state dead`.",
            units.Short,
            Ask('sum(increase(relay_deliveries_finished_total{@,result="dead"}[1h]))', "given up"),
            leads="/deliveries?state=dead",
            steps=[(1, ORANGE)],
            width=3,
            decimals=0,
        ),
        number(
            "Error budget left",
            "Of 30 days: 0.5 % of the attempts may start later than 5 s after their due time.",
            units.PercentUnit,
            Ask("1 - max(job:relay_pickup_lag:error_ratio_rate30d{%}) / 0.005", "left"),
            steps=[(0, ORANGE), (0.25, GREEN)],
            width=3,
            base=RED,
        ),
    ]


def _flow() -> list[Panel]:
    return [
        graph(
            "Intake and deliveries",
            "Results that came into the outbox, that receivers took, and that were given up.",
            units.EventsPerSecond,
            Ask(
                "max(sum by (instance, worker) (rate(relay_deliveries_enqueued_total{@}[$__rate_interval])))",
                "came in",
            ),
            Ask(
                'sum(rate(relay_deliveries_finished_total{@,result="delivered"}[$__rate_interval]))',
                "delivered",
            ),
            Ask('sum(rate(relay_deliveries_finished_total{@,result="dead"}[$__rate_interval]))', "given up"),
            width=6,
            colours={"came in": BLUE, "delivered": GREEN, "given up": RED},
        ),
        graph(
            "Attempts that failed, by outcome",
            "What receivers and networks said instead of yes. Outcomes that did not happen are left out.",
            units.EventsPerSecond,
            Ask(
                'sum by (outcome) (rate(relay_delivery_attempts_total{@,outcome!="success"}[$__rate_interval])) > 0',
                "{{outcome}}",
            ),
            stacked=True,
            width=6,
            colours=OUTCOMES,
            leads="/deliveries?outcome=${__field.labels.outcome}",
        ),
    ]


def _attempts() -> list[Panel]:
    return [
        graph(
            "Attempts",
            "All attempts, and those among them that succeeded. The gap between the two is what is tried again.",
            units.EventsPerSecond,
            Ask("sum(rate(relay_delivery_attempts_total{@}[$__rate_interval]))", "attempts"),
            Ask(
                'sum(rate(relay_delivery_attempts_total{@,outcome="success"}[$__rate_interval]))',
                "succeeded",
            ),
            width=6,
            colours={"attempts": BLUE, "succeeded": GREEN},
        ),
        graph(
            "Given up, by reason",
            "Dead letters. Reasons that did not happen are left out.",
            units.Short,
            Ask(
                'sum by (reason) (increase(relay_deliveries_finished_total{@,result="dead"}[$__rate_interval])) > 0',
                "{{reason}}",
            ),
            stacked=True,
            columns=True,
            width=6,
            colours=REASONS,
            leads="/deliveries?state=dead",
        ),
    ]


def _times() -> list[Panel]:
    return [
        graph(
            "How long an attempt takes",
            "The exchange with the receiver, connecting included. Exemplars lead to traces.",
            units.Seconds,
            quantile(0.5, "relay_delivery_attempt_duration_seconds", "p50"),
            quantile(0.95, "relay_delivery_attempt_duration_seconds", "p95", exemplars=True),
            quantile(0.99, "relay_delivery_attempt_duration_seconds", "p99"),
        ),
        graph(
            "From result to receiver",
            "What a receiver feels: from when a result came into the outbox until it was taken, retries included.",
            units.Seconds,
            quantile(0.5, "relay_delivery_end_to_end_seconds", "p50"),
            quantile(0.95, "relay_delivery_end_to_end_seconds", "p95"),
            quantile(0.99, "relay_delivery_end_to_end_seconds", "p99"),
        ),
        graph(
            "What waits",
            "Ready is due and may go at once; held waits for its destination; scheduled is not yet due.",
            units.Short,
            *(
                Ask(f'max(relay_outbox_deliveries{{@,state="{state}"}})', state.replace("_", " "))
                for state in ("ready", "held", "scheduled", "in_flight")
            ),
            stacked=True,
            colours={"ready": ORANGE, "held": PURPLE, "scheduled": GREY, "in flight": BLUE},
        ),
    ]


def _waiting() -> list[Panel]:
    return [
        graph(
            "Burn rate",
            "How fast the error budget is spent: at 1 it lasts 30 days. A page at 14.4 over an hour, or 6 over six.",
            units.Short,
            Ask("max(job:relay_pickup_lag:error_ratio_rate1h{%}) / 0.005", "1 h"),
            Ask("max(job:relay_pickup_lag:error_ratio_rate6h{%}) / 0.005", "6 h"),
            lines=[(1, GREY), (6, ORANGE), (14.4, RED)],
            least=16,
        ),
        bars(
            "Where most waits",
            "The origins with most that is pending, by the id that the console and `relay destinations` show.",
            units.Short,
            Ask("sort_desc(max by (destination) (relay_destination_backlog_top{@}))", "{{destination}}"),
            leads="/destination?id=${__field.labels.destination}",
        ),
        graph(
            "Live streams",
            "WebSockets to receivers that stand, and those that were killed: each of these ended a caller's session.",
            units.Short,
            Ask("sum(relay_streams_held{@})", "under way"),
            Ask('sum(increase(relay_streams_finished_total{@,reason!="none"}[$__rate_interval]))', "killed"),
            colours={"under way": BLUE, "killed": RED},
        ),
    ]


def _engine() -> list[Panel]:
    return [
        graph(
            "Jobs",
            "Transcriptions that ended, by result.",
            units.EventsPerSecond,
            Ask("sum by (result) (rate(engine_jobs_total{@}[$__rate_interval]))", "{{result}}"),
            stacked=True,
            width=6,
            colours={"done": GREEN},
        ),
        graph(
            "Jobs that wait or run",
            "Queued wait for a recogniser, leased have one.",
            units.Short,
            Ask("max by (state) (engine_queue_jobs{@})", "{{state}}"),
            stacked=True,
            width=6,
        ),
        graph(
            "How late jobs start, and how long they take",
            "From accepted to a recogniser, and from there to the result; 95 of 100 are quicker.",
            units.Seconds,
            quantile(0.95, "engine_job_queue_lag_seconds", "wait p95"),
            quantile(0.95, "engine_job_duration_seconds", "work p95"),
            Ask("max(engine_queue_oldest_due_age_seconds{@})", "oldest waiting"),
            width=6,
        ),
        graph(
            "Audio",
            "Seconds of audio written down in a second: at 1, as fast as one person speaks.",
            units.Short,
            Ask("sum(rate(engine_audio_seconds_total{@}[$__rate_interval]))", "times real time"),
            width=6,
        ),
    ]


def _room() -> list[Panel]:
    return [
        graph(
            "Slots taken",
            "Attempts under way, of those that may be. At 1, due deliveries wait for slots.",
            units.PercentUnit,
            Ask(
                "relay_delivery_attempts_in_flight{@} / relay_delivery_concurrency_limit{@}",
                "{{instance}} {{worker}}",
            ),
            width=6,
            lines=[(0.95, RED)],
            greatest=1,
        ),
        graph(
            "Event loop lag",
            "How late a timer fires: the time that something else held the loop.",
            units.Seconds,
            Ask(p99("relay_event_loop_lag_seconds"), "relay {{instance}}"),
            Ask(p99("engine_event_loop_lag_seconds"), "engine {{instance}}"),
            width=6,
            lines=[(0.25, RED)],
        ),
        *processes(),
    ]
