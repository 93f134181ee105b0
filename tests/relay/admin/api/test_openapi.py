"""The document is true: a client that only knows it finds what it promises, and nothing it does breaks the relay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from relay.admin.api.endpoints import ENDPOINTS
from relay.admin.api.openapi import PREFIX, document
from relay.outbox import OUTBOX
from relay.outbox.sqlite.database import SqliteDatabase
from tests.relay.admin.past import ended
from tests.relay.admin.served import BEARER, context, served
from tests.relay.deliveries import many, put

# A stream does not end, and what a random URL resolves to is not the API's doing.
schema = schemathesis.openapi.from_dict(document("1.2.3")).exclude(path=f"{PREFIX}/attempts/stream")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    database = SqliteDatabase(tmp_path_factory.mktemp("api") / "outspoken.db")
    database.migrate([OUTBOX])
    put(database, *many(20))
    for number in range(10):
        ended(database, f"d{number + 1}", "dead")
    with served(context(database)) as address:
        yield address


@schema.parametrize()
@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_keeps_to_the_document(case: Any, address: str) -> None:
    case.call_and_validate(
        base_url=address,
        headers=BEARER,
        # What a string has to look like to be a time, an origin or a key, a schema cannot say.
        excluded_checks=[schemathesis.checks.positive_data_acceptance],
    )


def test_every_endpoint_is_described_once_and_every_reference_leads_somewhere() -> None:
    described = document("1.2.3")
    operations = {
        (method.upper(), path.removeprefix(PREFIX))
        for path, methods in described["paths"].items()
        for method in methods
    }
    assert operations == {(one.method, one.path) for one in ENDPOINTS} | {("GET", "/attempts/stream")}
    text = json.dumps(described)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in described["components"]["schemas"]
    names = [one["operationId"] for methods in described["paths"].values() for one in methods.values()]
    assert len(set(names)) == len(names)
