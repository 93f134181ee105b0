"""The baseline: a bare aiohttp client (uvloop, one shared session) that posts, and does nothing else.

    python -m tests.bench.bare PORT COUNT BODY_BYTES CONCURRENCY DESTINATIONS SIGNED

prints the seconds it took, and those that a processor worked for it. With 1 for SIGNED each body is hashed for its
request, as whoever signs has to.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import sys
import time
from collections.abc import Iterator

import aiohttp
import uvloop

HEADERS = {"content-type": "application/json", "user-agent": "Outspoken/0.1.0", "webhook-id": "0" * 36}

_KEY = bytes(range(32))


def addresses(port: int, count: int) -> list[str]:
    """So many destinations on this machine."""
    return [f"http://127.0.{1 + i // 250}.{1 + i % 250}:{port}/callback" for i in range(count)]


async def _post_all(session: aiohttp.ClientSession, urls: Iterator[str], body: bytes, *, signed: bool) -> None:
    for url in urls:
        signature = {"webhook-signature": hmac.digest(_KEY, body, hashlib.sha256).hex()} if signed else {}
        async with session.post(url, data=body, headers=HEADERS | signature) as response:
            await response.read()


async def measure(
    port: int, count: int, size: int, concurrency: int, destinations: int, signed: int
) -> tuple[float, float]:
    """Seconds for all requests, by the clock and of the processor."""
    places = addresses(port, destinations)
    urls = (places[i % destinations] for i in range(count))
    body = b"x" * size
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
        began, worked = time.perf_counter(), time.process_time()
        await asyncio.gather(*(_post_all(session, urls, body, signed=bool(signed)) for _ in range(concurrency)))
        return time.perf_counter() - began, time.process_time() - worked


if __name__ == "__main__":
    print(*uvloop.run(measure(*map(int, sys.argv[1:]))))
