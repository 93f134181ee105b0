"""The engine's settings: defaults that are safe, and errors that name the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.settings import EngineSettings, read
from relay.errors import ConfigError


def test_without_a_file_the_engine_stays_on_this_machine() -> None:
    settings = read(None, {})
    assert settings.engine.on_loopback
    assert settings.outbox.guard.rules().networks == ()


def test_every_vendor_name_leads_to_a_recogniser() -> None:
    assert {"nova-3", "nova-2", "base", "whisper-large", "pocketsphinx"} <= set(EngineSettings().models)
    assert EngineSettings().default_model in EngineSettings().models


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "outspoken.toml"
    file.write_text("[engine]\nport = 1\nworkers = 3\n[relay]\nhost = 'x'\n")
    settings = read(file, {"OUTSPOKEN_ENGINE__PORT": "2"}).engine
    assert (settings.port, settings.workers) == (2, 3)


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("OUTSPOKEN_ENGINE__WORKRES", "2", "engine.workres"),
        ("OUTSPOKEN_ENGINE__WORKERS", "0", "engine.workers"),
        ("OUTSPOKEN_ENGINE__FETCH__TRYS", "2", "engine.fetch.trys"),
        ("OUTSPOKEN_ENGINE__LOG__LEVEL", "loud", "engine.log.level"),
        ("OUTSPOKEN_ENGINE__DEFAULT_MODEL", "nova-9", "default_model: 'nova-9' is not one of"),
        ("OUTSPOKEN_ENGINE__MODELS__MINE", "unheard-of", "engine.models.mine"),
        ("OUTSPOKEN_ENIGNE__PORT", "1", "OUTSPOKEN_ENIGNE__PORT"),
    ],
)
def test_a_mistake_is_an_error_that_names_the_key(variable: str, value: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(None, {variable: value})
    assert complaint in str(error.value)


@pytest.mark.parametrize(
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
    assert EngineSettings(host=host).on_loopback is local
