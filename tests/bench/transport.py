"""What the transport costs, and a bare aiohttp client, against one fast sink process on loopback.

Run as `python -m tests.bench.transport [--bytes N] [--requests N] [--profile]`. Rounds alternate between the
clients, and the medians of three are shown, with the rate as a ratio to the bare client's of the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import multiprocessing
import resource
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Network
from multiprocessing.connection import Connection
from statistics import median
from time import perf_counter

import aiohttp
import uvloop

from relay.guard.resolver import Resolver
from relay.guard.rules import Rules
from relay.guard.url import Target
from relay.outbox.model import Method
from relay.policy.attempt import Envelope
from relay.service.dns import system_names
from relay.transports.exchange import ExchangeBounds
from relay.transports.http import HttpTransport

ROUNDS = 3
ANSWER = b"HTTP/1.1 204 No Content\r\nServer: sink\r\n\r\n"
HEADERS = (
    ("content-type", "application/json"),
    ("user-agent", "outspoken/0.1"),
    ("webhook-id", "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"),
    ("webhook-timestamp", "1674087231"),
    ("webhook-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="),
    ("webhook-attempt", "1"),
)
Send = Callable[[], Awaitable[object]]


class Sink(asyncio.Protocol):
    """Counts bytes, and answers whenever a whole request has come. All requests of a run have the same size."""

    def __init__(self, body_bytes: int) -> None:
        self._body_bytes = body_bytes
        self._head = b""
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._left == 0:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            self._left, data, self._head = self._body_bytes, self._head[end + 4 :], b""
        self._left -= len(data)
        if self._left == 0:
            self._transport.write(ANSWER)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Load:
    """How much is sent."""

    body_bytes: int
    requests: int
    concurrency: int


@dataclass(frozen=True)
class Result:
    """One round of one client."""

    rate: float
    cpu_us: float


async def bare(load: Load, port: int) -> Result:
    """aiohttp as its documentation shows it: one session, nothing else."""
    body, url = bytes(load.body_bytes), f"http://127.0.0.1:{port}/callback"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=load.concurrency)) as session:

        async def send() -> None:
            async with session.post(url, data=body, headers=dict(HEADERS)) as response:
                await response.read()

        return await measure(load, send)


async def ours(transport: HttpTransport, load: Load, port: int) -> Result:
    """The transport of the relay, the guard included."""
    envelope = Envelope(Method.POST, Target("http", "127.0.0.1", port, "/callback"), HEADERS, bytes(load.body_bytes))
    try:
        return await measure(load, lambda: checked(transport, envelope))
    finally:
        await transport.aclose()


async def checked(transport: HttpTransport, envelope: Envelope) -> None:
    answer = await transport.send(envelope)
    assert answer.status == 204, answer


async def measure(load: Load, send: Send) -> Result:
    """Run the load after a warm-up of a tenth of it."""
    await drain(load.requests // 10, load.concurrency, send)
    started, burnt = perf_counter(), cpu()
    await drain(load.requests, load.concurrency, send)
    return Result(load.requests / (perf_counter() - started), (cpu() - burnt) / load.requests * 1e6)


async def drain(requests: int, concurrency: int, send: Send) -> None:
    left = iter(range(requests))

    async def work() -> None:
        for _ in left:
            await send()

    await asyncio.gather(*(work() for _ in range(concurrency)))


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def client(name: str, load: Load, port: int) -> Result:
    """One round, on a loop of its own."""
    guard = Resolver(Rules(networks=(IPv4Network("127.0.0.0/8"),)), system_names())
    bounds = ExchangeBounds(idle_per_origin=load.concurrency)
    with uvloop_runner() as runner:
        if name == "bare aiohttp":
            return runner.run(bare(load, port))
        return runner.run(ours(HttpTransport(guard, bounds, ssl.create_default_context()), load, port))


def uvloop_runner() -> asyncio.Runner:
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def sink(tell: Connection, body_bytes: int) -> None:
    """The receiving process."""

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: Sink(body_bytes), "127.0.0.1", 0, backlog=1024)
        tell.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    with uvloop_runner() as runner:
        runner.run(serve())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=2048)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--profile", action="store_true")
    asked = parser.parse_args()
    load = Load(asked.bytes, asked.requests, asked.concurrency)
    hear, tell = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=sink, args=(tell, load.body_bytes), daemon=True)
    process.start()
    port = hear.recv()
    if asked.profile:
        with cProfile.Profile() as profile:
            client("relay", load, port)
        profile.print_stats("tottime")
    else:
        report(load, port)
    process.terminate()


def report(load: Load, port: int) -> None:
    names = ("bare aiohttp", "relay")
    rounds = [{name: client(name, load, port) for name in names} for _ in range(ROUNDS)]
    print(f"{load.requests} requests of {load.body_bytes} bytes, {load.concurrency} at a time")
    for name in names:
        rate = median(result[name].rate for result in rounds)
        used = median(result[name].cpu_us for result in rounds)
        ratio = median(result[name].rate / result["bare aiohttp"].rate for result in rounds)
        print(f"{name:14}{rate:10.0f} req/s{used:9.1f} us CPU{ratio:8.2f}x")


if __name__ == "__main__":
    main()
