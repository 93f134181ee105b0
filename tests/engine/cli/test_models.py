"""`engine models` against a hub on a real socket: fetched once, resumed, listed, removed, and never unasked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from tests.engine.cli.hub import Hub
from tests.engine.cli.stage import Engine

pytestmark = pytest.mark.acceptance

NAME = "Systran/faster-whisper-tiny"
NEEDED = {
    "config.json": b"{}",
    "model.bin": b"weights",
    "tokenizer.json": b"{}",
    "vocabulary.txt": b"a\n\nb\n",
}
FILES = NEEDED | {"README.md": b"for people"}
NOBODY = "http://127.0.0.1:1"
CHUNK = 10 * 1024**2  # what the hub's library writes at once


@pytest.fixture
async def hub(engine: Engine) -> AsyncIterator[Hub]:
    """A hub that the command finds."""
    hub = Hub({NAME: dict(FILES)})
    async with TestServer(hub.application()) as server:
        engine.set(HF_ENDPOINT=str(server.make_url("")).rstrip("/"))
        yield hub


def put(folder: Path) -> Path:
    """A model's directory."""
    folder.mkdir(parents=True)
    for name, data in NEEDED.items():
        (folder / name).write_bytes(data)
    return folder


def configured(engine: Engine, model: object = "tiny") -> None:
    engine.set(engine__recognisers__small__kind="whisper", engine__recognisers__small__model=model)


async def listed(engine: Engine) -> list[dict[str, object]]:
    said = await engine("models", "list", "--json")
    assert said.code == 0, said.err
    return [json.loads(line) for line in said.out.splitlines()]


async def test_what_is_pulled_is_there_and_only_what_is_needed(engine: Engine, hub: Hub) -> None:
    said = await engine("models", "pull", "tiny")
    assert (said.code, said.err) == (0, "")
    folder = engine.folder / "var" / "models" / NAME
    assert f"in {folder.relative_to(engine.folder)}" in said.out
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} == NEEDED
    again = await engine("models", "pull", NAME, terminal=True)
    assert again.code == 0
    assert "16/16 bytes" in again.err, "on a terminal a bar follows what lies on disk"
    assert sorted(hub.files_sent) == ["config.json", "model.bin", "tokenizer.json", "vocabulary.txt"], "sent once"


async def test_a_pull_that_was_cut_off_goes_on_where_it_stopped(engine: Engine, hub: Hub) -> None:
    weights = bytes(range(256)) * (2 * CHUNK // 256) + b"the end"
    hub.repositories[NAME]["model.bin"] = weights
    hub.breaks = [CHUNK + 5, None]
    first = await engine("models", "pull", "tiny")
    assert first.code == 1
    assert "could not be reached (HfHubHTTPError). What came is kept" in first.err
    assert "Traceback" not in first.err
    assert [line["state"] for line in await listed(engine)] == ["ready", "incomplete"]
    second = await engine("models", "pull", "tiny")
    assert (second.code, second.err) == (0, "")
    assert hub.ranges[-1] == f"bytes={CHUNK}-"
    assert (engine.folder / "var" / "models" / NAME / "model.bin").read_bytes() == weights


async def test_without_a_network_the_reason_is_said_in_one_line(engine: Engine) -> None:
    engine.set(HF_ENDPOINT=NOBODY)
    said = await engine("models", "pull", "large-v3")
    assert said.code == 1
    assert said.err.startswith("engine: Systran/faster-whisper-large-v3: the hub could not be reached (ConnectError).")
    assert len(said.err.splitlines()) == 1


async def test_a_model_that_the_hub_does_not_have_is_named(engine: Engine, hub: Hub) -> None:
    said = await engine("models", "pull", "nobody/nothing")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("engine: nobody/nothing: the hub has no such model")


async def test_a_repository_that_is_no_whisper_model_is_not_taken_for_one(engine: Engine, hub: Hub) -> None:
    hub.repositories["some/thing"] = {"config.json": b"{}", "pytorch_model.bin": b"torch"}
    said = await engine("models", "pull", "some/thing")
    assert said.code == 1
    assert "has no model.bin, tokenizer.json, vocabulary.*" in said.err


async def test_a_name_that_is_none_is_refused_before_anything_is_asked(engine: Engine) -> None:
    engine.set(HF_ENDPOINT=NOBODY)
    said = await engine("models", "pull", "../../etc")
    assert said.code == 1
    assert "'../../etc' is no model of the hub; say tiny.en, " in said.err


async def test_the_list_says_what_is_configured_and_what_is_on_disk(engine: Engine) -> None:
    put(engine.folder / "var" / "models" / NAME)
    mine = put(engine.folder / "mine")
    configured(engine, "large-v3")
    engine.set(engine__recognisers__own__kind="whisper", engine__recognisers__own__model=mine)
    assert [(line["recogniser"], line["model"], line["state"], line["path"]) for line in await listed(engine)] == [
        ("pocketsphinx", "pocketsphinx", "ready", ""),
        ("small", "Systran/faster-whisper-large-v3", "missing", "var/models/Systran/faster-whisper-large-v3"),
        ("own", "mine", "ready", str(mine)),
        (None, NAME, "ready", f"var/models/{NAME}"),
    ]
    configured(engine)
    table = (await engine("models", "list")).out.splitlines()
    assert table[0].split() == ["RECOGNISER", "KIND", "MODEL", "STATE", "SIZE", "PATH"]
    assert [line.split()[:4] for line in table[2:]] == [
        ["small", "whisper", NAME, "ready"],
        ["own", "whisper", "mine", "ready"],
    ]


async def test_removing_frees_the_disk_but_not_what_the_engine_needs(engine: Engine) -> None:
    put(engine.folder / "var" / "models" / NAME)
    configured(engine)
    refused = await engine("models", "remove", "tiny")
    assert (refused.code, refused.out) == (1, "")
    assert "is the model of engine.recognisers.small" in refused.err
    assert (await engine("models", "remove", "tiny", "--force")).out.endswith(" freed\n")
    assert not (engine.folder / "var" / "models" / NAME).exists()
    gone = await engine("models", "remove", "tiny")
    assert gone.code == 1
    assert "is not in var/models" in gone.err


async def test_the_engine_does_not_start_without_its_model_and_fetches_none(engine: Engine, hub: Hub) -> None:
    configured(engine, "large-v3")
    said = await engine("run")
    assert said.code == 78
    assert said.err.splitlines()[-1] == (
        "engine: engine.recognisers.small.model: model 'large-v3' is not on this machine; "
        "fetch it with `engine models pull large-v3`"
    )
    assert hub.files_sent == []


async def test_an_unknown_recogniser_behind_an_alias_is_named(engine: Engine) -> None:
    engine.set(engine__models__mine="unheard-of")
    said = await engine("models", "list")
    assert said.code == 78
    assert "engine.models.mine: 'unheard-of' is no recogniser; there are pocketsphinx" in said.err
