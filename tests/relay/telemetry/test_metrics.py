from __future__ import annotations

from dataclasses import replace
from typing import Any

from msgspec import structs
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from relay.outbox.model import KillReason, Kind
from relay.outbox.store import Files
from relay.policy.attempt import Attempted, Dead, Delivery, Failure, Outcome, Reason, Retry, Timing
from relay.policy.breaker import Cause, destination_id
from relay.queue.stats import QueueChanges, QueueDepths, QueueSnapshot
from relay.service.log import Lines
from relay.telemetry.metrics import CurrentGauges, Metrics
from tests.cases import cases
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
        ("cancelled", "operator"),
        *(("dead", reason.value) for reason in Reason),
    }
    results = {("success",), ("http_error",), ("transport_error",)}
    assert labels_of(metrics, "relay_delivery_attempt_duration_seconds_count", "result") == results
    assert labels_of(metrics, "relay_delivery_attempts_per_delivery_count", "result") == {("delivered",), ("dead",)}
    assert labels_of(metrics, "relay_deliveries_enqueued_total", "kind") == {(kind.value,) for kind in Kind}
    states = {("ready",), ("held",), ("scheduled",), ("in_flight",), ("dead",)}
    assert labels_of(metrics, "relay_outbox_deliveries", "state") == states
    loops = {("claim",), ("renew",), ("stats",), ("expire",), ("settle",), ("retention",), ("check_in",)}
    loops |= {("stream_news",), ("stream_hold",), ("stream_settle",), ("judge",), ("listen",)}
    for name in ("iterations_total", "errors_total", "last_success_timestamp_seconds"):
        assert labels_of(metrics, f"relay_loop_{name}", "loop") == loops
    assert labels_of(metrics, "relay_delivery_connections_total", "reused") == {("true",), ("false",)}
    assert value(metrics, "relay_leases_expired_total") == 0
    assert value(metrics, "relay_settlements_stale_total") == 0


def test_every_end_of_a_stream_finds_its_series() -> None:
    metrics = Metrics(16)
    reasons = [None, *(reason for reason in KillReason if reason is not KillReason.DELIVERY)]
    for reason in reasons:
        metrics.streams.finished(reason)
    for reason in reasons:
        assert value(metrics, "relay_streams_finished_total", reason=reason or "none") == 1


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
    assert value(metrics, "relay_delivery_pickup_lag_seconds_sum", held_by="relay") == 0.5
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
    assert value(metrics, "relay_delivery_pickup_lag_seconds_count", held_by="relay") == 4


@cases("loop", ["claim", "renew", "stats", "expire", "settle", "retention", "check_in", "listen"])
def test_every_loop_is_counted_by_its_name(loop: str) -> None:
    metrics = Metrics(16)
    metrics.loops.turned(loop, ok=True)
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


def snapshot(**fields: Any) -> QueueSnapshot:
    queues = QueueDepths(ready=3, scheduled=4, held=5, ready_age=12.5, held_age=600.0, worst={"http://a:80": 12})
    since = QueueChanges(added={Kind.FINAL: 5, Kind.ERROR: 1}, replayed={"cli": 4}, cancelled=2, opened=1, closed=0)
    plain = QueueSnapshot(
        taken_at=1700.0,
        took=0.25,
        queues=queues,
        in_flight=2,
        dead=1,
        oldest_undelivered_age=99.0,
        destination_states={"delivering": 8, "trickling": 1},
        held_up=frozenset(),
        files=Files(database=4096, log=8192, free=10**9),
        since=since,
        key_age=86400.0,
        backup_at=1600.0,
    )
    return replace(plain, **fields)


def test_the_outbox_is_shown_as_it_was_counted() -> None:
    metrics = Metrics(16)
    metrics.snapshot(snapshot(taken_at=1695.0))
    metrics.snapshot(snapshot())
    states = ("ready", "held", "scheduled", "in_flight", "dead")
    assert [value(metrics, "relay_outbox_deliveries", state=state) for state in states] == [3, 5, 4, 2, 1]
    assert value(metrics, "relay_outbox_oldest_due_age_seconds", held_by="relay") == 12.5
    assert value(metrics, "relay_outbox_oldest_due_age_seconds", held_by="destination") == 600.0
    assert value(metrics, "relay_outbox_oldest_undelivered_age_seconds") == 99.0
    assert value(metrics, "relay_outbox_stats_timestamp_seconds") == 1700.0
    assert value(metrics, "relay_outbox_stats_duration_seconds") == 0.25
    sizes = [value(metrics, f"relay_outbox_{name}_bytes") for name in ("database", "wal", "disk_free")]
    assert sizes == [4096, 8192, 10**9]
    assert value(metrics, "relay_signing_key_age_seconds") == 86400
    assert value(metrics, "relay_backup_last_success_timestamp_seconds") == 1600


def test_what_a_server_does_not_tell_of_its_disk_is_left_out_and_not_0() -> None:
    metrics = Metrics(16)
    metrics.snapshot(snapshot(files=Files(database=4096, log=None, free=None)))
    assert value(metrics, "relay_outbox_database_bytes") == 4096
    told = {sample.name for family in metrics.registry.collect() for sample in family.samples}
    assert not told & {"relay_outbox_wal_bytes", "relay_outbox_disk_free_bytes"}


def test_destinations_are_counted_by_how_they_stand() -> None:
    metrics = Metrics(16)
    metrics.snapshot(snapshot(destination_states={"delivering": 8, "trickling": 1}))
    metrics.snapshot(snapshot(destination_states={"delivering": 7, "disabled": 2}))
    destination_states = ("delivering", "paused", "disabled", "trickling")
    assert [value(metrics, "relay_destinations", state=standing) for standing in destination_states] == [7, 0, 2, 0]


def test_of_the_judgement_the_worst_are_told_apart_and_all_are_counted() -> None:
    metrics = Metrics(16)
    metrics.judged(2, [("0badcafe", Cause.PAUSED, 4)])
    metrics.judged(1, [(f"{number:08x}", Cause.FAILING, number) for number in range(25)])
    assert value(metrics, "relay_condition_severity") == 1
    assert value(metrics, "relay_destinations_in_trouble", cause="failing") == 25
    assert value(metrics, "relay_destinations_in_trouble", cause="paused") == 0
    assert value(metrics, "relay_destination_trouble", destination="00000013", cause="failing") == 19
    (family,) = (one for one in metrics.registry.collect() if one.name == "relay_destination_trouble")
    assert len(family.samples) == 20


def test_what_happened_between_two_counts_adds_up() -> None:
    metrics = Metrics(16)
    metrics.snapshot(snapshot())
    metrics.snapshot(snapshot())
    assert value(metrics, "relay_deliveries_enqueued_total", kind="final") == 10
    assert value(metrics, "relay_deliveries_enqueued_total", kind="error") == 2
    assert value(metrics, "relay_deliveries_enqueued_total", kind="partial") == 0
    assert value(metrics, "relay_replays_total", source="cli") == 8
    assert value(metrics, "relay_deliveries_finished_total", result="cancelled", reason="operator") == 4
    assert value(metrics, "relay_destination_breaker_transitions_total", to="open") == 2
    assert value(metrics, "relay_destination_breaker_transitions_total", to="closed") == 0


def test_the_worst_destinations_are_told_by_their_ids() -> None:
    metrics = Metrics(16)
    metrics.snapshot(snapshot(queues=replace(snapshot().queues, worst={"http://c:80": 3, "http://a:80": 12})))
    assert value(metrics, "relay_destination_backlog_top", destination=destination_id("http://c:80")) == 3
    assert value(metrics, "relay_destination_backlog_top", destination=destination_id("http://a:80")) == 12
    metrics.snapshot(snapshot(queues=replace(snapshot().queues, worst={"http://b:80": 3})))
    assert labels_of(metrics, "relay_destination_backlog_top", "destination") == {(destination_id("http://b:80"),)}


def started(delivery: Delivery, at: float) -> Attempted:
    return structs.replace(attempted(delivery), started_at=at, finished_at=at)


def test_lateness_is_the_destinations_own_if_it_was_held_up_since_the_delivery_was_due() -> None:
    metrics = Metrics(16)
    metrics.snapshot(snapshot(taken_at=1005.0, held_up=frozenset({claimed().destination})))
    before, after = claimed(due_at=1000.0), claimed(due_at=1010.0)
    elsewhere = claimed(due_at=1000.0, destination="https://well.example:443")
    metrics([started(one, 1020.0) for one in (before, after, elsewhere)])
    assert value(metrics, "relay_delivery_pickup_lag_seconds_sum", held_by="destination") == 20
    assert value(metrics, "relay_delivery_pickup_lag_seconds_sum", held_by="relay") == 30


def test_what_held_a_destination_up_is_forgotten_after_a_day() -> None:
    metrics = Metrics(16)
    metrics.snapshot(snapshot(taken_at=1005.0, held_up=frozenset({claimed().destination})))
    metrics.snapshot(snapshot(taken_at=1005.0 + 86400))
    metrics([started(claimed(due_at=1000.0), 1020.0)])
    assert value(metrics, "relay_delivery_pickup_lag_seconds_count", held_by="destination") == 0


def test_what_the_moving_parts_counted_adds_up() -> None:
    metrics = Metrics(16)
    metrics.counted(stale=1, lapsed=2, ended={Reason.EXPIRED: 3})
    metrics.counted(stale=1, lapsed=0, ended={Reason.EXPIRED: 1, Reason.STREAM_KILLED: 5})
    assert value(metrics, "relay_settlements_stale_total") == 2
    assert value(metrics, "relay_leases_expired_total") == 2
    assert value(metrics, "relay_deliveries_finished_total", result="dead", reason="expired") == 4
    assert value(metrics, "relay_deliveries_finished_total", result="dead", reason="stream_killed") == 5
    assert value(metrics, "relay_delivery_concurrency_limit") == 16


def test_a_scrape_asks_what_is_under_way_now() -> None:
    metrics, lines, under_way = Metrics(16), Lines(), [7]
    CurrentGauges(
        metrics.registry,
        draining=lambda: len(under_way) > 1,
        in_flight=lambda: under_way[-1],
        held=lambda: 5,
        lines=lines,
    )
    lines(None, "warning", {})
    assert value(metrics, "relay_draining") == 0
    under_way.append(3)
    assert value(metrics, "relay_draining") == 1
    assert value(metrics, "relay_delivery_attempts_in_flight") == 3
    assert value(metrics, "relay_streams_held") == 5
    assert value(metrics, "relay_log_events_total", level="warning") == 1
    assert value(metrics, "relay_log_events_total", level="error") == 0


def test_the_slowest_of_a_batch_leads_to_its_trace() -> None:
    metrics = Metrics(16)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    slow = attempted(claimed(traceparent=f"00-{trace}-00f067aa0ba902b7-01"), answer(200, timing=Timing(3.0)))
    metrics([attempted(claimed()), slow])
    exposed = openmetrics.generate_latest(metrics.registry).decode()  # type: ignore[no-untyped-call]
    (line,) = (line for line in exposed.splitlines() if trace in line)
    assert line.startswith('relay_delivery_attempt_duration_seconds_bucket{le="5.0",result="success"} 2.0 #')


def test_the_build_is_named() -> None:
    (labels,) = labels_of(Metrics(16), "relay_build_info", "version", "revision")
    assert all(labels)


def test_a_loop_that_fails_turns_without_success() -> None:
    metrics = Metrics(16)
    metrics.loops.turned("claim", ok=False)
    assert value(metrics, "relay_loop_iterations_total", loop="claim") == 1
    assert value(metrics, "relay_loop_errors_total", loop="claim") == 1
    assert value(metrics, "relay_loop_last_success_timestamp_seconds", loop="claim") == 0
    metrics.loops.turned("claim", ok=True)
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
