"""The baseline: a bare aiohttp client (uvloop, one shared session) that posts, and does nothing else.

    python -m tests.bench.bare PORT COUNT BODY_BYTES CONCURRENCY DESTINATIONS

prints the seconds it took.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator

import aiohttp
import uvloop

HEADERS = {"content-type": "application/json", "user-agent": "Outspoken/0.1.0", "webhook-id": "0" * 36}


def addresses(port: int, count: int) -> list[str]:
    """So many destinations on this machine."""
    return [f"http://127.0.{1 + i // 250}.{1 + i % 250}:{port}/callback" for i in range(count)]


async def _post_all(session: aiohttp.ClientSession, urls: Iterator[str], body: bytes) -> None:
    for url in urls:
        async with session.post(url, data=body, headers=HEADERS) as response:
            await response.read()


async def measure(port: int, count: int, size: int, concurrency: int, destinations: int) -> float:
    """Seconds for all requests."""
    places = addresses(port, destinations)
    urls = (places[i % destinations] for i in range(count))
    body = b"x" * size
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
        began = time.perf_counter()
        await asyncio.gather(*(_post_all(session, urls, body) for _ in range(concurrency)))
        return time.perf_counter() - began


if __name__ == "__main__":
    print(uvloop.run(measure(*map(int, sys.argv[1:]))))
