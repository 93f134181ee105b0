"""What is for us to mend: a caller learns whether to come again, and nothing more."""

from __future__ import annotations

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from engine.api.errors import identify
from engine.errors import StorageFull
from engine.jobs.admission import QueueFull
from relay.outbox.errors import StoreUnavailable
from tests.cases import cases
from tests.schemas import told

FAULTS = [
    (StorageFull(), 507, "INSUFFICIENT_STORAGE", "The server's disk is full: nothing was stored.", None),
    (StoreUnavailable("busy"), 503, "SERVICE_UNAVAILABLE", "storage cannot be used now: nothing was stored. Send", "5"),
    (QueueFull("10 requests wait.", 7), 429, "TOO_MANY_REQUESTS", "later. 10 requests wait. Retry in 7 s.", "7"),
    (RuntimeError("the database's password"), 500, "INTERNAL_SERVER_ERROR", "The server failed to handle the", None),
]


@cases(("fault", "status", "code", "message", "retry"), FAULTS)
async def test_a_fault_is_told_in_deepgrams_shape(
    fault: Exception, status: int, code: str, message: str, retry: str | None
) -> None:
    async with client_of("/v1/x", fault) as client, client.get("/v1/x") as response:
        body = await response.json()
        assert (response.status, body["err_code"], response.headers.get("Retry-After")) == (status, code, retry)
        assert message in told(body)
        assert "password" not in await response.text()
        assert response.headers["dg-error"] == told(body)
        assert response.headers["dg-request-id"] == body["request_id"]


@cases(("fault", "status", "code", "message", "retry"), FAULTS)
async def test_the_same_fault_is_told_in_gladias_shape(
    fault: Exception, status: int, code: str, message: str, retry: str | None
) -> None:
    async with client_of("/v2/x", fault) as client, client.get("/v2/x") as response:
        body = await response.json()
        assert (response.status, body["statusCode"], response.headers.get("Retry-After")) == (status, status, retry)
        assert message in body["message"]
        assert "password" not in await response.text()


@cases(("fault", "status", "code", "message", "retry"), FAULTS)
async def test_and_in_openais(fault: Exception, status: int, code: str, message: str, retry: str | None) -> None:
    async with client_of("/v1/audio/x", fault) as client, client.get("/v1/audio/x") as response:
        error = (await response.json())["error"]
        assert (response.status, response.headers.get("Retry-After")) == (status, retry)
        assert error["type"] == ("requests" if status == 429 else "server_error")
        assert message in error["message"]
        assert "password" not in await response.text()


def client_of(path: str, fault: Exception) -> TestClient[web.Request, web.Application]:
    """A server with one endpoint that ends with this fault."""

    async def fail(_: web.Request) -> web.Response:
        raise fault

    application = web.Application(middlewares=[identify])
    application.router.add_get(path, fail)
    return TestClient(TestServer(application))
