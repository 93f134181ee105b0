"""`relay listen`: a receiver to try things with. It prints what arrives, shows it to a browser, and can fail, delay and
refuse on demand."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from aiohttp import web

from relay.admin.access import origin_of
from relay.admin.signatures import Verifier, verify
from relay.outbox.errors import RelayError

Report = dict[str, Any]
_MOST_SHOWN = 20
_LONGEST_SHOWN = 4000
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>What arrived</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="2">
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid; padding: .5rem }}</style>
<h1>What arrived</h1>{arrivals}</html>"""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the receiver answers.

    `status` to every request, but 500 to the first `fail_first` of each delivery and to `fail_ratio` of all (0 to 1,
    by seeded dice); `delay` seconds before an answer; 413 to bodies over `max_body` bytes. `keys` tells, for each
    request anew, by which keys what is sent to this origin is checked; the answer does not depend on it. It may raise
    RelayError.
    """

    status: int = 200
    fail_first: int = 0
    fail_ratio: float = 0.0
    delay: float = 0.0
    max_body: int = 1 << 30
    seed: int = 0
    keys: Callable[[str], Sequence[Verifier]] | None = None


class Receiver:
    """Answers every path and method, and reports each request as a value: method, path, headers, body, status;
    with keys, `signature` is `valid`, or `invalid: ` or `unknown: ` and why. To a browser, `GET /` is a page of
    the latest of them."""

    def __init__(self, behaviour: Behaviour, tell: Callable[[Report], None]) -> None:
        self._behaviour = behaviour
        self._tell = tell
        # Which answers fail is no secret, and has to be the same in every run.
        self._dice = random.Random(behaviour.seed)  # noqa: S311
        self._seen: dict[str, int] = {}
        self._latest: deque[Report] = deque(maxlen=_MOST_SHOWN)

    def application(self) -> web.Application:
        application = web.Application(client_max_size=self._behaviour.max_body)
        application.router.add_get("/", self._page)
        application.router.add_route("*", "/{path:.*}", self._answer)
        return application

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=as_page(self._latest), content_type="text/html")

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return self._reply(request, b"", 413, {})
        signature = await self._judge(request, body)
        await asyncio.sleep(self._behaviour.delay)
        return self._reply(request, body, self._status(request.headers.get("webhook-id", "")), signature)

    async def _judge(self, request: web.Request, body: bytes) -> dict[str, str]:
        if self._behaviour.keys is None:
            return {}
        try:
            keys = await asyncio.to_thread(self._behaviour.keys, origin_of(f"http://{request.host}"))
        except RelayError as error:
            return {"signature": f"unknown: {error}"}
        found = verify(request.headers, body, keys, time.time())
        return {"signature": "valid" if found.valid else f"invalid: {found.message}"}

    def _status(self, delivery_id: str) -> int:
        seen = self._seen[delivery_id] = self._seen.get(delivery_id, 0) + 1
        fails = seen <= self._behaviour.fail_first or self._dice.random() < self._behaviour.fail_ratio
        return 500 if fails else self._behaviour.status

    def _reply(self, request: web.Request, body: bytes, status: int, signature: dict[str, str]) -> web.Response:
        report = {
            "method": request.method,
            "path": request.raw_path,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": body.decode("utf-8", "replace"),
            "status": status,
            **signature,
        }
        self._latest.appendleft(report)
        self._tell(report)
        return web.Response(status=status)


async def serve(behaviour: Behaviour, port: int, render: Callable[[Report], str]) -> None:
    """Listen on 127.0.0.1 until SIGTERM or SIGINT, and print every request. `port` 0 takes any free one."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    receiver = Receiver(behaviour, lambda report: print(render(report), flush=True))
    runner = web.AppRunner(receiver.application(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        ready = {"event": "receiver.ready", "url": f"http://127.0.0.1:{runner.addresses[0][1]}/"}
        print(json.dumps(ready), file=sys.stderr, flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


def as_json(report: Report) -> str:
    return json.dumps(report, ensure_ascii=False)


def as_text(report: Report) -> str:
    """A request for a person to read."""
    headers = "\n".join(f"{name}: {value}" for name, value in report["headers"].items())
    signature = f"signature {report['signature']}\n" if "signature" in report else ""
    return f"{report['method']} {report['path']} -> {report['status']}\n{signature}{headers}\n\n{report['body']}\n"


def as_page(latest: Collection[Report]) -> str:
    """Requests for a browser, which asks again every other second. What senders chose is text there, no more."""
    shown = "".join(f"<pre>{escape(as_text(report)[:_LONGEST_SHOWN])}</pre>" for report in latest)
    return _PAGE.format(arrivals=shown or "<p>Nothing yet.</p>")
