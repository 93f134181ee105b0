"""What supervisors and Prometheus see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from .conftest import wav
from .stage import Stage, client_of, stage


async def well() -> str | None:
    return None


async def ill() -> str | None:
    return "the outbox is read-only"


async def broken() -> str | None:
    raise RuntimeError("postgresql://u:pa55@db")


async def stuck() -> str | None:
    await asyncio.Event().wait()
    return None


async def test_a_server_that_answers_is_alive(client: aiohttp.ClientSession) -> None:
    async with client.get("/livez") as response:
        assert (response.status, await response.json()) == (200, {"status": "live"})
        assert response.headers["dg-request-id"]


async def test_a_server_without_complaints_is_ready(tmp_path: Path) -> None:
    async with stage(tmp_path, checks={"outbox": well, "workers": well}) as server:
        expected = {"status": "ready", "checks": {"outbox": "ok", "workers": "ok"}}
        assert await readiness(server) == (200, expected)


async def test_every_check_that_fails_is_named_with_its_reason(tmp_path: Path) -> None:
    checks = {"outbox": ill, "disk": broken, "workers": stuck, "runner": well}
    async with stage(tmp_path, checks=checks) as server:
        status, document = await readiness(server)
    assert (status, document["status"]) == (503, "unready")
    assert document["checks"] == {
        "outbox": "the outbox is read-only",
        "disk": "the check itself failed, see the log",
        "workers": "no answer within 2 s",
        "runner": "ok",
    }


async def readiness(server: Stage) -> tuple[int, dict[str, Any]]:
    async with client_of(server) as client, client.get("/readyz") as response:
        return response.status, await response.json()


@pytest.fixture
async def scraped(server: Stage, client: aiohttp.ClientSession) -> AsyncIterator[dict[tuple[str, ...], float]]:
    """The samples after one upload, one refusal, and one stray request."""
    await client.post("/v1/listen", data=wav())
    await client.post("/v1/listen?model=none", data=wav())
    await client.get("/private/s3cret?token=tok3n")
    async with client.get("/metrics") as response:
        text = await response.text()
    assert not any(secret in text for secret in ("s3cret", "tok3n", "private"))
    samples = [sample for family in prometheus(text) for sample in family.samples]
    yield {(sample.name, *sample.labels.values()): sample.value for sample in samples}


async def test_requests_are_counted_by_route_and_class(scraped: dict[tuple[str, ...], float]) -> None:
    assert scraped["engine_http_requests_total", "/v1/listen", "2xx"] == 1
    assert scraped["engine_http_requests_total", "/v1/listen", "4xx"] == 1
    assert scraped["engine_http_requests_total", "other", "4xx"] == 1
    assert scraped["engine_http_request_duration_seconds_count", "/v1/listen"] == 2


async def test_series_exist_before_anything_happened(scraped: dict[tuple[str, ...], float]) -> None:
    assert scraped["engine_http_requests_total", "/v1/listen", "5xx"] == 0
    assert scraped["engine_http_requests_total", "/metrics", "2xx"] == 0


async def test_only_received_audio_counts_as_an_upload(scraped: dict[tuple[str, ...], float]) -> None:
    assert scraped["engine_http_upload_bytes_count",] == 1
    assert scraped["engine_http_upload_bytes_sum",] == len(wav())


async def test_openmetrics_is_served_to_those_who_ask(client: aiohttp.ClientSession) -> None:
    async with client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text")
        families = list(openmetrics(await response.text()))  # type: ignore[no-untyped-call]
        assert "engine_http_requests" in {family.name for family in families}
