"""The document is true: a client that only knows it finds what it promises, and nothing it does breaks the relay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from relay.admin.api.endpoints import ENDPOINTS
from relay.admin.api.openapi import PREFIX, document
from relay.outbox import OUTBOX
from relay.outbox.sqlite.database import SqliteDatabase
from tests.relay.admin.past import ended
from tests.relay.admin.served import BEARER, context, served
from tests.relay.deliveries import many, put

# A stream, which is no endpoint of this table, does not end.
OPERATIONS = [(one.method, PREFIX + one.path) for one in ENDPOINTS]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    database = SqliteDatabase(tmp_path_factory.mktemp("api") / "outspoken.db")
    database.migrate([OUTBOX])
    put(database, *many(20))
    for number in range(10):
        ended(database, f"d{number + 1}", "dead")
    with served(context(database)) as address:
        yield address


@pytest.fixture(scope="module")
def schema() -> Any:
    """The document, as schemathesis reads it."""
    import schemathesis  # only here: it takes a second

    return schemathesis.openapi.from_dict(document("1.2.3"))


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_operation_keeps_to_the_document(schema: Any, address: str, method: str, path: str) -> None:
    from schemathesis.checks import positive_data_acceptance

    @given(case=schema[path][method].as_strategy())
    @settings(
        max_examples=6,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def keeps(case: Any) -> None:
        case.call_and_validate(
            base_url=address,
            headers=BEARER,
            # What a string has to look like to be a time, an origin or a key, a schema cannot say.
            excluded_checks=[positive_data_acceptance],
        )

    keeps()


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
