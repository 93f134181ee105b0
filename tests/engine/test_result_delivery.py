"""A finished job becomes one delivery under the request's own id."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engine.record import media_from_json, media_to_json, request_from_json, request_to_json
from engine.request import Callback, Failed, FailureCode, Media, Request
from engine.result_delivery import delivery_of
from engine.transcript import Channel, Model, Segment, Transcript, Word
from relay.outbox.model import Kind, Method

MEDIA = Media("cd" * 32, 12, 1763672314.0)
TRANSCRIPT = Transcript(
    Model("5f3c1a52-9d3b-5d4e-8f6a-0c2b7e1d9a10", "m", "1", "test"),
    1.0,
    1,
    (Channel((Segment((Word("grüße", 0.0, 0.5, 1.0),)),)),),
)
REQUEST = Request(
    id="0199c0de-0000-7000-8000-000000000001",
    dialect="deepgram",
    model="nova-3",
    recogniser="default",
    callback=Callback("https://u:p@example.com/hook", "PUT"),
    key_id="key-7",
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)


def test_a_transcript_becomes_a_final_delivery() -> None:
    delivery = delivery_of(REQUEST, MEDIA, TRANSCRIPT)
    assert (delivery.id, delivery.url) == (REQUEST.id, "https://u:p@example.com/hook")
    assert (delivery.method, delivery.kind, delivery.content_type) == (Method.PUT, Kind.FINAL, "application/json")
    assert delivery.headers == {"dg-token": "key-7"}
    assert delivery.traceparent == REQUEST.traceparent
    assert "grüße".encode() in delivery.body
    assert json.loads(delivery.body)["metadata"]["request_id"] == REQUEST.id


def test_a_failure_becomes_an_error_delivery() -> None:
    delivery = delivery_of(REQUEST, MEDIA, Failed(FailureCode.AUDIO, "No audio stream."))
    assert delivery.kind is Kind.ERROR
    assert json.loads(delivery.body)["err_code"] == "Bad Request"


def test_a_request_without_a_key_sends_no_token() -> None:
    assert delivery_of(replace(REQUEST, key_id=None), MEDIA, TRANSCRIPT).headers == {}


def test_a_request_without_a_callback_has_no_delivery() -> None:
    with pytest.raises(ValueError, match="has no callback"):
        delivery_of(replace(REQUEST, callback=None), MEDIA, TRANSCRIPT)


def test_a_delivery_is_the_same_after_the_job_row() -> None:
    request = request_from_json(request_to_json(REQUEST))
    media = media_from_json(media_to_json(MEDIA))
    assert delivery_of(request, media, TRANSCRIPT) == delivery_of(REQUEST, MEDIA, TRANSCRIPT)
