"""A real Prometheus with the rules that are shipped, a real Alertmanager, and somebody who is called by it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.operations.questions import PROMETHEUS, RULES
from tests.ports import free_port

Series = list[dict[str, Any]]


class AlertReceiver:
    """Whoever is on call: hears of alerts over HTTP, as pages, tickets and the watchdog's sign of life."""

    def __init__(self) -> None:
        self._heard: list[tuple[str, dict[str, Any]]] = []
        self._news = threading.Condition()

    def hear(self, path: str, notice: dict[str, Any]) -> None:
        """One call of Alertmanager's, which may be about several alerts."""
        with self._news:
            self._heard += [(path, alert) for alert in notice["alerts"]]
            self._news.notify_all()

    def wait_for(self, path: str, name: str, within: float = 30.0) -> dict[str, Any]:
        """The alert of that name that came that way. Raises AssertionError if none did."""
        with self._news:
            self._news.wait_for(lambda: self._find(path, name) is not None, within)
            found = self._find(path, name)
        assert found is not None, f"nobody was called by {name}, but by {sorted(self.names())}"
        return found

    def names(self) -> set[tuple[str, str]]:
        """What came, and by which way."""
        return {(path, alert["labels"]["alertname"]) for path, alert in self._heard}

    def _find(self, path: str, name: str) -> dict[str, Any] | None:
        return next((alert for way, alert in self._heard if (way, alert["labels"]["alertname"]) == (path, name)), None)


@dataclass
class Watchers:
    """Prometheus at `url`, and who is called."""

    url: str
    alerts: AlertReceiver = field(default_factory=AlertReceiver)

    def ask(self, question: str, start: float, end: float) -> Series:
        """What a panel would show: the series of a question over a time range, a value a second."""
        return self._get("query_range", query=question, start=f"{start:.3f}", end=f"{end:.3f}", step="1")["result"]  # type: ignore[no-any-return]

    def now(self, question: str) -> Series:
        """What a question says now."""
        return self._get("query", query=question)["result"]  # type: ignore[no-any-return]

    def values(self, label: str, selector: str) -> list[str]:
        """The choices of a variable."""
        return self._get(f"label/{label}/values", **{"match[]": selector})  # type: ignore[no-any-return]

    def rules(self) -> Mapping[str, str]:
        """How the evaluation of every rule went: ok, err or unknown."""
        groups = self._get("rules")["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    def _get(self, path: str, **values: str) -> Any:
        return json.loads(fetch(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(values)}"))["data"]


def fetch(url: str) -> str:
    """The body at a loopback URL."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def until(true: Callable[[], bool], within: float = 30.0) -> None:
    """Ask another process again and again until it says yes. Raises AssertionError if it never does."""
    give_up = time.monotonic() + within
    while not _says_yes(true):
        assert time.monotonic() < give_up, "it never came true"
        threading.Event().wait(0.05)


def _says_yes(true: Callable[[], bool]) -> bool:
    with suppress(OSError):
        return true()
    return False


@contextmanager
def watching(folder: Path, targets: Mapping[str, int]) -> Iterator[Watchers]:
    """Scrape these jobs on these ports, by the configuration that is shipped, in seconds instead of minutes."""
    folder.mkdir()
    ports = {"prometheus": free_port(), "alertmanager": free_port()}
    watchers = Watchers(f"http://127.0.0.1:{ports['prometheus']}")
    with _listening(watchers.alerts) as port:
        _configure(folder, {9464: targets["relay"], 8004: targets["engine"], 9093: ports["alertmanager"], 9095: port})
        alertmanager = _running(folder, *_alertmanager(folder, ports["alertmanager"]))
        with alertmanager, _running(folder, *_prometheus(folder, ports["prometheus"])):
            until(lambda: "Ready" in fetch(f"{watchers.url}/-/ready"))
            yield watchers


def _configure(folder: Path, ports: Mapping[int, int]) -> None:
    for path in [*RULES, PROMETHEUS / "prometheus.yml", PROMETHEUS / "alertmanager.yml"]:
        text = path.read_text("utf-8")
        for shipped, free in ports.items():
            text = text.replace(f"127.0.0.1:{shipped}", f"127.0.0.1:{free}")
        (folder / path.name).write_text(_hurried(text), "utf-8")


def _hurried(text: str) -> str:
    """The same, without the pauses that are for people. What an alert waits for stays as it is."""
    return re.sub(r"\b(scrape_interval|evaluation_interval|interval|group_wait|group_interval): \w+", r"\1: 1s", text)


def _prometheus(folder: Path, port: int) -> tuple[str, ...]:
    return (
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--rules.alert.resend-delay=1s",  # what fired before Alertmanager was found would wait for a minute
    )


def _alertmanager(folder: Path, port: int) -> tuple[str, ...]:
    return (
        "prometheus-alertmanager",
        f"--config.file={folder}/alertmanager.yml",
        f"--storage.path={folder}/alerts",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    )


@contextmanager
def _running(folder: Path, *command: str) -> Iterator[None]:
    program = shutil.which(command[0])
    assert program
    with (folder / f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen([program, *command[1:]], stdout=log, stderr=log, cwd=folder)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def _listening(receiver: AlertReceiver) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.hear(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
