"""`GET /status`: what the engine is at, as JSON for a program and as a page for a person who looks at it in a browser.

Like metrics and health it asks for no key, and so it names nobody: no request, no key, no URL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from html import escape

import orjson
from aiohttp import web

STATUS = "/status"

# The console's colours and measures; not its file, which is the relay's.
_STYLE = """
:root{color-scheme:light dark;--ground:#f7f6f3;--sheet:#fff;--ink:#1d1c1a;--quiet:#66625a;--line:#e4e0d9;--warn:#875200}
@media(prefers-color-scheme:dark){
:root{--ground:#131516;--sheet:#1a1d1e;--ink:#e9e8e4;--quiet:#a3a29b;--line:#2c3133;--warn:#e8b96a}}
body{margin:0 auto;max-width:60rem;padding:1.75rem 1.5rem;background:var(--ground);color:var(--ink)}
body{font:15px/1.5 Inter,system-ui,-apple-system,"Segoe UI",sans-serif}
h1{font-size:1.5rem;margin:0}h2{font-size:1.02rem;margin:2rem 0 .5rem}
p,th,dt{color:var(--quiet)}.warn{color:var(--warn)}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(8rem,1fr));gap:.75rem;margin:0}
dl>div{background:var(--sheet);border:1px solid var(--line);border-radius:10px;padding:.6rem .9rem}
dd{margin:0;font-size:1.4rem;font-variant-numeric:tabular-nums}table{width:100%;border-collapse:collapse}
td,th{text-align:left;padding:.35rem .75rem .35rem 0;border-top:1px solid var(--line);font-variant-numeric:tabular-nums}
"""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A recogniser that is loaded: its model, and what its `processes` take together, in bytes."""

    recogniser: str
    model: str
    processes: int
    memory: int


@dataclass(frozen=True, slots=True)
class LiveState:
    """A live session: how much audio was decoded, how long audio has waited to be transcribed, in seconds, and how long
    ago it began."""

    dialect: str
    recogniser: str
    age: float
    audio: float
    lag: float


@dataclass(frozen=True, slots=True)
class Status:
    """The engine now. `oldest` is for how many seconds the job that waits longest has been due, `failed` counts jobs of
    the last day, `speed` is how many seconds of audio a second of work transcribes (None: nothing was yet)."""

    version: str
    uptime: float
    draining: bool
    queued: int
    running: int
    failed: int
    bytes: int
    oldest: float
    speed: float | None
    live_capacity: int
    live: Sequence[LiveState]
    models: Sequence[LoadedModel]


def routes(ask: Callable[[], Awaitable[Status]]) -> list[web.RouteDef]:
    """The endpoint, ready to be added to an application."""

    async def answer(http: web.Request) -> web.Response:
        status = await ask()
        headers = {"Cache-Control": "no-store"}
        if "text/html" in http.headers.get("Accept", ""):
            policy = "default-src 'none'; style-src 'unsafe-inline'"
            headers |= {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
            return web.Response(text=page(status), content_type="text/html", headers=headers)
        return web.Response(body=orjson.dumps(asdict(status)), content_type="application/json", headers=headers)

    return [web.get(STATUS, answer)]


def page(status: Status) -> str:
    """The same for a person. It loads nothing, and comes anew every five seconds."""
    speed = "-" if status.speed is None else f"{status.speed:.1f} x"
    cards = {
        "Queued": status.queued,
        "Running": status.running,
        "Failed, 24 h": status.failed,
        "Longest wait": f"{status.oldest:.0f} s",
        "Speed": speed,
        "Live": f"{len(status.live)} of {status.live_capacity}",
    }
    live = [
        (one.dialect, one.recogniser, _age(one.age), f"{one.audio:.1f} s", f"{one.lag:.1f} s")
        for one in sorted(status.live, key=lambda one: -one.lag)
    ]
    models = [(one.recogniser, one.model, str(one.processes), f"{one.memory / 1e6:,.0f} MB") for one in status.models]
    head = f"<title>Engine</title><meta http-equiv=refresh content=5><style>{_STYLE}</style>"
    state = "<p class=warn>It lets its jobs finish, and takes no more.</p>" if status.draining else ""
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>{head}"
        f"<h1>Engine</h1><p>{escape(status.version)}, up for {_age(status.uptime)}</p>{state}"
        f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{value}</dd></div>' for name, value in cards.items())}</dl>"
        f"{_table('Live sessions', ('API', 'Recogniser', 'Age', 'Audio', 'Lag'), live)}"
        f"{_table('Models loaded', ('Recogniser', 'Model', 'Processes', 'Memory'), models)}"
        "<p>One job, why it failed, and what to do about it: <code>engine jobs</code>.</p></html>"
    )


def _age(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 7200 else f"{seconds / 60:.0f} min"


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in rows)
    if not body:
        return f"<h2>{title}</h2><p>None.</p>"
    return f"<h2>{title}</h2><table><tr>{''.join(f'<th>{name}' for name in head)}{body}</table>"
