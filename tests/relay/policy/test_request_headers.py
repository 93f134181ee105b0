from __future__ import annotations

from relay.guard.url import Target
from relay.outbox.model import Method
from relay.policy import request_headers
from relay.policy.attempt import Delivery
from relay.policy.request_headers import Headers, handshake, is_presigned, redacted
from relay.policy.signing import parse_key, signature
from tests.cases import cases
from tests.relay.deliveries import claimed

KEY = parse_key("whsec_" + "a" * 32)


def headers(delivery: Delivery, target: Target, *, body: bytes = b"{}", signed: bool = False) -> Headers:
    return request_headers.headers(delivery, target, "Outspoken/1", body=body, keys=[KEY] if signed else [], now=1000.9)


PLAIN = Target("https", "receiver.example", 443, "/hook?x=1")
PRESIGNED = [
    "/b/k?X-Amz-Signature=ab&X-Amz-Date=1",
    "/b/k?sv=1&sig=ab",
    "/b/k?X-Goog-Signature=ab",
    "/?x-amz-signature=",
]


def test_a_delivery_carries_its_id_and_the_number_of_this_attempt() -> None:
    sealed = headers(claimed("id-1", attempts=3, lapses=1), PLAIN)
    assert sealed == (
        ("content-type", "application/json"),
        ("user-agent", "Outspoken/1"),
        ("webhook-id", "id-1"),
        ("webhook-attempt", "5"),
        ("webhook-timestamp", "1000"),
    )


def test_with_a_key_the_request_is_signed() -> None:
    sealed = dict(headers(claimed("id-1"), PLAIN, signed=True))
    assert sealed["webhook-timestamp"] == "1000"
    assert sealed["webhook-signature"] == KEY.sign(b"id-1.1000.", b"{}")


def test_only_a_delivery_of_a_stream_has_a_place_in_one() -> None:
    in_turn = dict(headers(claimed(stream_id=3, position=7), PLAIN))
    assert (in_turn["webhook-stream"], in_turn["webhook-sequence"]) == ("3", "7")
    assert {"webhook-stream", "webhook-sequence"}.isdisjoint(dict(headers(claimed(), PLAIN)))


def test_what_is_kept_of_the_headers_holds_no_secret() -> None:
    secrets = {
        "Authorization": "Basic canary",
        "proxy-authorization": "canary",
        "Cookie": "canary",
        "Set-Cookie": "canary",
        "webhook-signature": "v1,canary",
        "WWW-Authenticate": "canary",
    }
    kept = redacted((*secrets.items(), ("webhook-id", "id-1")))
    assert kept == (*((name, "[redacted]") for name in secrets), ("webhook-id", "id-1"))


def test_the_producers_headers_and_its_trace_go_along() -> None:
    delivery = claimed(headers={"dg-token": "key-id"}, traceparent="00-ab-cd-01", content_type="text/plain")
    sealed = dict(headers(delivery, PLAIN))
    assert (sealed["dg-token"], sealed["traceparent"], sealed["content-type"]) == (
        "key-id",
        "00-ab-cd-01",
        "text/plain",
    )


def test_the_credential_of_the_url_becomes_a_header() -> None:
    target = Target("https", "receiver.example", 443, "/", authorization="Basic dTpw")
    assert ("authorization", "Basic dTpw") in headers(claimed(), target)
    assert "authorization" not in dict(headers(claimed(), PLAIN))


@cases("path", PRESIGNED)
def test_an_upload_to_a_presigned_url_carries_nothing_unexpected(path: str) -> None:
    delivery = claimed(method=Method.PUT, headers={"dg-token": "key-id"}, traceparent="00-ab-cd-01")
    sealed = headers(delivery, Target("https", "bucket.example", 443, path), signed=True)
    assert sealed == (("content-type", "application/json"), ("user-agent", "Outspoken/1"))


@cases("path", PRESIGNED)
def test_a_post_is_never_taken_for_an_upload(path: str) -> None:
    target = Target("https", "bucket.example", 443, path)
    assert "webhook-id" in dict(headers(claimed(), target))


@cases("path", ["/", "/sig", "/sig=1", "/?signature=1", "/?x=sig", "/?a=X-Amz-Signature", "/?sig%3D=1"])
def test_another_put_carries_everything(path: str) -> None:
    target = Target("https", "receiver.example", 443, path)
    assert not is_presigned(target)
    assert "webhook-attempt" in dict(headers(claimed(method=Method.PUT), target))


def test_a_handshake_is_signed_over_the_key_of_its_stream_and_no_body() -> None:
    target = Target("wss", "h.example", 443, "/live?k=v", "Basic dTpw")
    sent = dict(handshake(7, "session", target, "Outspoken/1", {"dg-token": "t"}, (KEY,), 1000.9))
    assert sent == {
        "user-agent": "Outspoken/1",
        "authorization": "Basic dTpw",
        "webhook-id": "session",
        "webhook-attempt": "1",
        "webhook-stream": "7",
        "dg-token": "t",
        "webhook-timestamp": "1000",
        "webhook-signature": signature((KEY,), "session", 1000, b""),
    }


def test_of_what_a_receiver_chose_a_little_is_kept() -> None:
    few = (("Server", "nginx"), ("Set-Cookie", "s3cret"), ("Location", "https://u:p@h.example/?s3cret"))
    assert request_headers.kept(few) == (
        ("Server", "nginx"),
        ("Set-Cookie", "[redacted]"),
        ("Location", "https://h.example/"),
    )
    many = tuple((f"X-{number}", "x" * 7000) for number in range(8))
    kept = request_headers.kept(many)
    assert sum(len(name) + len(value) for name, value in kept) < 5000
    assert kept[0] == ("X-0", "x" * 512 + "...")
    assert kept[-1] == ("...", "1 more")
