"""`outspoken quickstart` and `outspoken up` under test, as a newcomer types them: what is printed is what works."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import stat
import subprocess
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession, CookieJar

from outspoken.installation import Installation
from relay.admin import keys as signing
from relay.admin.audit import Actor
from tests.acceptance.stage import ROOT

OUTSPOKEN = (sys.executable, "-m", "outspoken")
ANY_PORTS = {"OUTSPOKEN_ENGINE__PORT": "0", "OUTSPOKEN_RELAY__PORT": "0", "OUTSPOKEN_RELAY__ADMIN__PORT": "0"}
# One sentence is heard, and nothing live.
LITTLE = {
    "OUTSPOKEN_ENGINE__PRELOAD": "[]",
    "OUTSPOKEN_ENGINE__WORKERS": "1",
    "OUTSPOKEN_ENGINE__RECOGNISERS__DEFAULT__THREADS": "1",
}


def environment(**more: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("OUTSPOKEN_")}
    return own | {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | more


def quickstart(folder: Path) -> list[tuple[str, str]]:
    """What it says of each thing."""
    done = subprocess.run(
        [*OUTSPOKEN, "quickstart"], cwd=folder, env=environment(), capture_output=True, text=True, check=True
    )
    return re.findall(r"^(made|kept)  (\S+)", done.stdout, re.MULTILINE)


@asynccontextmanager
async def up(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """It, and what it says before it waits."""
    process = await asyncio.create_subprocess_exec(
        *(*OUTSPOKEN, "up", "--receiver-port", "0"),
        cwd=folder,
        env=environment(**ANY_PORTS, **LITTLE),
        stdout=PIPE,
        stderr=STDOUT,
        limit=1 << 20,
    )
    assert process.stdout
    try:
        said = b""
        async with asyncio.timeout(60):
            while b"Ctrl-C stops all" not in said:
                line = await process.stdout.readline()
                assert line, said.decode()
                said += line
        yield process, said.decode()
    finally:
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0, (await process.stdout.read()).decode()


@pytest.mark.acceptance
@pytest.mark.recognition
async def test_what_is_printed_is_what_works_and_all_of_it_is_kept(tmp_path: Path) -> None:
    folder = tmp_path
    made = quickstart(folder)
    assert {word for word, _ in made} == {"made"}
    files = [folder / name for _, name in made]
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    before = {file: file.read_bytes() for file in files if file.suffix != ".db"}
    database = Installation(folder / "var").settings({}).outbox.database
    # The receiver verifies by what signs now.
    signing.rotate(database, signing.generate(), None, Actor("ada", "cli"), database.now(), 0.0)
    async with up(folder) as (process, said):
        assert {word for word, _ in re.findall(r"^(made|kept)  (\S+)", said, re.MULTILINE)} == {"kept"}
        await the_transcript_arrives(process, said, folder)
        await the_link_opens_the_console(said)
        another_terminal_finds_it(said, folder)
        second = subprocess.run(
            [*OUTSPOKEN, "up"], cwd=folder, env=environment(**ANY_PORTS), capture_output=True, text=True, check=False
        )
        assert second.returncode == 1
        assert "already; name another folder" in second.stderr
    assert {file: file.read_bytes() for file in before} == before


async def the_transcript_arrives(process: asyncio.subprocess.Process, said: str, folder: Path) -> None:
    (curl,) = re.findall(r"^  (curl .*?\.opus)$", said, re.MULTILINE | re.DOTALL)
    asked = subprocess.run(
        ["bash", "-c", curl], cwd=folder, env=environment(), capture_output=True, text=True, check=True
    )
    assert "request_id" in asked.stdout
    assert process.stdout
    heard = ""
    async with asyncio.timeout(60):
        while "transcript" not in heard:
            heard += (await process.stdout.readline()).decode()
    assert "signature valid" in heard
    assert "answers the door" in heard
    (receiver,) = re.findall(r"^receiver  (\S+)", said, re.MULTILINE)
    async with ClientSession() as session, session.get(receiver) as answer:
        assert "answers the door" in await answer.text()


async def the_link_opens_the_console(said: str) -> None:
    (link,) = re.findall(r"^console   (\S+)", said, re.MULTILINE)
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as browser, browser.get(link) as answer:
        assert answer.url.path == "/"
        assert answer.status == 200


def another_terminal_finds_it(said: str, folder: Path) -> None:
    """Its ports are not those of the settings, which were taken or any."""
    exports = "\n".join(re.findall(r"^  (export .+)$", said, re.MULTILINE))
    asked = subprocess.run(
        ["bash", "-c", f"{exports}\nrelay login"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    (console,) = re.findall(r"^console   (\S+)", said, re.MULTILINE)
    assert urlsplit(asked.stdout).netloc == urlsplit(console).netloc


def test_a_key_that_opens_nothing_any_more_is_replaced_and_no_other(tmp_path: Path) -> None:
    place = Installation(tmp_path / "var")
    assert all(one.new for one in place.prepare({}))
    for file in place.folder.glob("outspoken.db*"):
        file.unlink()
    again = list(place.prepare({}))
    assert {Path(one.thing).name for one in again if one.new} == {"outspoken.db", "api-key"}
    database = place.settings({}).outbox.database
    assert len(signing.keys(database)) == 1, "what is delivered is signed from the first time on"
    signing.retire(database, 1, Actor("ada", "cli"), database.now(), force=True)
    assert not any(one.new for one in place.prepare({}))
    assert len(signing.keys(database)) == 1, "and one that was retired stays so"
