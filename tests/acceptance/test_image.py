"""The image under test, built by its Dockerfile, and the composition of it: `make image`. It takes two minutes of a
processor, so that no other run has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.acceptance.stage import ROOT
from tests.services import image

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.image,
    pytest.mark.recognition,
    *(pytest.mark.needs(tool) for tool in ("buildah", "mmdebstrap", "ip", "postgres", "prometheus")),
]
SPOKEN = (ROOT / "tests" / "clips" / "demo.txt").read_text("utf-8").strip()


@pytest.fixture(scope="module")
def store() -> Iterator[image.Store]:
    """Where the image lies."""
    if os.geteuid() != 0:
        pytest.skip("only root builds an image here")
    if subprocess.run(("unshare", "--mount", "--net", "true"), capture_output=True, check=False).returncode:
        pytest.skip("this container may make no namespaces, nor mount: run it with CAP_SYS_ADMIN")
    with image.built() as built:
        yield built


def test_the_image_is_what_it_was_made_of_and_runs_as_nobody_special(store: image.Store) -> None:
    made = json.loads(store("inspect", "--type", "image", image.IMAGE))["OCIv1"]["config"]
    assert made["User"] == "outspoken"
    assert made["Cmd"] == ["relay", "run"]
    assert made["StopSignal"] == "SIGTERM"
    assert made["WorkingDir"] == "/var/lib/outspoken"
    assert not [entry for entry in made["Env"] if entry.startswith(("PIP_", "HTTP"))]
    container = store("from", "--pull-never", image.IMAGE)
    # Where the two were mounted, an empty file and an empty folder stay.
    look = (
        "find",
        "/etc/pip.conf",
        "/opt",
        "/wheels",
        "-size",
        "+0",
        "(",
        "-name",
        "pip.conf",
        "-o",
        "-name",
        "*.whl",
        ")",
    )
    there = store("run", "--isolation", "chroot", "--user", "root", container, "--", *look)
    assert there == "", "what it was installed from stays outside"


def test_the_composition_transcribes_delivers_is_watched_and_stops(store: image.Store) -> None:
    command = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    words = (*command, sys.executable, "-m", "tests.acceptance.composition", str(store.folder))
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    told = json.loads(ended.stdout)
    transcript = told.pop("transcript")
    assert len(set(transcript.lower().split()) & set(SPOKEN.lower().split())) > len(SPOKEN.split()) / 2, transcript
    assert told == {
        "user": 10001,
        "probes": [200] * 6,
        "console": "/",
        "in PostgreSQL": 1,
        "scraped": 2,
        "scaled by": 1,
        "alertmanager": 200,
        "in files": [],
    }
