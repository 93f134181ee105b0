"""What README and docs have a reader type, typed: every line of their shell blocks, in their order, in one folder with
an engine, a relay and a receiver at work. Only addresses and what stands for a reader's own are put in."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from relay import outbox
from relay.outbox import NewDelivery
from tests.acceptance.stage import ROOT, Stage
from tests.ports import free_port
from tests.services.postgres import Server

PAGES = ("README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")), "grafana/README.md")
# What no test types here, by how it begins, and why.
NOT_TYPED = {
    "make demo": "all of it is run after the tests",
    "make up": "`outspoken up` is typed in test_quickstart.py",
    "make ": "what runs the tests",
    "python3 -m venv /opt": "installs into the system: the units are held against systemd in test_units.py",
    "/opt/outspoken": "as above",
    "cp config/systemd/": "as above",
    "systemd": "as above",
    "systemctl": "as above",
    "install -m": "as above",
    ".venv/bin/engine models pull": "fetches from a hub and an index; tests/engine/cli has them nearby",
    ".venv/bin/engine transcribe talk.mp3 --diarize": "wants what was fetched before it",
    "prometheus": "tests/operations starts both by these files, and lets promtool test the rules",
    "promtool": "as above",
}
FORBIDDEN = "http://10.0.0.1/"
# What ends with another code than 0, by what it says.
ENDS_WITH = {"relay verify-url --offline": 5}
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_REQUEST = re.compile(r'"request_id":"([-0-9a-f]{36})"')
# A request that is refused ends curl with 22.
_CURL = "fail-with-body\nsilent\nshow-error\n"

pytestmark = pytest.mark.acceptance


def blocks() -> Iterator[list[str]]:
    """The commands of each."""
    for page in PAGES:
        for block in _BLOCK.findall((ROOT / page).read_text("utf-8")):
            lines = block.replace("\\\n", " ").splitlines()
            yield [line for line in lines if line and not line.startswith("#")]


def is_typed(command: str) -> bool:
    return not command.startswith(tuple(NOT_TYPED))


class Reader:
    """Who types, in a folder laid out as a checkout is after `make`."""

    def __init__(self, folder: Path, stage: Stage, names: dict[str, str], **own: str) -> None:
        self._folder = folder
        self.names = names
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("OUTSPOKEN_")} | {
            **stage.env,
            **own,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CURL_HOME": str(folder),
        }
        (folder / ".curlrc").write_text(_CURL)
        for name, there in (("tests", ROOT / "tests"), ("config", ROOT / "config"), (".venv", Path(sys.prefix))):
            (folder / name).symlink_to(there)

    async def types(self, lines: list[str]) -> str:
        """One block; what it printed. Raises AssertionError where a command fails."""
        script = "\n".join(lines)
        for placeholder, value in self.names.items():
            script = script.replace(placeholder, value)
        stays = re.search(r"(?:^|/)relay listen", script) is not None
        process = await self._started(script)
        assert process.stdout
        if stays:
            said = (await process.stdout.readline()).decode()
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0, f"{script}\n{said}"
            return said
        expected = next((code for words, code in ENDS_WITH.items() if words in script), 0)
        printed = (await process.communicate())[0].decode()
        assert process.returncode == expected, f"{script}\n{printed}"
        return printed

    async def _started(self, script: str) -> asyncio.subprocess.Process:
        words = ("bash", "-euo", "pipefail", "-c", script)
        to = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.STDOUT}
        return await asyncio.create_subprocess_exec(*words, cwd=self._folder, env=self._env, **to)  # type: ignore[arg-type]


@asynccontextmanager
async def a_reader(folder: Path) -> AsyncIterator[Reader]:
    """With all three programs at work, and of a producer's deliveries one that arrived and one that was given up."""
    console = free_port()
    callback = free_port()
    stage = Stage(folder / "var", callback, relay__admin__port=console)
    stage.folder.mkdir()
    async with AsyncExitStack() as stack:
        key = await stage.signing_key()
        for start in (stage.receiver, stage.engine, stage.relay):
            process = await start()
            stack.push_async_callback(process.stop)
        with sqlite3.connect(stage.database, isolation_level=None) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for id_, url in (("order-17", stage.callback_url), ("order-18", FORBIDDEN)):
                outbox.add(connection, NewDelivery(id=id_, url=url, body=b"{}", owner="orders"))
            connection.execute("COMMIT")
        await process.until(lambda: {"order-17", "order-18"} <= process.ended)
        addresses = {":8004": f":{stage.engine_port}", ":9465": f":{console}", ":8080": f":{callback}"}
        reader = Reader(folder, stage, addresses | {"whsec_...": key, "--port 8443": "--port 0"}, KEY="any")
        reader.names["$key"] = (await reader.types(["relay owner-key orders"])).strip()
        yield reader


@pytest.mark.needs("postgres")
@pytest.mark.recognition
async def test_what_a_reader_types_does_what_it_says(tmp_path: Path, postgres: Server) -> None:
    moves = []
    async with a_reader(tmp_path) as reader:
        for commands in blocks():
            typed = [command for command in commands if is_typed(command)]
            if any("app@db.example" in command for command in typed):
                moves.append(typed)
            elif typed:
                printed = await reader.types(typed)
                if found := _REQUEST.search(printed):
                    reader.names["REQUEST_ID"] = found[1]
    reader.names["postgresql://app@db.example/outspoken"] = postgres.url(postgres.create())
    for typed in moves:
        assert "compared" in await reader.types(typed)


def test_what_is_not_typed_stands_there() -> None:
    commands = [command for commands in blocks() for command in commands]
    assert [start for start in NOT_TYPED if not any(command.startswith(start) for command in commands)] == []
    assert sum(map(is_typed, commands)) > 15
