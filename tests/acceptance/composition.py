"""The composition as processes, in a network of its own (`unshare --net`) where every default port is free: engine,
relay and a receiver in the image, by the commands and the environment that compose.yaml has for them; PostgreSQL,
Prometheus and Alertmanager are this machine's. Says what is so, in one line of JSON."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.acceptance.stage import ROOT, Process
from tests.operations.watchers import Watchers
from tests.services.image import IMAGE, Store
from tests.services.postgres import running

PASSWORD = "correct horse"
CLIP = ROOT / "tests" / "clips" / "demo.flac"
SERVICES = yaml.safe_load((ROOT / "config" / "docker" / "compose.yaml").read_text("utf-8"))["services"]
# The receiver is on this machine, where no callback goes unless it is opened.
OPENED = {"OUTSPOKEN_OUTBOX__GUARD__ALLOW_NETWORKS": "127.0.0.0/8"}
_USER, _STATE = 10001, "/var/lib/outspoken"
# The engine has loaded and measured its recogniser then.
_START_SECONDS = 180.0


class Composition:
    """Its services, each in a container of its own, on one volume."""

    def __init__(self, store: Store, volume: Path) -> None:
        self._store = store
        self._volume = volume

    def words(self, service: str, *command: str) -> list[str]:
        """What runs a command as a service would, or that of the service."""
        written = SERVICES[service]
        container = self._store("from", "--pull-never", "--add-host", "postgres:127.0.0.1", IMAGE)
        # Else buildah may lay a fresh volume over the one that is mounted there.
        self._store("config", "--volume", f"{_STATE}-", container)
        asked = {**written["environment"], **OPENED}
        given = [part for name, value in asked.items() for part in ("--env", f"{name}={filled(value)}")]
        dropped = [part for name in written["cap_drop"] for part in ("--cap-drop", name.lower())]
        mounts = ("--volume", f"{self._volume}:{_STATE}", "--mount", "type=tmpfs,dst=/tmp")
        way = ("run", "--isolation", "chroot", *dropped, *mounts, *given, container, "--")
        return self._store.command(*way, *(command or written["command"]))

    @asynccontextmanager
    async def up(self, service: str, *command: str) -> AsyncIterator[Process]:
        """It, until the block ends: then it is told to stop as the image says, and ends as it should."""
        words = self.words(service, *command)
        pipe = asyncio.subprocess.PIPE
        started = await asyncio.create_subprocess_exec(*words, stdout=pipe, stderr=pipe, limit=1 << 24)
        process = Process(service, started, asyncio.Condition())
        try:
            yield process
        finally:
            if process.returncode is None:
                os.kill(innermost(started.pid), signal.SIGTERM)
            code = await process.finished()
        assert code == 0, process.words[-20:]

    def told(self, service: str, *command: str) -> str:
        """What a command says that is run once, as by `docker compose run` or `exec`."""
        return subprocess.run(self.words(service, *command), capture_output=True, text=True, check=True).stdout.strip()


def filled(value: object) -> str:
    return str(value).replace("${POSTGRES_PASSWORD:?choose one}", PASSWORD)


def innermost(pid: int) -> int:
    """The process that the image would begin with: what stands above it is of the tool that runs it."""
    while Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"buildah"):
        below = (children.read_text().split() for children in Path(f"/proc/{pid}/task").glob("*/children"))
        pid = int(next(filter(None, below))[0])
    return pid


def moved(word: str, places: Mapping[str, str]) -> str:
    """An argument with the folders of this machine."""
    for there, here in places.items():
        word = word.replace(there, here)
    return word


@contextmanager
def watched(folder: Path) -> Iterator[Watchers]:
    """Prometheus and Alertmanager where the composition has them, by the files that it mounts."""
    files = ROOT / "config" / "prometheus"
    places = {"=/etc/prometheus": f"={files}", "=/prometheus": f"={folder}/prometheus"}
    prometheus = ("prometheus", *(moved(word, places) for word in SERVICES["prometheus"]["command"]))
    alerts = ("prometheus-alertmanager", f"--config.file={files}/alertmanager.yml", f"--storage.path={folder}/alerts")
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [subprocess.Popen(words, **quiet) for words in (prometheus, (*alerts, "--cluster.listen-address="))]
    try:
        yield Watchers("http://127.0.0.1:9090")
    finally:
        for one in started:
            one.terminate()
        assert [one.wait() for one in started] == [0, 0]


async def walk(store: Store, folder: Path) -> dict[str, Any]:
    volume = folder / "volume"
    volume.mkdir()
    os.chown(volume, _USER, _USER)
    compose = Composition(store, volume)
    async with AsyncExitStack() as stack:
        server = stack.enter_context(running(port=5432))
        server.sql("CREATE ROLE outspoken LOGIN", "CREATE DATABASE outspoken OWNER outspoken")
        key = compose.told("engine", "engine", "keys", "add", "first")
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)))
        watchers = stack.enter_context(watched(folder))
        listen = ("relay", "listen", "--json", "--port", "8080")
        receiver = await stack.enter_async_context(compose.up("relay", *listen))
        engine = await stack.enter_async_context(compose.up("engine"))
        relay = await stack.enter_async_context(compose.up("relay"))
        for process, said in ((receiver, "receiver.ready"), (engine, "engine.ready"), (relay, "relay.ready")):
            await process.event(said, within=_START_SECONDS)
        return {
            "user": Path(f"/proc/{innermost(engine.pid)}").stat().st_uid,
            "probes": [await status(session, url) for url in probes()],
            "transcript": await delivered(session, key, receiver),
            "console": await opened(session, compose.told("relay", "relay", "login")),
            "in PostgreSQL": int(server.sql("SELECT count(*) FROM outspoken.deliveries", name="outspoken")),
            "scraped": await answered(watchers, 'up{job=~"relay|engine"} == 1', 2),
            "scaled by": await answered(watchers, scaled_by(), 1),
            "alertmanager": await status(session, "http://127.0.0.1:9093/-/ready"),
            "in files": [path.name for path in volume.rglob("outspoken*.db")],
        }


def manifests() -> Mapping[tuple[str, str], Any]:
    text = (ROOT / "config" / "kubernetes" / "outspoken.yaml").read_text("utf-8")
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text)}


def probes() -> Iterator[str]:
    """What the manifests have a cluster ask."""
    for name in ("engine", "relay"):
        (container,) = manifests()["Deployment", name]["spec"]["template"]["spec"]["containers"]
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[kind]["httpGet"]
            yield f"http://127.0.0.1:{ports[asked['port']]}{asked['path']}"


def scaled_by() -> str:
    """The question that an adapter has to put for the scaler."""
    metric = manifests()["HorizontalPodAutoscaler", "relay"]["spec"]["metrics"][0]["external"]["metric"]
    labels = ",".join(f'{name}="{value}"' for name, value in metric["selector"]["matchLabels"].items())
    return f"max({metric['name']}{{{labels}}})"


async def status(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as answer:
        return answer.status


async def opened(session: aiohttp.ClientSession, link: str) -> str:
    """The page to which a link leads."""
    async with session.get(link) as answer:
        return answer.url.path


async def delivered(session: aiohttp.ClientSession, key: str, receiver: Process) -> str:
    """The transcript that came back to the receiver."""
    query, headers = {"callback": "http://127.0.0.1:8080/hook"}, {"Authorization": f"Token {key}"}
    url = "http://127.0.0.1:8004/v1/listen"
    async with session.post(url, params=query, headers=headers, data=CLIP.read_bytes()) as answer:
        told = await answer.json()
        assert answer.status == 200, told
    came = await receiver.said(lambda line: line.get("headers", {}).get("webhook-id") == told["request_id"])
    return str(json.loads(came["body"])["results"]["channels"][0]["alternatives"][0]["transcript"])


async def answered(watchers: Watchers, question: str, many: int) -> int:
    """How many series answer a question, once there are so many. Prometheus tells nobody when it has scraped."""
    async with asyncio.timeout(60):
        while True:
            try:
                found = await asyncio.to_thread(watchers.now, question)
            except OSError:
                found = []
            if len(found) >= many:
                return len(found)
            await asyncio.sleep(0.5)


def main(place: str) -> None:
    with tempfile.TemporaryDirectory(prefix="outspoken-composition-") as folder:
        Path(folder).chmod(0o755)
        print(json.dumps(asyncio.run(walk(Store(Path(place)), Path(folder)))))


if __name__ == "__main__":
    main(sys.argv[1])
