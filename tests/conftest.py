"""What every test may ask for: a real service, when this machine has it."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
from collections.abc import Generator, Iterator
from itertools import chain, zip_longest
from pathlib import Path

import pytest
from hypothesis import settings

from tests.services import s3 as buckets
from tests.services import whisper
from tests.services.postgres import Server, running

# As the engine's workers have it: several test processes that each keep all cores busy get in each other's way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

INSTALL = {
    "buildah": "apt-get install buildah",
    "chromium": "apt-get install chromium",
    "faketime": "apt-get install faketime",
    "g++": "apt-get install g++",
    "go": "apt-get install golang-go golang-github-lib-pq-dev golang-github-mattn-go-sqlite3-dev",
    "ip": "apt-get install iproute2",
    "mmdebstrap": "apt-get install mmdebstrap",
    "nginx": "apt-get install nginx-light",
    "pgbouncer": "apt-get install pgbouncer",
    "node": "apt-get install nodejs",
    "systemd-analyze": "apt-get install systemd",
    "npm": "apt-get install nodejs npm",
    "postgres": "apt-get install postgresql",
    "prometheus": "apt-get install prometheus",
    "promtool": "apt-get install prometheus",
    "prometheus-alertmanager": "apt-get install prometheus-alertmanager",
    "sqlite3": "apt-get install sqlite3",
}

# Where Debian puts what is not for everybody's PATH.
PLACES = ("/usr/sbin", "/usr/local/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin")))


# A rule that does not hold breaks within a few examples, or else in another run: they are others each time. How long
# one takes depends on what else the machine does.
settings.register_profile("quick", max_examples=30, deadline=None)
settings.register_profile("full", max_examples=300, deadline=None)
settings.load_profile("full" if os.environ.get("TESTS_FULL") else "quick")

# Fixtures that start a server.
SERVERS = {"postgres", "s3"}


def pytest_configure() -> None:
    """Hear Ctrl-C again: a run that was started in a shell's background ignores it, and so would all that it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()  # what pytest collects stays: to look through it again and again takes a quarter of the time


def pytest_collection_finish() -> None:
    """From here on garbage is looked for, among what tests make."""
    gc.freeze()
    gc.enable()


# What `make check` leaves out.
SLOW = {"acceptance", "needs", "recognition"}

_under_way: list[pytest.Item] = []


def _refuse_processes(event: str, arguments: tuple[object, ...]) -> None:
    if event not in {"subprocess.Popen", "os.fork", "os.posix_spawn"}:
        return
    if _under_way and not SLOW & {mark.name for mark in _under_way[0].iter_markers()}:
        raise AssertionError(f"{arguments[:2]} is started: mark the test with pytest.mark.acceptance")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test that `make check` runs fails if it starts a process, in whatever run it is."""
    _under_way[:] = [item]
    try:
        return (yield)
    finally:
        _under_way.clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What asks for a server starts processes too. Files with such tests take longest, and begin first: of several
    workers none is left alone with one at the end. They wait half of the time, so others come between."""
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("acceptance")
    long = dict.fromkeys(item.path for item in items if any(item.iter_markers("acceptance")))
    short = dict.fromkeys(item.path for item in items if item.path not in long)
    place = {path: place for place, path in enumerate(chain.from_iterable(zip_longest(long, short)))}
    items.sort(key=lambda item: place[item.path])
    sys.addaudithook(_refuse_processes)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose service is missing, and say how to get it; in CI that is a failure."""
    for marker in item.iter_markers("needs"):
        service = str(marker.args[0])
        if shutil.which(service, path=os.pathsep.join((os.environ.get("PATH", ""), *PLACES))):
            continue
        reason = f"{service} is not installed: {INSTALL[service]}"
        if os.environ.get("TESTS_SKIP_NOTHING"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server for this run, and for nothing that breaks it."""
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[buckets.Bucketry]:
    """The same, for what lies in buckets."""
    with buckets.running() as server:
        yield server


@pytest.fixture(scope="session")
def base_model() -> Path:
    """The directory of a multilingual Whisper model. For English the engine has tiny.en anyway."""
    return whisper.base()
