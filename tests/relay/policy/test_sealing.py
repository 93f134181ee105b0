from __future__ import annotations

import pytest

from relay.model import Method, Target
from relay.policy.sealing import headers, is_presigned
from tests.relay.deliveries import claimed

PLAIN = Target("https", "receiver.example", 443, "/hook?x=1")
PRESIGNED = [
    "/b/k?X-Amz-Signature=ab&X-Amz-Date=1",
    "/b/k?sv=1&sig=ab",
    "/b/k?X-Goog-Signature=ab",
    "/?x-amz-signature=",
]


def test_a_delivery_carries_its_id_and_the_number_of_this_attempt() -> None:
    sealed = headers(claimed("id-1", attempts=3, lapses=1), PLAIN, "Outspoken/1")
    assert sealed == (
        ("content-type", "application/json"),
        ("user-agent", "Outspoken/1"),
        ("webhook-id", "id-1"),
        ("webhook-attempt", "5"),
    )


def test_the_producers_headers_and_its_trace_go_along() -> None:
    delivery = claimed(headers={"dg-token": "key-id"}, traceparent="00-ab-cd-01", content_type="text/plain")
    sealed = dict(headers(delivery, PLAIN, "ua"))
    assert (sealed["dg-token"], sealed["traceparent"], sealed["content-type"]) == (
        "key-id",
        "00-ab-cd-01",
        "text/plain",
    )


def test_the_credential_of_the_url_becomes_a_header() -> None:
    target = Target("https", "receiver.example", 443, "/", authorization="Basic dTpw")
    assert ("authorization", "Basic dTpw") in headers(claimed(), target, "ua")
    assert "authorization" not in dict(headers(claimed(), PLAIN, "ua"))


@pytest.mark.parametrize("path", PRESIGNED)
def test_an_upload_to_a_presigned_url_carries_nothing_unexpected(path: str) -> None:
    delivery = claimed(method=Method.PUT, headers={"dg-token": "key-id"}, traceparent="00-ab-cd-01")
    sealed = headers(delivery, Target("https", "bucket.example", 443, path), "ua")
    assert sealed == (("content-type", "application/json"), ("user-agent", "ua"))


@pytest.mark.parametrize("path", PRESIGNED)
def test_a_post_is_never_taken_for_an_upload(path: str) -> None:
    target = Target("https", "bucket.example", 443, path)
    assert not is_presigned(Method.POST, target)
    assert "webhook-id" in dict(headers(claimed(), target, "ua"))


@pytest.mark.parametrize(
    "path", ["/", "/sig", "/sig=1", "/?signature=1", "/?x=sig", "/?a=X-Amz-Signature", "/?sig%3D=1"]
)
def test_another_put_carries_everything(path: str) -> None:
    target = Target("https", "receiver.example", 443, path)
    assert not is_presigned(Method.PUT, target)
    assert "webhook-attempt" in dict(headers(claimed(method=Method.PUT), target, "ua"))
