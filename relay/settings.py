"""The relay's settings: what stands in the configuration file, and nothing that reaches a room as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from relay.configfile import load
from relay.outbox.settings import OutboxSettings, Section

OTHER_SECTIONS = frozenset({"engine"})


class RetrySettings(Section):
    """[relay.retry]: the schedule of a delivery that was not accepted."""

    retries: int = Field(10, ge=0, le=1000, description="Attempts after the first.")
    delay: float = Field(30.0, gt=0, le=86400, description="Seconds between attempts.")


class HttpSettings(Section):
    """[relay.http]: what one exchange with a receiver may cost."""

    connect_timeout: float = Field(5.0, gt=0, le=300, description="Seconds for name, connection and TLS handshake.")
    exchange_timeout: float = Field(30.0, gt=0, le=3600, description="Seconds for a whole exchange, answer included.")


class LogSettings(Section):
    """[relay.log]: lines on standard output."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least level written.")
    format: Literal["json", "console"] = Field("json", description="JSON lines, or lines for a person.")


class RelaySettings(Section):
    """[relay]: the delivery daemon."""

    host: str = Field(
        "127.0.0.1", description="Where metrics and health are served; they need no key, so keep it local."
    )
    port: int = Field(9464, ge=0, le=65535, description="0 takes any free port, which the log names.")
    concurrency: int = Field(256, ge=1, le=10000, description="Attempts in flight at once.")
    per_destination: int = Field(16, ge=1, le=10000, description="Attempts in flight to one destination.")
    lease_seconds: float = Field(60.0, gt=0, le=3600, description="How long a dead relay's claims stay claimed.")
    drain_seconds: float = Field(30.0, ge=0, le=3600, description="How long SIGTERM waits for attempts under way.")
    retry: RetrySettings = RetrySettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()


class Settings(Section):
    """The sections of the file that the relay reads."""

    outbox: OutboxSettings = OutboxSettings()
    relay: RelaySettings = RelaySettings()


def read(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings from file and environment. Raises ConfigError, which names the key and the remedy."""
    return load(Settings, path, environ, OTHER_SECTIONS)
