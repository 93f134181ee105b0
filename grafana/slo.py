"""SLO and error budget: does the relay keep its promise, and for how long will it?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

from grafana.panels import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, Ask, Panel, dashboard, graph, number, quantile, words

_WINDOWS = ("5m", "1h", "6h", "1d", "3d")
_LAG = "relay_delivery_pickup_lag_seconds"

_PROMISE = """
**99.5 % of the attempts start within 5 s of their due time**, over 30 days.

Counted are attempts that nothing but the relay holds up. What waits for its destination (paused, disabled, left alone
for its failures, or with all its slots taken) is shown below, and is not the relay's to promise. Neither is what
receivers answer.

A relay that claims nothing has no lag to measure: then the numbers here stop, and *Late, and ours* in the
Overview grows. Its alerts, RelayOutboxOverdue and RelayNoProgress, do not depend on these.
"""


def build() -> Dashboard:
    """The page for the weekly look."""
    return dashboard(
        "outspoken-slo",
        "Outspoken / SLO and error budget",
        "Whether attempts start when they are due, and what is left of the error budget.",
        [
            ("The promise", _promise()),
            ("The budget", _budget()),
            ("What the delay is made of", _lateness()),
            ("What receivers feel", _felt()),
        ],
    )


def _promise() -> list[Panel]:
    return [
        words("What is promised", "The objective, and what is no part of it.", _PROMISE, width=24, height=5),
        *(_in_time(window) for window in ("1h", "1d", "30d")),
        _left(),
        _lasts(),
        _share_held(),
    ]


def _in_time(window: str) -> Panel:
    return number(
        f"In time, {window}",
        f"Attempts of the last {window} that started within 5 s of their due time.",
        units.PercentUnit,
        Ask(f"1 - max(job:relay_pickup_lag:error_ratio_rate{window}{{%}})", "in time"),
        steps=[(0.99, ORANGE), (0.995, GREEN)],
        base=RED,
    )


def _left() -> Panel:
    return number(
        "Budget left",
        "What is left of the 0.5 % that may be late in 30 days. Below zero the promise is broken.",
        units.PercentUnit,
        Ask("1 - max(job:relay_pickup_lag:error_ratio_rate30d{%}) / 0.005", "left"),
        steps=[(0, ORANGE), (0.25, GREEN)],
        base=RED,
    )


def _lasts() -> Panel:
    return number(
        "A whole budget would last",
        "At the pace of the last 6 hours; at 30 days and more the promise is kept.",
        units.Seconds,
        Ask("clamp_max(30 * 86400 * 0.005 / max(job:relay_pickup_lag:error_ratio_rate6h{%}), 365 * 86400)", "lasts"),
        steps=[(10 * 86400, ORANGE), (30 * 86400, GREEN)],
        base=RED,
    )


def _share_held() -> Panel:
    return number(
        "Held by destinations",
        "The share of the last hour's attempts that waited for their destination, and are no part of the promise.",
        units.PercentUnit,
        Ask(
            f"""sum(increase({_LAG}_count{{@,held_by="destination"}}[1h])) / sum(increase({_LAG}_count{{@}}[1h]))""",
            "held",
        ),
        base=BLUE,
    )


def _budget() -> list[Panel]:
    return [
        graph(
            "Burn rate by window",
            "How fast the budget is spent: at 1 it lasts 30 days. Two windows have to agree before anybody is paged.",
            units.Short,
            *(Ask(f"max(job:relay_pickup_lag:error_ratio_rate{span}{{%}}) / 0.005", span) for span in _WINDOWS),
            width=12,
            lines=[(1, GREY), (6, ORANGE), (14.4, RED)],
            least=16,
        ),
        graph(
            "Budget left over time",
            "Over a sliding 30 days.",
            units.PercentUnit,
            Ask("1 - max(job:relay_pickup_lag:error_ratio_rate30d{%}) / 0.005", "left"),
            width=12,
            lines=[(0, RED)],
        ),
    ]


def _lateness() -> list[Panel]:
    ours, theirs = ',held_by="relay"', ',held_by="destination"'
    return [
        graph(
            "Lateness of ours",
            "From due to started, of attempts that nothing but the relay holds up.",
            units.Seconds,
            quantile(0.5, _LAG, "p50", narrow=ours),
            quantile(0.95, _LAG, "p95", narrow=ours),
            quantile(0.99, _LAG, "p99", narrow=ours),
            lines=[(5, RED)],
        ),
        graph(
            "Lateness of destinations",
            "From due to started, where the destination was left alone or had all its slots taken.",
            units.Seconds,
            quantile(0.5, _LAG, "p50", narrow=theirs),
            quantile(0.95, _LAG, "p95", narrow=theirs),
            quantile(0.99, _LAG, "p99", narrow=theirs),
        ),
        graph(
            "Oldest overdue",
            "The latest delivery of each kind, now.",
            units.Seconds,
            Ask("max by (held_by) (relay_outbox_oldest_due_age_seconds{@})", "{{held_by}}"),
            colours={"relay": ORANGE, "destination": PURPLE},
        ),
    ]


def _felt() -> list[Panel]:
    return [
        graph(
            "From result to receiver",
            "From the moment a result came into the outbox until it was taken, retries included.",
            units.Seconds,
            quantile(0.5, "relay_delivery_end_to_end_seconds", "p50"),
            quantile(0.95, "relay_delivery_end_to_end_seconds", "p95"),
            quantile(0.99, "relay_delivery_end_to_end_seconds", "p99"),
        ),
        graph(
            "Oldest undelivered result",
            "Its age since it came into the outbox, whatever it waits for.",
            units.Seconds,
            Ask("max(relay_outbox_oldest_undelivered_age_seconds{@})", "oldest"),
        ),
        graph(
            "Attempts that a delivery takes",
            "95 of 100 take no more.",
            units.Short,
            quantile(0.95, "relay_delivery_attempts_per_delivery", "delivered", narrow=',result="delivered"'),
            quantile(0.95, "relay_delivery_attempts_per_delivery", "given up", narrow=',result="dead"'),
            colours={"delivered": GREEN, "given up": RED},
        ),
    ]
