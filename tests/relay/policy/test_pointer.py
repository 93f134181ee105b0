from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

from relay.outbox.links import opens
from relay.outbox.model import Kind
from relay.policy.pointer import Pointers
from tests.relay.deliveries import claimed

NOW = 1000.5
SECRET = b"s" * 32
POINTERS = Pointers("https://speech.example/", SECRET, lifetime=600.0)


def test_the_envelope_says_what_waits_where_and_for_how_long() -> None:
    envelope = json.loads(POINTERS.envelope(claimed("id-1", kind=Kind.ERROR, body_bytes=5_000_000), NOW))
    assert set(envelope) == {"id", "event", "result_url", "expires_at", "size"}
    assert (envelope["id"], envelope["event"], envelope["size"]) == ("id-1", "result.error", 5_000_000)
    assert envelope["expires_at"] == 1600
    url = urlsplit(envelope["result_url"])
    assert (url.scheme, url.netloc, url.path) == ("https", "speech.example", "/v1/results/id-1")


def test_an_envelope_is_small_whatever_the_result() -> None:
    assert len(POINTERS.envelope(claimed("x" * 128, body_bytes=10**9), NOW)) < 600


def test_an_id_with_signs_of_its_own_stays_one_segment_of_the_path() -> None:
    envelope = json.loads(POINTERS.envelope(claimed("a/b?c#d e%"), NOW))
    assert urlsplit(envelope["result_url"]).path == "/v1/results/a%2Fb%3Fc%23d%20e%25"


def test_the_link_in_it_opens_the_result_until_it_expires() -> None:
    envelope = json.loads(POINTERS.envelope(claimed("id-1"), NOW))
    query = {name: value for name, (value,) in parse_qs(urlsplit(envelope["result_url"]).query).items()}
    assert query["expires"] == str(envelope["expires_at"])
    assert opens(SECRET, "id-1", query["expires"], query["signature"], 1599.9)


def test_the_secret_is_not_shown() -> None:
    assert "ssss" not in repr(POINTERS)
