"""Which keys sign for a destination, and from when on."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence

import pytest

from relay.outbox.store import Database
from relay.policy.signing import SigningKey, parse_key
from relay.queue.deliveries import DeliveryQueue
from tests.relay.deliveries import new, put, rows
from tests.relay.queue.claims import START, Clock, Open, claim

ORIGIN, OTHER = "https://receiver.example:443", "http://other.example:80"
A, B, C = ("whsec_" + base64.b64encode(name * 32).decode() for name in (b"a", b"b", b"c"))
ED25519 = "whsk_" + base64.b64encode(b"d" * 32).decode()


def key(database: Database, text: str, origin: str | None = None, retires_at: float | None = None) -> None:
    """Put a key in, on a connection of one's own, as an operator does."""
    rows(
        database,
        "INSERT INTO outspoken_signing_keys (origin, key, created_at, retires_at) VALUES (?, ?, 1.0, ?)",
        origin,
        text,
        retires_at,
    )


@pytest.fixture(autouse=True)
def destinations(database: Database) -> None:
    put(database, new("d1"), new("d2", "http://other.example/"), due_at=START + 1e6)


def written(*keys: str) -> Sequence[SigningKey]:
    return tuple(parse_key(text) for text in keys)


def signature_of(keys: Sequence[SigningKey]) -> list[str]:
    return [one.sign(b"content", b"") for one in keys]


async def test_without_keys_nothing_is_signed(relays: Open) -> None:
    assert await relays().keys(ORIGIN) == ()


async def test_a_global_key_signs_for_everyone(database: Database, relays: Open) -> None:
    key(database, A)
    key(database, ED25519)
    relay = relays()
    for origin in (ORIGIN, OTHER, "http://never.seen:80"):
        assert signature_of(await relay.keys(origin)) == signature_of(written(A, ED25519))


async def test_a_destinations_own_keys_stand_in_for_the_global_ones(database: Database, relays: Open) -> None:
    key(database, A)
    key(database, B, ORIGIN)
    key(database, C, ORIGIN)
    relay = relays()
    assert signature_of(await relay.keys(ORIGIN)) == signature_of(written(B, C))
    assert signature_of(await relay.keys(OTHER)) == signature_of(written(A))


async def test_a_key_signs_until_it_retires(database: Database, relays: Open, clock: Clock) -> None:
    key(database, A)
    key(database, B, ORIGIN, retires_at=START + 10)
    key(database, C, ORIGIN, retires_at=START + 20)
    clock.now = START + 9
    assert signature_of(await relays().keys(ORIGIN)) == signature_of(written(B, C))
    clock.now = START + 10
    assert signature_of(await relays().keys(ORIGIN)) == signature_of(written(C))
    clock.now = START + 20
    assert signature_of(await relays().keys(ORIGIN)) == signature_of(written(A))


async def signs_by(relay: DeliveryQueue, *keys: str) -> None:
    """Ask until these keys, and no others, sign."""
    async with asyncio.timeout(10):
        while signature_of(await relay.keys(ORIGIN)) != signature_of(written(*keys)):
            await asyncio.sleep(0)


async def test_a_rotation_counts_though_the_relay_was_not_told(database: Database, relays: Open, clock: Clock) -> None:
    relay = relays()
    assert await relay.keys(ORIGIN) == ()
    key(database, A)
    await signs_by(relay, A)
    key(database, B)
    await signs_by(relay, A, B)
    rows(database, "UPDATE outspoken_signing_keys SET retires_at = ? WHERE key = ?", START, A)
    await signs_by(relay, B)
    key(database, C, ORIGIN)
    await signs_by(relay, C)
    rows(database, "DELETE FROM outspoken_signing_keys WHERE key = ?", C)
    await signs_by(relay, B)


async def test_a_key_in_the_place_of_another_counts(database: Database, relays: Open) -> None:
    key(database, A)
    relay = relays()
    await signs_by(relay, A)
    rows(database, "DELETE FROM outspoken_signing_keys")
    key(database, B)
    await signs_by(relay, B)


async def test_a_time_that_comes_counts(database: Database, relays: Open, clock: Clock) -> None:
    key(database, A)
    key(database, B, retires_at=START + 10)
    relay = relays()
    await signs_by(relay, A, B)
    clock.now = START + 10
    await signs_by(relay, A)


async def test_what_is_claimed_after_a_rotation_is_signed_by_the_new_key(database: Database, relays: Open) -> None:
    relay = relays()
    for text in (A, B, C):
        key(database, text, ORIGIN)
        put(database, new(text[-9:]), due_at=START)
        assert len(await claim(relay)) == 1
        assert signature_of(await relay.keys(ORIGIN))[-1:] == signature_of(written(text))
