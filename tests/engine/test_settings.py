"""The engine's settings: defaults that are safe, and errors that name the key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.dialects.catalogue import Abilities
from engine.recognisers.base import Spec
from engine.recognisers.models.files import expected_memory, size_on_disk
from engine.settings import EngineSection, RecogniserSettings, read
from relay.outbox.errors import ConfigError
from relay.service.settings import usable_cores
from tests.cases import cases
from tests.engine.recognisers.models.making import ENGLISH, MULTILINGUAL, put
from tests.engine.recognisers.models.making import model as files


def test_without_a_file_the_engine_stays_on_this_machine() -> None:
    settings = read(None, {})
    assert settings.engine.on_loopback
    assert settings.outbox.guard.rules().networks == ()


def test_every_vendor_name_leads_to_a_recogniser() -> None:
    names = EngineSection().aliases
    assert {"nova-3", "nova-2", "base", "whisper-large", "solaria-1", EngineSection().default_model} <= set(names)
    assert set(names.values()) == {"default"}


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "outspoken.toml"
    file.write_text("[engine]\nport = 1\nworkers = 3\n[relay]\nhost = 'x'\n")
    settings = read(file, {"OUTSPOKEN_ENGINE__PORT": "2"}).engine
    assert (settings.port, settings.workers) == (2, 3)


@cases(
    ("variable", "value", "complaint"),
    [
        ("OUTSPOKEN_ENGINE__WORKRES", "2", "engine.workres"),
        ("OUTSPOKEN_ENGINE__WORKERS", "0", "engine.workers"),
        ("OUTSPOKEN_ENGINE__FETCH__TRYS", "2", "engine.fetch.trys"),
        ("OUTSPOKEN_ENGINE__LOG__LEVEL", "loud", "engine.log.level"),
        (
            "OUTSPOKEN_ENGINE__TRACES__ENDPOINT",
            "nonsense",
            "engine.traces.endpoint: The URL must begin with http:// or https://. Name a collector's, such as http://",
        ),
        ("OUTSPOKEN_ENGINE__AUDIO__URL", "http://bucket", "engine.audio.url: expected s3://bucket"),
        ("OUTSPOKEN_ENGINE__AUDIO__ENDPOINT", "http://user:secret@minio:9000", "engine.audio.endpoint: expected http"),
        ("OUTSPOKEN_ENGINE__AUDIO__ACCESS_KEY_ID", "key", "engine.audio: access_key_id: goes with secret_access_key"),
        (
            "OUTSPOKEN_ENGINE__DEFAULT_MODEL",
            "nova-9",
            "default_model: 'nova-9' is no model's name; there are general, nova-3",
        ),
        ("OUTSPOKEN_ENGINE__MODELS__MINE", "unheard-of", "engine.models.mine"),
        ("OUTSPOKEN_ENGINE__MODELS__NOVA-3", "unheard-of", "is no recogniser; there are default"),
        ("OUTSPOKEN_ENGINE__RECOGNISERS__BIG__KIND", "kaldi", "engine.recognisers.big.kind"),
        ("OUTSPOKEN_ENGINE__MODELS_MEMORY_BYTES", "0", "engine.models_memory_bytes"),
        ("OUTSPOKEN_ENIGNE__PORT", "1", "OUTSPOKEN_ENIGNE__PORT"),
    ],
)
def test_a_mistake_is_an_error_that_names_the_key(variable: str, value: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(None, {variable: value})
    assert complaint in str(error.value)


@cases(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("engine.example.com", False),
        ("", False),
    ],
)
def test_only_loopback_addresses_count_as_this_machine(host: str, local: bool) -> None:
    assert EngineSection(host=host).on_loopback is local


def model(folder: Path, *, multilingual: bool) -> Path:
    """A model's directory."""
    return put(folder, files(MULTILINGUAL if multilingual else ENGLISH))


def test_the_default_recogniser_stands_beside_those_of_the_file(tmp_path: Path) -> None:
    path = model(tmp_path / "mine", multilingual=True)
    file = tmp_path / "outspoken.toml"
    file.write_text(f"[engine]\nworkers = 1\n[engine.recognisers.big]\nmodel = '{path}'\nthreads = 3\n")
    # Whatever was pulled into this checkout.
    specs = read(file, {"OUTSPOKEN_ENGINE__MODELS_DIR": str(tmp_path)}).engine.specs()
    assert set(specs) == {"default", "big"}
    assert specs["default"].name == "tiny.en"
    expected = expected_memory(size_on_disk(path), "auto", 8)
    assert specs["big"] == Spec(memory=expected, model=str(path), name="mine", threads=3, batch_size=8)


def test_one_line_moves_every_name_to_another_model(tmp_path: Path) -> None:
    path = model(tmp_path / "mine", multilingual=True)
    engine = read(None, {"OUTSPOKEN_ENGINE__RECOGNISERS__DEFAULT__MODEL": str(path)}).engine
    assert engine.specs()["default"].name == "mine"
    assert engine.aliases == EngineSection().aliases


def test_a_name_that_is_configured_leaves_the_others_where_they_were(tmp_path: Path) -> None:
    file = tmp_path / "outspoken.toml"
    file.write_text("[engine.recognisers.big]\nmodel = 'large-v3'\n[engine.models]\nnova-3 = 'big'\nours = 'big'\n")
    names = read(file, {}).engine.aliases
    assert {name for name, recogniser in names.items() if recogniser == "big"} == {"big", "nova-3", "ours"}
    assert names["nova-2"] == names["base"] == names["solaria-1"] == names["whisper"] == "default"


def test_its_memory_may_be_said_and_its_threads_are_a_share_of_the_machine(tmp_path: Path) -> None:
    path = model(tmp_path / "mine", multilingual=True)
    big = RecogniserSettings(model=str(path), memory_bytes=7, compute_type="float32")
    assert big.spec(tmp_path, workers=1024, memory=1024**3).memory == 7
    assert big.spec(tmp_path, workers=1024, memory=1024**3).threads == 1
    assert big.spec(tmp_path, workers=1, memory=1024**3).threads == int(usable_cores())


def test_the_voice_encoder_counts_where_there_is_one(tmp_path: Path) -> None:
    path = model(tmp_path / "mine", multilingual=True)
    size = size_on_disk(path)
    enough = expected_memory(size, "auto", 8)
    alone, telling = (RecogniserSettings(model=str(path)).spec(tmp_path, 1, enough, file) for file in ("", "encoder"))
    assert (alone.memory, alone.batch_size) == (enough, 8)
    assert (telling.memory, telling.batch_size) == (expected_memory(size, "auto", 2, voices=True), 2)
    assert 2 * enough > expected_memory(size, "auto", 8, voices=True) > enough


def test_the_machine_is_what_this_process_may_use_of_it() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() <= 1
    finally:
        os.sched_setaffinity(0, before)
    assert 0 < usable_cores() <= len(before)


def test_a_caller_is_warned_before_he_is_let_go() -> None:
    with pytest.raises(ConfigError, match="warn_lag_seconds: must be less than max_lag_seconds"):
        read(None, {"OUTSPOKEN_ENGINE__LIVE__WARN_LAG_SECONDS": "30"})


def test_what_callers_may_ask_for_depends_on_the_model(tmp_path: Path) -> None:
    many = {"model": str(model(tmp_path / "many", multilingual=True))}
    one = {"model": str(model(tmp_path / "one", multilingual=False))}
    engine = EngineSection.of({"recognisers": {"many": many, "one": one}})
    able = engine.catalogue(engine.specs()).recognisers
    assert able["default"] == able["one"] == Abilities(frozenset({"en"}))
    assert {"en", "es", "nb", "jv", "yue"} <= able["many"].languages
    assert able["many"].detects


def test_a_model_that_is_not_there_is_an_error_with_the_key_and_the_command(tmp_path: Path) -> None:
    engine = EngineSection.of({"models_dir": str(tmp_path), "recognisers": {"big": {"model": "turbo"}}})
    with pytest.raises(ConfigError, match=r"engine\.recognisers\.big\.model: .*`engine models pull turbo`"):
        engine.specs()


def test_a_model_that_is_damaged_is_an_error_with_the_key_and_the_file(tmp_path: Path) -> None:
    path = model(tmp_path / "mine", multilingual=False)
    (path / "model.bin").write_bytes(bytes(100))
    engine = EngineSection.of({"models_dir": str(tmp_path), "recognisers": {"big": {"model": str(path)}}})
    with pytest.raises(ConfigError, match=rf"engine\.recognisers\.big\.model: {path}/model\.bin is no model"):
        engine.specs()


def test_a_queue_has_room_for_the_largest_upload() -> None:
    with pytest.raises(ConfigError, match=r"queue\.bytes: must be at least max_upload_bytes"):
        EngineSection.of({"max_upload_bytes": 1000, "queue": {"bytes": 999}})


def test_a_result_is_not_kept_longer_than_its_job() -> None:
    with pytest.raises(ConfigError, match="results: cannot be kept longer than jobs"):
        EngineSection.of({"retention": {"results": 100, "jobs": 99}})
