"""What several workers count, in one text that a scraper understands."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from relay.service.health import exposed
from relay.telemetry.merged import merged
from tests.cases import cases

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def exposition(served: int, accept: str = "") -> str:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    served_to = Counter("served", "Meals.", ["dish"], registry=registry)
    served_to.labels('so{u}p "hot"').inc(served)
    Histogram("wait_seconds", "How long.", registry=registry, buckets=(1,)).observe(
        served, {"trace_id": "t1"} if accept else None
    )
    Gauge("guests", "Now.", registry=registry).set(served)
    return exposed(registry, accept)[0].decode()


@cases(("accept", "read"), [("", read_text), (OPENMETRICS, read_openmetrics)])
def test_each_series_says_whose_it_is_and_each_family_stands_once(accept: str, read: object) -> None:
    assert callable(read)
    families = list(read(merged({"0": exposition(2, accept), "1": exposition(5, accept)})))
    assert [family.name for family in families] == ["served", "wait_seconds", "guests"]
    values = {
        (sample.name, sample.labels["worker"], sample.labels.get("dish")): sample.value
        for family in families
        for sample in family.samples
        if sample.name in ("served_total", "guests")
    }
    assert values == {
        ("served_total", "0", 'so{u}p "hot"'): 2,
        ("served_total", "1", 'so{u}p "hot"'): 5,
        ("guests", "0", None): 2,
        ("guests", "1", None): 5,
    }


def test_an_exemplar_stays_with_its_bucket() -> None:
    text = merged({"0": exposition(2, OPENMETRICS)})
    families = list(read_openmetrics(text))  # type: ignore[no-untyped-call]
    exemplars = [sample.exemplar for family in families for sample in family.samples if sample.exemplar]
    assert [exemplar.labels for exemplar in exemplars] == [{"trace_id": "t1"}]


def test_what_belongs_to_no_worker_is_left_as_it_is() -> None:
    assert merged({"": exposition(3)}) == exposition(3)
