"""Starts the real processes as a stranger would (engine, relay, receiver), and waits for what they say."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from tests.forks import Forked, fork, forkable
from tests.ports import free_port

Line = dict[str, Any]

ROOT = Path(__file__).parents[2]
DEFAULTS = {"engine__workers": 2, "engine__recognisers__default__threads": 0}
"""The engine's own, where speed matters."""
_START_SECONDS = 60.0


class Process:
    """One command of this project, and the JSON lines that it printed. `ended` are the deliveries that it has said to
    have come to their end, which it says once that is durable."""

    def __init__(self, name: str, process: asyncio.subprocess.Process | Forked, news: asyncio.Condition) -> None:
        self.name = name
        self.lines: list[Line] = []
        self.words: list[str] = []
        self.ended: set[str] = set()
        self._process = process
        self._news = news
        self._ears = [asyncio.create_task(self._hear(stream)) for stream in (process.stdout, process.stderr) if stream]

    @classmethod
    async def start(
        cls, *command: str, env: Mapping[str, str] | None = None, news: asyncio.Condition | None = None
    ) -> Process:
        """Run a console script of this virtual environment. Whoever waits on `news` is woken by every line."""
        environment = _environment() | dict(env or {})
        start = fork if forkable(command, environment) else _start_afresh
        return cls(" ".join(command[:2]), await start(command, environment), news or asyncio.Condition())

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.returncode

    async def _hear(self, stream: asyncio.StreamReader) -> None:
        async for raw in stream:
            text = raw.decode("utf-8", "replace").rstrip("\n")
            self.words.append(text)
            with suppress(json.JSONDecodeError):
                if isinstance(line := json.loads(text), dict):
                    self._note(line)
            async with self._news:
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()

    def _note(self, line: Line) -> None:
        self.lines.append(line)
        if line.get("event") == "delivery.attempt.finished" and line["verdict"] not in {"retry", "postponed"}:
            self.ended.add(line["delivery.id"])

    async def said(self, wanted: Callable[[Line], bool], within: float = _START_SECONDS) -> Line:
        """The first line that fits, waited for. Raises AssertionError with the last words if it never comes."""
        found: Line | None = None
        heard = 0

        def look() -> bool:
            nonlocal found, heard
            found = found or next(filter(wanted, islice(self.lines, heard, None)), None)
            heard = len(self.lines)
            return found is not None

        await self.until(look, within)
        assert found is not None
        return found

    async def until(self, done: Callable[[], bool], within: float = _START_SECONDS) -> None:
        """Ask this after every line, until it is so. Raises AssertionError with the last words if it never is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within), self._news:
                await self._news.wait_for(lambda: done() or self._silent())
        if not done():
            raise AssertionError(
                f"{self.name} never said it (exit code {self.returncode}):\n" + "\n".join(self.words[-20:])
            )

    async def event(self, name: str, within: float = _START_SECONDS) -> Line:
        """The first log line with this event name."""
        return await self.said(lambda line: line.get("event") == name, within)

    def _silent(self) -> bool:
        return all(ear.done() for ear in self._ears)

    async def finished(self) -> int:
        """Wait until it ends by itself."""
        code = await self._process.wait()
        await asyncio.gather(*self._ears)
        return code

    async def stop(self) -> int:
        """SIGTERM, and wait until it has drained."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> int:
        """SIGKILL: no goodbye."""
        return await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> int:
        with suppress(ProcessLookupError):
            self._process.send_signal(how)
        return await self.finished()


async def _start_afresh(command: Sequence[str], env: Mapping[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name(command[0])),
        *command[1:],
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 28,
    )


def _environment() -> dict[str, str]:
    """This one's, without settings that a developer may have exported."""
    return {name: value for name, value in os.environ.items() if not name.startswith("OUTSPOKEN_")}


class Stage:
    """One database, and the settings by which every process on it is started."""

    def __init__(self, folder: Path, callback_port: int, **settings: object) -> None:
        self.folder = folder
        self.callback_port = callback_port
        self.engine_port = free_port()
        self.relay_port = free_port()
        self.database = folder / "outspoken.db"
        self.env = {
            "OUTSPOKEN_CONFIG": str(ROOT / "config" / "demo.toml"),
            "OUTSPOKEN_OUTBOX__URL": f"sqlite:///{self.database}",
            "OUTSPOKEN_OUTBOX__GUARD__PORTS": f"80, 443, 8080, 8443, {callback_port}",
            "OUTSPOKEN_ENGINE__FETCH__PORTS": str(
                settings.get("outbox__guard__ports", f"80, 443, 8080, 8443, {callback_port}")
            ),
            "OUTSPOKEN_ENGINE__AUDIO_DIR": str(folder / "audio"),
            # Most engines here transcribe little or nothing.
            "OUTSPOKEN_ENGINE__PRELOAD": "[]",
            "OUTSPOKEN_ENGINE__WORKERS": "1",
            "OUTSPOKEN_ENGINE__RECOGNISERS__DEFAULT__THREADS": "1",  # two wait for one another, and take more in all
            "OUTSPOKEN_ENGINE__PORT": str(self.engine_port),
            "OUTSPOKEN_RELAY__PORT": str(self.relay_port),
            "OUTSPOKEN_RELAY__ADMIN__PORT": "0",
            **{f"OUTSPOKEN_{name.upper()}": str(value) for name, value in settings.items()},
        }

    @property
    def engine_url(self) -> str:
        """Where requests go."""
        return f"http://127.0.0.1:{self.engine_port}"

    @property
    def metrics_url(self) -> str:
        """Where the relay's metrics are."""
        return f"http://127.0.0.1:{self.relay_port}/metrics"

    @property
    def callback_url(self) -> str:
        """Where the receiver listens."""
        return f"http://127.0.0.1:{self.callback_port}/callback"

    async def signing_key(self) -> str:
        """Make a key that signs from now on; the secret that receivers are given."""
        await (await Process.start("relay", "migrate", env=self.env)).finished()
        rotation = await Process.start("relay", "keys", "rotate", "--json", env=self.env)
        handover: str = (await rotation.said(lambda line: "handover" in line))["handover"]
        return handover

    async def engine(self) -> Process:
        """A running engine that takes requests."""
        process = await Process.start("engine", "run", env=self.env)
        await process.event("engine.ready")
        return process

    async def relay(self, news: asyncio.Condition | None = None) -> Process:
        """A running relay."""
        process = await Process.start("relay", "run", env=self.env, news=news)
        await process.event("relay.ready")
        return process

    async def receiver(self, *options: str) -> Process:
        """A running receiver that prints what arrives as JSON lines."""
        process = await Process.start("relay", "listen", "--json", "--port", str(self.callback_port), *options)
        await process.event("receiver.ready")
        return process
