"""The engine's settings: what stands in the configuration file, and nothing that reaches a room as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from relay.configfile import load
from relay.outbox.settings import OutboxSettings, Section

OTHER_SECTIONS = frozenset({"relay"})

Recogniser = Literal["pocketsphinx"]
_MODELS = (
    *("pocketsphinx", "general", "nova-3", "nova-3-general", "nova-2", "nova-2-general", "nova", "nova-general"),
    *("enhanced", "enhanced-general", "base", "base-general"),
    *("whisper", "whisper-tiny", "whisper-base", "whisper-small", "whisper-medium", "whisper-large"),
    *("solaria-1", "solaria-3", "solaria-fusion"),
)


class FetchSettings(Section):
    """[engine.fetch]: what downloading audio from a caller's URL may cost."""

    connect_timeout: float = Field(5.0, gt=0, le=300, description="Seconds to connect.")
    total_timeout: float = Field(600.0, gt=0, le=86400, description="Seconds for a whole download.")
    redirects: int = Field(5, ge=0, le=20, description="Redirects followed; each hop is judged anew.")
    tries: int = Field(3, ge=1, le=10, description="Downloads tried before a job fails for want of its audio.")


class GladiaSettings(Section):
    """[engine.gladia]: what Gladia's receivers are told."""

    event_names: Literal["short", "namespaced"] = Field(
        "short", description="success with error codes as words, or transcription.success with numbers."
    )


class LogSettings(Section):
    """[engine.log]: lines on standard output."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least level written.")
    format: Literal["json", "console"] = Field("json", description="JSON lines, or lines for a person.")


class EngineSettings(Section):
    """[engine]: the speech-to-text server."""

    host: str = Field("127.0.0.1", description="Where requests are taken; elsewhere than loopback needs an API key.")
    port: int = Field(8004, ge=0, le=65535, description="0 takes any free port, which the log names.")
    audio_dir: Path = Field(Path("var/audio"), description="Where the audio of unfinished jobs lies.")
    workers: int = Field(2, ge=1, le=1024, description="Recogniser processes: how much is transcribed at once.")
    max_upload_bytes: int = Field(2 * 1024**3, ge=1, description="Bytes of audio in one request, sent or fetched.")
    max_audio_seconds: float = Field(4 * 3600.0, gt=0, description="Seconds of audio in one request.")
    max_work_seconds: float = Field(6 * 3600.0, gt=0, description="Seconds that one recognition may take.")
    upload_stall_seconds: float = Field(60.0, gt=0, le=3600, description="Silence after which an upload is given up.")
    keep_alive_seconds: float = Field(
        5.0, gt=0, le=3600, description="Silence before, and between, the spaces sent to a caller who waits."
    )
    lease_seconds: float = Field(60.0, gt=0, le=3600, description="How long a dead engine's jobs stay taken.")
    drain_seconds: float = Field(
        30.0, ge=0, le=3600, description="How long SIGTERM waits for jobs, and then for requests, under way."
    )
    default_model: str = Field("general", description="The model of a request that names none.")
    models: dict[str, Recogniser] = Field(
        dict.fromkeys(_MODELS, "pocketsphinx"),
        description="Names that callers may use for a model, each with the recogniser that answers to it.",
    )
    fetch: FetchSettings = FetchSettings()
    gladia: GladiaSettings = GladiaSettings()
    log: LogSettings = LogSettings()

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @model_validator(mode="after")
    def _default_exists(self) -> Self:
        if self.default_model not in self.models:
            raise ValueError(f"default_model: {self.default_model!r} is not one of [engine.models]")
        return self


class Settings(Section):
    """The sections of the file that the engine reads."""

    outbox: OutboxSettings = OutboxSettings()
    engine: EngineSettings = EngineSettings()


def read(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings from file and environment. Raises ConfigError, which names the key and the remedy."""
    return load(Settings, path, environ, OTHER_SECTIONS)
