"""Destinations: what receivers do, all together. One of them alone is a matter for console and command line."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

from grafana.panels import (
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
    quantile,
    words,
)

_EXCHANGE = "relay_delivery_attempt_duration_seconds"

_WHERE = """
There is no receiver's name here: a label with one value for each receiver would cost more than the deliveries, and URLs
have secrets in them. Who it is, the relay itself knows:

| | |
|---|---|
| `relay destinations` | who is late, paused or left alone, and how large a body they take |
| `relay stats --by destination,outcome` | who answers what, and how fast |
| `relay list --outcome http_413` | who calls results too large |
| `relay list --state dead --since 1h` | what was given up |
| `relay replay --state dead --destination DEST --dry-run` | what would go out again |
"""


def build() -> Dashboard:
    """The page to open second, when it is them."""
    return dashboard(
        "outspoken-destinations",
        "Outspoken / Destinations",
        "What receivers do, and what waits for them.",
        [
            ("How they stand", [*_states(), _longest_wait(), *_refusals()]),
            ("What waits for them", [*_waiting(), *_trouble()]),
            ("What they answer", [*_answers(), *_bodies()]),
            ("What was given up, and brought back", [*_given_up(), *_killed_streams()]),
        ],
    )


def _states() -> list[Panel]:
    return [
        number(
            title,
            description,
            units.Short,
            Ask(f'max(relay_destinations{{@,state="{state}"}})', state),
            steps=[] if state == "delivering" else [(1, YELLOW)],
            leads=f"/destinations?state={state}",
            width=3,
        )
        for state, title, description in (
            ("delivering", "Delivering", "Origins that are called as deliveries are due, with all their paths."),
            ("trickling", "Trickling", "A path of theirs failed five times in a row: few attempts go there."),
            ("unreachable", "Unreachable", "Nothing could be reached there five times in a row."),
            ("paused", "Paused", "By an operator: `relay resume`."),
            ("disabled", "Disabled", "By a 410 or an operator: `relay enable`."),
        )
    ]


def _longest_wait() -> Panel:
    return number(
        "Longest wait",
        "How late the latest delivery is that waits for its destination. Past relay.retry.patience it is given up.",
        units.Seconds,
        Ask('max(relay_outbox_oldest_due_age_seconds{@,held_by="destination"})', "held"),
        leads="/destinations",
        steps=[(3600, YELLOW), (86400, ORANGE)],
        width=3,
    )


def _refusals() -> list[Panel]:
    return [
        number(
            "Too large, 24 h",
            "Results that a receiver called too large, each once. The log has the line that mends it.",
            units.Short,
            Ask("sum(increase(relay_deliveries_too_large_total{@}[24h]))", "413"),
            leads="/deliveries?outcome=http_413",
            steps=[(1, YELLOW)],
            width=3,
            decimals=0,
        ),
        number(
            "Forbidden, 24 h",
            "Attempts that the guard refused: the name leads to a private or reserved address.",
            units.Short,
            Ask('sum(increase(relay_delivery_attempts_total{@,outcome="blocked"}[24h]))', "blocked"),
            leads="/deliveries?outcome=blocked",
            steps=[(1, ORANGE)],
            width=3,
            decimals=0,
        ),
    ]


def _waiting() -> list[Panel]:
    return [
        bars(
            "Where most waits",
            "The ten origins with most that is pending, by the id that the console and `relay destinations` show.",
            units.Short,
            Ask("sort_desc(max by (destination) (relay_destination_backlog_top{@}))", "{{destination}}"),
            leads="/destination?id=${__field.labels.destination}",
        ),
        graph(
            "Destinations that are not called",
            "Held back for their failures, at their own wish, or by an operator.",
            units.Short,
            Ask('max by (state) (relay_destinations{@,state!="delivering"})', "{{state}}"),
            leads="/destinations?state=${__field.labels.state}",
            stacked=True,
            colours={"unreachable": RED, "trickling": ORANGE, "slowed": YELLOW, "paused": PURPLE, "disabled": GREY},
        ),
    ]


def _trouble() -> list[Panel]:
    return [
        graph(
            "Endpoints that need attention",
            "By the cause, as the console's first page and `relay status` count them.",
            units.Short,
            Ask("max by (cause) (relay_destinations_in_trouble{@})", "{{cause}}"),
            leads="/destinations?state=${__field.labels.cause}",
            stacked=True,
        ),
        bars(
            "What is affected at the worst",
            "Deliveries that wait or were given up in 24 hours; find the id in the console's list.",
            units.Short,
            Ask("sort_desc(max by (destination, cause) (relay_destination_trouble{@}))", "{{destination}} {{cause}}"),
            leads="/destination?id=${__field.labels.destination}",
        ),
        graph(
            "Breakers that opened and closed",
            "Many at once are a platform that receivers share, or our own way out.",
            units.Short,
            Ask(
                """max by (to) (sum by (instance, worker, to)
                (increase(relay_destination_breaker_transitions_total{@}[$__rate_interval])))""",
                "{{to}}",
            ),
            colours={"open": ORANGE, "closed": GREEN},
        ),
    ]


def _answers() -> list[Panel]:
    return [
        graph(
            "Attempts by outcome",
            "Everything that was said, and that happened.",
            units.EventsPerSecond,
            Ask("sum by (outcome) (rate(relay_delivery_attempts_total{@}[$__rate_interval])) > 0", "{{outcome}}"),
            stacked=True,
            width=12,
            colours=OUTCOMES | {"success": GREEN},
            leads="/deliveries?outcome=${__field.labels.outcome}",
        ),
        graph(
            "How long they take",
            "95 of 100 exchanges are quicker: those that succeeded, those that were answered with an error, and those "
            "that got no answer.",
            units.Seconds,
            *(
                quantile(0.95, _EXCHANGE, result.replace("_", " "), narrow=f',result="{result}"')
                for result in ("success", "http_error", "transport_error")
            ),
            width=12,
            colours={"success": GREEN, "http error": YELLOW, "transport error": RED},
        ),
    ]


def _bodies() -> list[Panel]:
    return [
        graph(
            "Bodies",
            "How large the results are that go out. Receivers refuse from 100 kB (Express) and 1 MB (nginx) on.",
            units.BytesIEC,
            quantile(0.5, "relay_delivery_request_body_bytes", "p50"),
            quantile(0.95, "relay_delivery_request_body_bytes", "p95"),
            quantile(0.99, "relay_delivery_request_body_bytes", "p99"),
            lines=[(102400, YELLOW), (1048576, RED)],
        ),
        graph(
            "Results larger than a default limit",
            "The share of bodies that Express (100 kB) and nginx (1 MB) would refuse as they come.",
            units.PercentUnit,
            *(
                Ask(
                    f"""1 - sum(rate(relay_delivery_request_body_bytes_bucket{{@,le="{edge}"}}[$__rate_interval]))
                    / sum(rate(relay_delivery_request_body_bytes_count{{@}}[$__rate_interval]))""",
                    legend,
                )
                for edge, legend in (("102400.0", "over 100 kB"), ("1.048576e+06", "over 1 MB"))
            ),
        ),
        graph(
            "Connections kept alive",
            "The share of attempts that found a connection standing.",
            units.PercentUnit,
            Ask(
                """sum(rate(relay_delivery_connections_total{@,reused="true"}[$__rate_interval]))
                / sum(rate(relay_delivery_connections_total{@}[$__rate_interval]))""",
                "reused",
            ),
            greatest=1,
        ),
    ]


def _given_up() -> list[Panel]:
    return [
        graph(
            "Given up, by reason",
            "Dead letters, kept for relay.retention.dead. Reasons that did not happen are left out.",
            units.Short,
            Ask(
                'sum by (reason) (increase(relay_deliveries_finished_total{@,result="dead"}[$__rate_interval])) > 0',
                "{{reason}}",
            ),
            stacked=True,
            columns=True,
            colours=REASONS,
            leads="/deliveries?state=dead",
        ),
        graph(
            "What operators did",
            "Deliveries that were sent again, by command line, API or console, and deliveries that were cancelled.",
            units.Short,
            Ask(
                """max by (source) (sum by (instance, worker, source)
                (increase(relay_replays_total{@}[$__rate_interval]))) > 0""",
                "replayed by {{source}}",
            ),
            Ask(
                """max(sum by (instance, worker)
                (increase(relay_deliveries_finished_total{@,result="cancelled"}[$__rate_interval])))""",
                "cancelled",
            ),
            stacked=True,
            columns=True,
        ),
    ]


def _killed_streams() -> list[Panel]:
    return [
        graph(
            "Live streams that were killed, by reason",
            "Each of them ended a caller's session. What receivers closed is theirs, relay_gone and internal are ours.",
            units.Short,
            Ask(
                'sum by (reason) (increase(relay_streams_finished_total{@,reason!="none"}[$__rate_interval]))',
                "{{reason}}",
            ),
            stacked=True,
            columns=True,
        ),
        words("Who is it?", "Where to ask for one receiver.", _WHERE, width=24, height=8),
    ]
