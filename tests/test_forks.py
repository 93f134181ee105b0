"""What is forked behaves as what is started afresh: the tests of the programs rest on it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests import forks

pytestmark = pytest.mark.acceptance


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["relay", "--version"], 0, "relay "),
        (["engine", "--version"], 0, "engine "),
        (["relay", "no-such-command"], 2, "No such command"),
        (["relay", "verify-url", "--offline", "-"], 0, "forbidden"),
    ],
)
def test_it_says_and_returns_what_the_command_does(words: list[str], code: int, said: str, tmp_path: Path) -> None:
    done = forks.run(words, os.environ, tmp_path, stdin=b'"http://10.0.0.1/"\n')
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True)


def test_it_has_a_folder_and_an_environment_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("[relay]\nworkers = 'many'\n")
    done = forks.run(["relay", "config", "check"], os.environ | {"OUTSPOKEN_CONFIG": "other.toml"}, tmp_path)
    assert done.returncode == 78
    assert "other.toml or environment: relay.workers" in done.stderr


async def test_several_run_at_once_and_each_ends_in_its_own_way() -> None:
    listening = ["relay", "listen", "--port", "0"]
    one, two, three = [await forks.fork(listening, os.environ) for _ in range(3)]
    for process in (one, two, three):
        assert process.stderr
        assert b"receiver.ready" in await process.stderr.readline()
    assert len({one.pid, two.pid, three.pid, os.getpid()}) == 4
    one.kill()
    two.send_signal(signal.SIGINT)
    assert (await one.wait(), await two.wait(), three.returncode) == (-signal.SIGKILL, 0, None)
    three.terminate()
    assert await three.wait() == 0
    with pytest.raises(ProcessLookupError):
        three.kill()


async def test_it_writes_no_file_beyond_a_bound(tmp_path: Path) -> None:
    environ = os.environ | {"OUTSPOKEN_OUTBOX__URL": f"sqlite:///{tmp_path}/outspoken.db"}
    bounded = await forks.fork(["relay", "migrate"], environ, tmp_path, largest_file=1000)
    await bounded.communicate()
    assert await bounded.wait() != 0
    free = await forks.fork(["relay", "migrate"], environ | {"OUTSPOKEN_OUTBOX__URL": "sqlite:///free.db"}, tmp_path)
    await free.communicate()
    assert await free.wait() == 0


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PYTHONPATH"])
def test_what_is_read_before_the_first_import_wants_another_process(name: str) -> None:
    assert forks.forkable(["relay", "run"], os.environ)
    assert not forks.forkable(["python", "-c", "0"], os.environ)
    assert not forks.forkable(["relay", "run"], os.environ | {name: "elsewhere"})


def test_a_benchmark_waits_for_one_without_an_event_loop(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        short = forks.Child(["relay", "--version"], log.fileno(), os.environ)
        long = forks.Child(["relay", "listen", "--port", "0"], log.fileno(), os.environ)
    assert (short.wait(), short.poll(), long.poll()) == (0, 0, None)
    assert (tmp_path / "log").read_text().startswith("relay ")
    for _ in range(2):
        long.kill()
    assert long.wait() == -signal.SIGKILL
