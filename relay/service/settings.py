"""The [outbox] section: the one part of the configuration that engine and relay share, so that both agree."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, IPvAnyNetwork, field_validator

from relay.guard.rules import Rules
from relay.outbox.databases import database_at
from relay.outbox.errors import ConfigError
from relay.outbox.store import Database


class Section(BaseModel):
    """A section of the configuration file: a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


def _listed(value: object) -> object:
    """A list may be written as `8080, 8443` in an environment variable; one item needs no brackets."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [value] if isinstance(value, int) else value


class GuardSettings(Section):
    """[outbox.guard]: where callbacks may go, and from where audio may be fetched."""

    ports: Annotated[frozenset[Annotated[int, Field(ge=1, le=65535)]], BeforeValidator(_listed)] = Field(
        frozenset({80, 443, 8080, 8443}), description="Ports that a callback URL may name."
    )
    allow_networks: Annotated[tuple[IPvAnyNetwork, ...], BeforeValidator(_listed)] = Field(
        (), description="Networks opened although the address rule denies them, such as 10.1.0.0/16."
    )
    nat64: bool = Field(False, description="Let 64:ff9b::/96 through, judged by the IPv4 address inside.")

    def rules(self) -> Rules:
        return Rules(ports=self.ports, networks=self.allow_networks, nat64=self.nat64)


class OutboxSettings(Section):
    """[outbox]: the database that engine and relay share."""

    url: str = Field("sqlite:///var/outspoken.db", description="Where jobs and deliveries live.")
    public_url: str = Field("", description="Where receivers reach the engine, for links to results; empty: nowhere.")
    guard: GuardSettings = GuardSettings()

    @field_validator("url")
    @classmethod
    def _is_a_database(cls, url: str) -> str:
        try:
            database_at(url)
        except ConfigError as error:
            raise ValueError(str(error).removeprefix("outbox.url: ")) from None
        return url

    @field_validator("public_url")
    @classmethod
    def _is_a_place(cls, url: str) -> str:
        if url and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url):
            raise ValueError("expected http(s)://host, perhaps with a port and a path, and nothing else")
        return url

    @property
    def database(self) -> Database:
        """What `url` names."""
        return database_at(self.url)
