from __future__ import annotations

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from relay.model import Dead, Failure, Kind, Outcome, Reason, Retry
from relay.outbox.stock import Snapshot
from relay.telemetry.metrics import Metrics
from tests.relay.deliveries import answer, attempted, claimed


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def labels_of(metrics: Metrics, name: str, *keys: str) -> set[tuple[str, ...]]:
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    samples = (sample for family in families for sample in family.samples)
    return {tuple(sample.labels[key] for key in keys) for sample in samples if sample.name == name}


def test_every_combination_of_labels_exists_from_the_start() -> None:
    metrics = Metrics(16)
    outcomes = {(outcome.value,) for outcome in Outcome}
    assert labels_of(metrics, "relay_delivery_attempts_total", "outcome") == outcomes
    assert labels_of(metrics, "relay_deliveries_finished_total", "result", "reason") == {
        ("delivered", "none"),
        *(("dead", reason.value) for reason in Reason),
    }
    results = {("success",), ("http_error",), ("transport_error",)}
    assert labels_of(metrics, "relay_delivery_attempt_duration_seconds_count", "result") == results
    assert labels_of(metrics, "relay_delivery_attempts_per_delivery_count", "result") == {("delivered",), ("dead",)}
    assert labels_of(metrics, "relay_deliveries_enqueued_total", "kind") == {(kind.value,) for kind in Kind}
    states = {("ready",), ("scheduled",), ("in_flight",), ("dead",)}
    assert labels_of(metrics, "relay_outbox_deliveries", "state") == states
    loops = {("claim",), ("renew",), ("stats",), ("expire",), ("settle",), ("retention",)}
    for name in ("iterations_total", "errors_total", "last_success_timestamp_seconds"):
        assert labels_of(metrics, f"relay_loop_{name}", "loop") == loops
    assert labels_of(metrics, "relay_delivery_connections_total", "reused") == {("true",), ("false",)}
    assert value(metrics, "relay_leases_expired_total") == 0
    assert value(metrics, "relay_settlements_stale_total") == 0


def test_every_outcome_and_verdict_finds_its_series() -> None:
    metrics = Metrics(16)
    for outcome in (answer(status) for status in (200, 301, 400, 410, 413, 429, 500)):
        metrics([attempted(claimed(), outcome)])
    for failure in Failure:
        metrics([attempted(claimed(), answer(failure=failure))])
    for reason in Reason:
        metrics([attempted(claimed(), answer(500), Dead(reason))])
    assert all((value(metrics, "relay_delivery_attempts_total", outcome=o.value) or 0) > 0 for o in Outcome)


def test_a_delivered_attempt_is_counted_where_it_belongs() -> None:
    metrics = Metrics(16)
    delivery = claimed(attempts=2, created_at=991.0, body_bytes=2000)
    metrics([attempted(delivery, answer(200, peer="203.0.113.9", reused=True))])
    assert value(metrics, "relay_delivery_attempts_total", outcome="success") == 1
    assert value(metrics, "relay_deliveries_finished_total", result="delivered", reason="none") == 1
    assert value(metrics, "relay_delivery_attempt_duration_seconds_sum", result="success") == 0.05
    assert value(metrics, "relay_delivery_pickup_lag_seconds_sum") == 0.5
    assert value(metrics, "relay_delivery_end_to_end_seconds_sum") == 10.0
    assert value(metrics, "relay_delivery_attempts_per_delivery_sum", result="delivered") == 3
    assert value(metrics, "relay_delivery_request_body_bytes_sum") == 2000
    assert value(metrics, "relay_delivery_connections_total", reused="true") == 1


def test_a_batch_counts_each_of_its_attempts() -> None:
    metrics = Metrics(16)
    well, failed = attempted(claimed(body_bytes=10)), attempted(claimed(body_bytes=10), answer(500), Retry(2000.0))
    metrics([well, failed, well])
    metrics([])
    metrics([failed])
    assert value(metrics, "relay_delivery_attempts_total", outcome="success") == 2
    assert value(metrics, "relay_delivery_attempts_total", outcome="http_5xx") == 2
    assert value(metrics, "relay_deliveries_finished_total", result="delivered", reason="none") == 2
    assert value(metrics, "relay_delivery_request_body_bytes_sum") == 40
    assert value(metrics, "relay_delivery_pickup_lag_seconds_count") == 4


@pytest.mark.parametrize("loop", ["claim", "renew", "stats", "expire", "settle", "retention"])
def test_every_loop_is_counted_by_its_name(loop: str) -> None:
    metrics = Metrics(16)
    metrics.turned(loop, ok=True)
    assert value(metrics, "relay_loop_iterations_total", loop=loop) == 1
    assert value(metrics, "relay_loop_errors_total", loop=loop) == 0


def test_a_retry_finishes_nothing() -> None:
    metrics = Metrics(16)
    metrics([attempted(claimed(), answer(503), Retry(2000.0))])
    assert value(metrics, "relay_delivery_attempts_total", outcome="http_5xx") == 1
    assert value(metrics, "relay_delivery_attempt_duration_seconds_count", result="http_error") == 1
    assert value(metrics, "relay_delivery_end_to_end_seconds_count") == 0
    finished = labels_of(metrics, "relay_deliveries_finished_total", "result", "reason")
    assert {value(metrics, "relay_deliveries_finished_total", result=r, reason=why) for r, why in finished} == {0}


def test_a_dead_letter_is_counted_by_its_reason() -> None:
    metrics = Metrics(16)
    metrics([attempted(claimed(attempts=10), answer(failure=Failure.DNS), Dead(Reason.EXHAUSTED))])
    assert value(metrics, "relay_deliveries_finished_total", result="dead", reason="exhausted") == 1
    assert value(metrics, "relay_delivery_attempts_per_delivery_sum", result="dead") == 11
    assert value(metrics, "relay_delivery_attempt_duration_seconds_count", result="transport_error") == 1
    assert value(metrics, "relay_delivery_connections_total", reused="false") == 0


def test_the_outbox_is_shown_as_it_was_counted() -> None:
    metrics = Metrics(16)
    counts = {Kind.FINAL: 5, Kind.ERROR: 1}
    metrics.counted(Snapshot(1700.0, 0.25, 3, 4, 2, 1, 12.5, 99.0, counts, high_water=6))
    metrics.counted(Snapshot(1705.0, 0.25, 3, 4, 2, 1, 17.5, 99.0, {Kind.FINAL: 2}, high_water=8))
    shown = {s: value(metrics, "relay_outbox_deliveries", state=s) for s in ("ready", "scheduled", "in_flight", "dead")}
    assert shown == {"ready": 3, "scheduled": 4, "in_flight": 2, "dead": 1}
    assert value(metrics, "relay_deliveries_enqueued_total", kind="final") == 7
    assert value(metrics, "relay_deliveries_enqueued_total", kind="error") == 1
    assert value(metrics, "relay_outbox_oldest_due_age_seconds") == 17.5
    assert value(metrics, "relay_outbox_oldest_undelivered_age_seconds") == 99.0
    assert value(metrics, "relay_outbox_stats_timestamp_seconds") == 1705.0
    assert value(metrics, "relay_outbox_stats_duration_seconds") == 0.25


def test_what_the_moving_parts_counted_adds_up() -> None:
    metrics = Metrics(16)
    metrics.working(draining=False, in_flight=7, stale=1, lapsed=2)
    metrics.working(draining=True, in_flight=3, stale=1, lapsed=0)
    assert value(metrics, "relay_draining") == 1
    assert value(metrics, "relay_delivery_attempts_in_flight") == 3
    assert value(metrics, "relay_settlements_stale_total") == 2
    assert value(metrics, "relay_leases_expired_total") == 2
    assert value(metrics, "relay_delivery_concurrency_limit") == 16


def test_a_loop_that_fails_turns_without_success() -> None:
    metrics = Metrics(16)
    metrics.turned("claim", ok=False)
    assert value(metrics, "relay_loop_iterations_total", loop="claim") == 1
    assert value(metrics, "relay_loop_errors_total", loop="claim") == 1
    assert value(metrics, "relay_loop_last_success_timestamp_seconds", loop="claim") == 0
    metrics.turned("claim", ok=True)
    assert value(metrics, "relay_loop_errors_total", loop="claim") == 1
    assert (value(metrics, "relay_loop_last_success_timestamp_seconds", loop="claim") or 0) > 0


def test_no_label_and_no_value_holds_a_secret() -> None:
    metrics = Metrics(16)
    delivery = claimed("canary", url="https://u:canary@canary.example/?canary", headers={"k": "canary"})
    metrics([attempted(delivery, answer(failure=Failure.TLS, detail="canary", peer="203.0.113.9"))])
    exposed = generate_latest(metrics.registry)
    assert b"canary" not in exposed
    assert b"203.0.113.9" not in exposed


def test_there_are_no_created_series() -> None:
    assert b"_created" not in generate_latest(Metrics(16).registry)
