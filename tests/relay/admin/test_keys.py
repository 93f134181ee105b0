from __future__ import annotations

import base64

import pytest

from relay.admin import keys
from relay.admin.access import NotFound, Refused
from relay.admin.audit import acts
from relay.outbox.store import Database
from relay.policy.signing import PrivateKey, SymmetricKey
from tests.relay.admin.past import OPERATOR
from tests.relay.deliveries import rows

ORIGIN = "https://receiver.example:443"


def add(database: Database, origin: str | None = None, *, ed25519: bool = False, now: float = 1000.0) -> keys.NewKey:
    return keys.add(database, keys.generate(ed25519=ed25519), origin, OPERATOR, now)


def test_a_secret_is_handed_over_once_and_never_listed(database: Database) -> None:
    new = add(database)
    assert new.handover.startswith("whsec_")
    assert len(base64.b64decode(new.handover.removeprefix("whsec_"))) == 32
    (listed,) = keys.keys(database)
    assert (listed.kind, listed.destination, listed.public, listed.signs(5000.0)) == ("v1", None, None, True)
    for told in (repr(new), repr(listed), repr(acts(database))):
        assert new.handover.removeprefix("whsec_") not in told


def test_of_a_key_pair_only_the_public_half_is_handed_over(database: Database) -> None:
    new = add(database, ed25519=True)
    ((private,),) = rows(database, "SELECT key FROM outspoken_signing_keys")
    assert private.startswith("whsk_")
    assert new.handover.startswith("whpk_")
    assert new.handover == new.info.public == keys.keys(database)[0].public


def test_a_destination_is_signed_for_with_its_own_keys_or_else_the_global_ones(database: Database) -> None:
    add(database)
    add(database, ORIGIN, ed25519=True)  # before its first delivery
    assert [type(key) for key in keys.active(database, ORIGIN, 1000.0)] == [PrivateKey]
    assert [type(key) for key in keys.active(database, "https://other.example:443", 1000.0)] == [SymmetricKey]
    assert [type(key) for key in keys.active(database, None, 1000.0)] == [SymmetricKey]


def test_after_a_rotation_both_sign_until_the_overlap_is_over(database: Database) -> None:
    old, other = add(database), add(database, ORIGIN)
    new = keys.rotate(database, keys.generate(), None, OPERATOR, 2000.0, overlap=600.0)
    assert new.retiring == (old.info.id,)
    assert len(keys.active(database, None, 2599.0)) == 2
    assert len(keys.active(database, None, 2601.0)) == 1
    untouched = next(info for info in keys.keys(database) if info.id == other.info.id)
    assert untouched.retires_at is None
    assert acts(database)[0].act == "key.rotate"


def test_a_second_rotation_does_not_let_the_oldest_key_live_longer(database: Database) -> None:
    add(database)
    keys.rotate(database, keys.generate(), None, OPERATOR, 2000.0, overlap=600.0)
    keys.rotate(database, keys.generate(), None, OPERATOR, 2100.0, overlap=600.0)
    assert [info.retires_at for info in keys.keys(database)] == [2600.0, 2700.0, None]


def test_the_last_key_of_a_scope_is_retired_only_by_force(database: Database) -> None:
    first = add(database)
    with pytest.raises(Refused, match="last one"):
        keys.retire(database, first.info.id, OPERATOR, 2000.0)
    second = add(database)
    assert keys.retire(database, first.info.id, OPERATOR, 2000.0, after=60.0).retires_at == 2060.0
    assert keys.retire(database, second.info.id, OPERATOR, 2000.0, force=True).retires_at == 2000.0
    assert keys.active(database, None, 2061.0) == ()
    with pytest.raises(NotFound):
        keys.retire(database, 99, OPERATOR, 2000.0)


@pytest.mark.parametrize("key", ["", "secret", "whsec_!!", "whsec_c2hvcnQ=", "whsk_c2hvcnQ="])
def test_a_malformed_key_is_refused_without_being_repeated(database: Database, key: str) -> None:
    with pytest.raises(Refused) as refusal:
        keys.add(database, key, None, OPERATOR, 1000.0)
    assert "c2hvcnQ" not in str(refusal.value)
    assert rows(database, "SELECT * FROM outspoken_signing_keys") == []


def test_one_key_signs_once_in_one_scope(database: Database) -> None:
    key = add(database).handover
    with pytest.raises(Refused, match="already"):
        keys.add(database, key, None, OPERATOR, 1000.0)
    keys.add(database, key, ORIGIN, OPERATOR, 1000.0)
