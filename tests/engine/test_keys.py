"""API keys: shown once, kept as a hash, effective at once."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine import keys
from engine.errors import EngineError
from engine.keys import ApiKeys
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Database
from tests.relay.deliveries import apart


@pytest.fixture
async def door(database: Database) -> AsyncIterator[ApiKeys]:
    door = ApiKeys(database, open_without_keys=True)
    yield door
    await door.close()


async def test_a_key_opens_the_door_until_it_is_removed(database: Database, door: ApiKeys) -> None:
    key = apart(lambda: keys.add(database, "alice"))
    (listed,) = apart(lambda: keys.all_keys(database))
    assert await door.key_id(key) == listed.id
    apart(lambda: keys.remove(database, "alice"))
    assert await door.key_id(key) is None


async def test_a_token_is_good_for_a_while_and_as_long_as_its_key(database: Database, door: ApiKeys) -> None:
    key_id = apart(lambda: keys.add(database, "alice")).split("_")[1]
    token = await door.grant(key_id, 60)
    assert await door.granted(token) == key_id
    assert await door.key_id(token) is None  # it grants nothing itself
    head, expires, signed = token.rsplit("_", 2)
    for forged in (
        f"{head}_{int(expires) + 1}_{signed}",
        f"osg_{'0' * 16}_{expires}_{signed}",
        f"{head}_{expires}_{'0' * 64}",
        await door.grant(key_id, -1),
        await door.grant(None, 60),
        await door.grant("0" * 16, 60),
    ):
        assert await door.granted(forged) is None
    apart(lambda: keys.remove(database, key_id))
    assert await door.granted(token) is None


def test_the_id_is_public_and_the_secret_is_not(database: Database) -> None:
    key = apart(lambda: keys.add(database, "alice"))
    (listed,) = apart(lambda: keys.all_keys(database))
    prefix, key_id, secret = key.split("_")
    assert (prefix, key_id, len(secret)) == ("osk", listed.id, 64)
    with database.reading() as connection:
        ((*texts, sha256),) = connection.execute(
            "SELECT id, name, created_at, sha256 FROM outspoken_api_keys"
        ).fetchall()
    assert texts == [listed.id, "alice", listed.created_at]
    assert sha256 == hashlib.sha256(key.encode()).digest()


def test_no_secret_is_left_in_a_file(database_path: Path) -> None:
    key = keys.add(SqliteDatabase(database_path), "alice")
    _, key_id, secret = key.split("_")
    stored = b"".join(path.read_bytes() for path in database_path.parent.iterdir() if path.is_file())
    assert key_id.encode() in stored
    assert secret.encode() not in stored
    assert bytes.fromhex(secret) not in stored


async def test_nothing_else_opens_the_door(database: Database, door: ApiKeys) -> None:
    key = apart(lambda: keys.add(database, "alice"))
    other = apart(lambda: keys.add(database, "bob"))
    swapped = f"{key[:21]}{other[21:]}"
    for wrong in ("", "osk__", key[:-1], key + "0", key.upper(), f" {key}", swapped, key.replace("osk", "sk"), "\x00"):
        assert await door.key_id(wrong) is None


async def test_keys_are_required_from_the_first_one_on(database: Database, door: ApiKeys) -> None:
    assert not await door.required()
    apart(lambda: keys.add(database, "alice"))
    assert await door.required()


async def test_beyond_this_machine_keys_are_required_even_after_the_last_was_removed(database: Database) -> None:
    door = ApiKeys(database, open_without_keys=False)
    apart(lambda: keys.add(database, "alice"))
    apart(lambda: keys.remove(database, "alice"))
    assert await door.required()
    await door.close()


def test_a_name_is_given_once(database: Database) -> None:
    keys.add(database, "alice")
    with pytest.raises(EngineError, match="'alice' exists"):
        keys.add(database, "alice")


def test_a_key_is_removed_by_the_beginning_of_its_id_that_no_other_has(database: Database) -> None:
    for name in ("alice", "bob"):
        keys.add(database, name)
    with database.writing() as connection:
        connection.execute("UPDATE outspoken_api_keys SET id = 'aaaa' || substr(id, 5)")
    alice, bob = keys.all_keys(database)
    with pytest.raises(EngineError, match=f"{alice.id} .alice., {bob.id} .bob."):
        keys.remove(database, "aaaa")
    keys.remove(database, bob.id[:12])
    with pytest.raises(EngineError, match="no key named ''"):
        keys.remove(database, "")
    assert keys.all_keys(database) == (alice,)


def test_removing_what_is_not_there_is_said(database: Database) -> None:
    with pytest.raises(EngineError, match="no key named 'bob'"):
        keys.remove(database, "bob")


@pytest.mark.parametrize("name", ["", " ", "a" * 65, "a\nb", "a\x00", "-- drop;"])
def test_a_name_must_be_a_line_of_plain_text(database: Database, name: str) -> None:
    with pytest.raises(EngineError, match="cannot name a key"):
        keys.add(database, name)


def test_a_key_may_have_bounds_of_its_own(database: Database) -> None:
    keys.add(database, "bounded", max_queued=5, max_running=1)
    keys.add(database, "free")
    listed = {key.name: (key.max_queued, key.max_running) for key in keys.all_keys(database)}
    assert listed == {"bounded": (5, 1), "free": (None, None)}


@pytest.mark.parametrize("bound", [{"max_queued": 0}, {"max_running": -1}])
def test_a_bound_that_lets_nothing_through_is_a_mistake(database: Database, bound: dict[str, int]) -> None:
    with pytest.raises(EngineError, match=r"^max-(queued|running): .* remove the key"):
        keys.add(database, "alice", **bound)
    assert keys.all_keys(database) == ()
