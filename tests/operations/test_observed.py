"""Relay and engine under load and faults, as Prometheus, Grafana and whoever is on call see them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from relay.outbox.model import Kind
from relay.policy.attempt import Outcome
from relay.queue.stats import WORST
from tests.operations.load import Observed, run_under_load, serving, staged
from tests.operations.test_dashboards import DOCUMENTS, questions, written
from tests.operations.watchers import Series, watching

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.needs("prometheus"),
    pytest.mark.needs("prometheus-alertmanager"),
]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """One run for all; Prometheus is asked when it is over."""
    folder = tmp_path_factory.mktemp("observed")

    async def run(stack: AsyncExitStack) -> Observed:
        async with serving() as receivers:
            stage = staged(folder, receivers)
            targets = {"relay": stage.relay_port, "engine": stage.engine_port}
            watchers = stack.enter_context(watching(folder / "watchers", targets))
            return await run_under_load(receivers, stage, watchers)

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            yield runner.run(run(stack))
        finally:
            runner.run(stack.aclose())


# --- the metrics and the outbox say the same


@pytest.mark.parametrize("outcome", Outcome)
def test_attempts_are_counted_as_they_stand_in_the_outbox(observed: Observed, outcome: Outcome) -> None:
    ((attempts,),) = observed.of_outbox(f"SELECT count(*) FROM outspoken_attempts WHERE outcome = '{outcome.value}'")
    assert observed.count("relay_delivery_attempts_total", outcome=outcome.value) == attempts


def test_most_that_can_go_wrong_did(observed: Observed) -> None:
    happened = {outcome for (outcome,) in observed.of_outbox("SELECT DISTINCT outcome FROM outspoken_attempts")}
    assert happened >= {
        *("success", "http_3xx", "http_4xx", "http_410", "http_413", "http_429", "http_5xx"),
        *("blocked", "connect", "tls", "read_timeout", "reset", "protocol"),
    }


def test_deliveries_end_as_they_stand_in_the_outbox(observed: Observed) -> None:
    ended = observed.of_outbox(
        "SELECT state, coalesce(reason, 'none'), count(*) FROM outspoken_deliveries "
        "WHERE finished_at IS NOT NULL GROUP BY 1, 2"
    )
    for state, reason, count in ended:
        why = "operator" if state == "cancelled" else reason
        counted = observed.count("relay_deliveries_finished_total", result=state, reason=why)
        # What was replayed ended twice, and stands in the outbox as it ended last.
        assert count <= counted <= count + observed.count("relay_replays_total", source="cli")
    assert {reason for state, reason, _ in ended if state == "dead"} >= {
        *("exhausted", "gone", "forbidden_destination", "expired", "stream_killed")
    }
    assert observed.count("relay_deliveries_finished_total", result="cancelled", reason="operator") == 1
    ((replayed,),) = observed.of_outbox("SELECT count(*) FROM outspoken_deliveries WHERE scheduled_from IS NOT NULL")
    everything = sum(count for _, _, count in ended)
    assert observed.total("relay_deliveries_finished_total") == everything + replayed
    assert replayed == observed.count("relay_replays_total", source="cli") == 2


def test_what_came_in_is_counted_by_kind(observed: Observed) -> None:
    # What stood there before the relay was started is no intake that it saw.
    for kind in Kind:
        ((came,),) = observed.of_outbox(
            f"SELECT count(*) FROM outspoken_deliveries WHERE kind = '{kind.value}' AND id NOT LIKE '0-lost'"
            " AND id NOT LIKE '11-%' AND id NOT LIKE '12-%'"
        )
        assert observed.count("relay_deliveries_enqueued_total", kind=kind.value) == came


def test_the_gauges_are_what_the_outbox_holds_at_rest(observed: Observed) -> None:
    ((dead, leased, pending),) = observed.of_outbox(
        "SELECT count(*) FILTER (WHERE state = 'dead'), count(*) FILTER (WHERE state = 'leased'),"
        " count(*) FILTER (WHERE state = 'pending') FROM outspoken_deliveries"
    )
    assert observed.count("relay_outbox_deliveries", state="dead") == dead
    assert observed.count("relay_outbox_deliveries", state="in_flight") == leased == 0
    waiting = sum(observed.count("relay_outbox_deliveries", state=state) for state in ("ready", "held", "scheduled"))
    assert waiting == pending
    assert observed.count("relay_outbox_deliveries", state="ready") == 0
    assert observed.count("relay_outbox_oldest_due_age_seconds", held_by="relay") == 0
    standing = (
        "SELECT CASE WHEN open THEN 'unreachable' WHEN EXISTS (SELECT 1 FROM outspoken_destinations AS part "
        "WHERE part.origin = whole.origin AND part.open) THEN 'trickling' END, count(*) "
        "FROM outspoken_destinations AS whole WHERE path = '' AND state = 'active' GROUP BY 1"
    )
    for state, count in observed.of_outbox(standing):
        if state is None:
            continue
        assert observed.count("relay_destinations", state=state) == count


def test_every_attempt_has_its_lag_its_duration_and_its_body(observed: Observed) -> None:
    ((attempts, lag, took),) = observed.of_outbox("SELECT count(*), sum(lag), sum(duration) FROM outspoken_attempts")
    assert observed.total("relay_delivery_pickup_lag_seconds_count") == attempts
    assert observed.total("relay_delivery_pickup_lag_seconds_sum") == pytest.approx(lag)
    assert observed.total("relay_delivery_attempt_duration_seconds_count") == attempts
    assert observed.total("relay_delivery_attempt_duration_seconds_sum") == pytest.approx(took)
    assert observed.count("relay_delivery_request_body_bytes_count") == attempts
    ((sent,),) = observed.of_outbox(
        "SELECT sum(body_bytes) FROM outspoken_attempts JOIN outspoken_deliveries USING (seq)"
    )
    assert observed.count("relay_delivery_request_body_bytes_sum") == sent


def test_a_claim_of_a_relay_that_died_was_taken_over(observed: Observed) -> None:
    assert observed.count("relay_leases_expired_total") == 1
    assert observed.of_outbox("SELECT state, lapses FROM outspoken_deliveries WHERE id = '0-lost'") == [
        ("delivered", 1)
    ]


def test_what_waited_for_a_paused_destination_is_no_lateness_of_ours(observed: Observed) -> None:
    ((waited,),) = observed.of_outbox(
        "SELECT count(*) FROM outspoken_attempts JOIN outspoken_deliveries USING (seq) "
        "WHERE outspoken_deliveries.id LIKE '11-%'"
    )
    assert waited == 5
    assert observed.count("relay_delivery_pickup_lag_seconds_count", held_by="destination") >= waited


def test_a_scrape_has_as_many_series_however_many_destinations_there_are(observed: Observed) -> None:
    named = [labels for (name, labels) in observed.samples if name == "relay_destination_backlog_top"]
    assert len(named) <= WORST
    assert not any("127.0." in value for _, labels in observed.samples for _, value in labels)


# --- Prometheus, Grafana and whoever is on call


def points(series: Series) -> int:
    return sum(math.isfinite(float(value)) for one in series for _, value in one["values"])


def test_every_question_of_every_panel_has_an_answer(observed: Observed) -> None:
    def is_answered(expression: str) -> bool:
        return points(observed.watchers.ask(expression, observed.start, observed.end)) > 0

    assert [str(one) for one in questions() if not is_answered(one.expression)] == []


@pytest.mark.parametrize("variable", ["job", "instance"])
def test_the_variables_of_the_dashboards_have_values(observed: Observed, variable: str) -> None:
    for document in DOCUMENTS.values():
        (found,) = (one for one in document["templating"]["list"] if one["name"] == variable)
        selector = written(found["query"]).removeprefix("label_values(").rpartition(",")[0]
        assert len(observed.watchers.values(variable, selector)) == 2


def test_every_rule_can_be_evaluated(observed: Observed) -> None:
    health = observed.watchers.rules()
    assert len(health) > 30
    assert {name for name, how in health.items() if how != "ok"} == set()


@pytest.mark.parametrize(
    ("way", "alert"),
    [
        ("/ticket", "RelayPayloadTooLarge"),
        ("/ticket", "RelayDeadLetters"),
        ("/ticket", "RelayUnsafeUrlBlocked"),
        ("/watchdog", "RelayWatchdog"),
    ],
)
def test_an_alert_reaches_whoever_is_on_call_with_what_to_do(observed: Observed, way: str, alert: str) -> None:
    notice = observed.watchers.alerts.wait_for(way, alert)
    assert notice["status"] == "firing"
    assert notice["annotations"]["summary"].endswith(".")
    assert notice["annotations"]["runbook"].endswith(".")
    assert "{{" not in notice["annotations"]["summary"]


def test_nobody_was_paged_for_what_receivers_did(observed: Observed) -> None:
    observed.watchers.alerts.wait_for("/watchdog", "RelayWatchdog")
    assert [name for way, name in observed.watchers.alerts.names() if way == "/page"] == []
