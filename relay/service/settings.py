"""What engine and relay share of the configuration: the [outbox] section, so that both agree, and kinds of settings."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from relay.guard.rules import ANYWHERE, Network, Refusal, Rules
from relay.guard.url import read
from relay.outbox.databases import database_at
from relay.outbox.errors import ConfigError
from relay.outbox.postgres.placeholders import check_schema
from relay.outbox.store import Database
from relay.service.section import Bounds, Parsed, Read, Requirement, Section, setting
from relay.service.tls import readable_ca_file

if TYPE_CHECKING:
    from relay.guard.resolver import Resolver


def _web_address(url: str) -> None:
    if url and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url):
        raise ValueError("expected http(s)://host, perhaps with a port and a path, and nothing else")


WebAddress = Annotated[str, Requirement(_web_address)]
"""Where something is served for others, or empty; without credentials."""


def usable_cores() -> float:
    """The cores that this process may keep busy: of the machine, by its affinity, and by its control group's quota."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text("ascii").split()
        return cores if quota == "max" else min(cores, int(quota) / int(period))
    with suppress(OSError, ValueError):
        quota, period = ((group / "cpu" / f"cpu.cfs_{name}_us").read_text("ascii") for name in ("quota", "period"))
        return cores if int(quota) <= 0 else min(cores, int(quota) / int(period))
    return cores


def _listed(value: object) -> object:
    """A list may be written as `8080, 8443` in an environment variable; one item needs no brackets."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [value] if isinstance(value, int) else value


Ports = Annotated[frozenset[Annotated[int, Bounds(ge=1, le=65535)]], Read(_listed)]


def _network(value: Any) -> Network:
    try:
        return ip_network(value)
    except ValueError:
        raise ValueError("value is not a valid IPv4 or IPv6 network") from None


Networks = Annotated[tuple[Annotated[Network, Parsed(_network)], ...], Read(_listed)]
CaFile = Annotated[str, Requirement(readable_ca_file)]


def _are_name_servers(servers: tuple[str, ...]) -> None:
    for server in servers:
        if not _is_name_server(server):
            raise ValueError("expected addresses, perhaps with a port: 10.0.0.2, 10.0.0.2:53, [2001:db8::2]:53")


def _is_name_server(text: str) -> bool:
    parts = re.fullmatch(r"\[([^]]*)\](?::([0-9]{1,5}))?|([0-9.]*)(?::([0-9]{1,5}))?", text)
    if parts is None:
        return "[" not in text and _is_address(text)
    return _is_address(parts[1] or parts[3]) and int(parts[2] or parts[4] or 53) in range(1, 65536)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text


NameServers = Annotated[tuple[str, ...], Read(_listed), Requirement(_are_name_servers)]


@dataclass(frozen=True, slots=True)
class GuardSettings(Section):
    """[outbox.guard]: where callbacks may go, and from where audio may be fetched."""

    ports: Ports = setting(frozenset({80, 443, 8080, 8443}), "Ports that a callback URL may name.")
    allow_networks: Networks = setting(
        (), "Networks opened although the address rule denies them, such as 10.1.0.0/16."
    )
    nat64: bool = setting(False, "Let 64:ff9b::/96 through, judged by the IPv4 address inside.")

    name_servers: NameServers = setting(
        (), "Asked for names instead of those of /etc/resolv.conf, such as 10.0.0.2 or 10.0.0.2:5353."
    )

    def rules(self) -> Rules:
        return Rules(ports=self.ports, networks=self.allow_networks, nat64=self.nat64)

    def resolver(self) -> Resolver:
        """What looks hosts up and judges them, for one event loop."""
        # They load asyncio and c-ares, for which a command need not wait.
        from relay.guard.resolver import Resolver
        from relay.service.dns import system_names

        return Resolver(self.rules(), system_names(self.name_servers))


def _is_a_collector(url: str) -> None:
    if url and isinstance(found := read(url, ANYWHERE), Refusal):
        raise ValueError(
            f"{found.message} Name a collector's, such as http://127.0.0.1:4318/v1/traces, or leave it empty."
        )


@dataclass(frozen=True, slots=True)
class TraceSettings(Section):
    """[relay.traces] and [engine.traces]: spans for OpenTelemetry."""

    endpoint: Annotated[str, Requirement(_is_a_collector)] = setting(
        "", "The URL of an OTLP/HTTP collector's /v1/traces; empty for none.", repr=False
    )


@dataclass(frozen=True, slots=True)
class LogSettings(Section):
    """[relay.log] and [engine.log]: lines on standard output."""

    level: Literal["debug", "info", "warning", "error"] = setting("info", "The least level written.")
    format: Literal["json", "console"] = setting("json", "JSON lines, or lines for a person.")


def _is_a_database(url: str) -> None:
    try:
        database_at(url)
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("outbox.url: ")) from None


def _is_a_schema(schema: str) -> None:
    try:
        check_schema(schema)
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("outbox.postgres_schema: ")) from None


DatabaseUrl = Annotated[str, Requirement(_is_a_database)]
SchemaName = Annotated[str, Requirement(_is_a_schema)]


@dataclass(frozen=True, slots=True)
class OutboxSettings(Section):
    """[outbox]: the database that engine and relay share."""

    url: DatabaseUrl = setting("sqlite:///var/outspoken.db", "Where jobs and deliveries live.")
    postgres_schema: SchemaName = setting("outspoken", "Where url names a PostgreSQL database: its schema there.")
    public_url: WebAddress = setting("", "Where receivers reach the engine, for links to results; empty: nowhere.")
    guard: GuardSettings = GuardSettings()

    @property
    def database(self) -> Database:
        return database_at(self.url, self.postgres_schema)
