"""The relay's settings: what stands in the configuration file, and nothing that reaches a room as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from relay.guard.rules import ANYWHERE, Refusal
from relay.guard.url import PRE_RECORDED, Target
from relay.guard.url import read as read_url
from relay.policy.outcome import OnTooLarge, RetryPolicy
from relay.policy.schedule import ExponentialSchedule, FixedSchedule, Schedule
from relay.service import effective
from relay.service.configfile import load
from relay.service.effective import Setting
from relay.service.settings import CaFile, LogSettings, OutboxSettings, Section, TraceSettings, WebAddress, usable_cores

if TYPE_CHECKING:
    from relay.queue.retention import DeliveryRetention

OTHER_SECTIONS = frozenset({"engine"})
MOST_WORKERS = 64


class ExponentialSettings(Section):
    """[relay.retry.exponential]: the schedule of that name."""

    first: float = Field(
        5.0, gt=0, le=86400, description="Seconds of the first pause; each later one is twice as long."
    )
    longest: float = Field(3600.0, gt=0, le=86400, description="Seconds that no pause exceeds.")
    total: float = Field(259200.0, gt=0, description="Seconds after which a delivery is given up: 3 days.")


class RetrySettings(Section):
    """[relay.retry]: when a delivery that was not accepted is tried again."""

    schedule: Literal["fixed", "exponential"] = Field("fixed", description="Of deliveries that name none themselves.")
    retries: int = Field(10, ge=0, le=1000, description="Fixed: attempts after the first.")
    delay: float = Field(30.0, gt=0, le=86400, description="Fixed: seconds between attempts.")
    exponential: ExponentialSettings = ExponentialSettings()
    patience: float = Field(259200.0, gt=0, description="Seconds that a delivery waits for a destination left alone.")
    on_too_large: OnTooLarge = Field(OnTooLarge.RETRY, description="What follows a 413: retry, pointer or dead.")

    def policy(self) -> RetryPolicy:
        patient = self.exponential
        schedules: dict[str, Schedule] = {
            "fixed": FixedSchedule(self.retries, self.delay),
            "exponential": ExponentialSchedule(patient.first, patient.longest, patient.total),
        }
        return RetryPolicy(schedules, self.schedule, self.on_too_large)


class DeliveryRetentionSettings(Section):
    """[relay.retention]: how long what is finished is kept, in seconds since it was finished."""

    delivered: float = Field(604800.0, gt=0, description="Delivered and cancelled deliveries: 7 days.")
    bodies: float = Field(259200.0, gt=0, description="Their bodies, which are personal data: 3 days.")
    dead: float = Field(2592000.0, gt=0, description="Dead letters, with their bodies: 30 days.")
    attempts: float = Field(604800.0, gt=0, description="The attempts of all of them: 7 days.")
    audit: float = Field(31536000.0, gt=0, description="What operators did: 365 days.")

    def kept(self) -> DeliveryRetention:
        from relay.queue.retention import DeliveryRetention  # it loads asyncio, for which a command need not wait

        return DeliveryRetention(**self.model_dump())


class HttpSettings(Section):
    """[relay.http]: what one exchange with a receiver may cost."""

    connect_timeout: float = Field(5.0, gt=0, le=300, description="Seconds for name, connection and TLS handshake.")
    exchange_timeout: float = Field(30.0, gt=0, le=3600, description="Seconds for a whole exchange, answer included.")
    ca_file: CaFile = Field("", description="Certificates in PEM that are trusted too, such as a company's own.")
    proxy: str = Field("", repr=False, description="http(s)://user:password@host:port of a forward proxy; or empty.")

    @field_validator("proxy")
    @classmethod
    def _can_be_dialled(cls, url: str) -> str:
        if url and isinstance(found := _proxy_at(url), Refusal):
            raise ValueError(found.message)
        return url

    def forward_proxy(self) -> Target | None:
        """The proxy that is dialled in a receiver's place."""
        found = _proxy_at(self.proxy) if self.proxy else None
        return found if isinstance(found, Target) else None


def _proxy_at(url: str) -> Target | Refusal:
    return read_url(url, ANYWHERE, PRE_RECORDED)


class StreamsSettings(Section):
    """[relay.streams]: live results to a WebSocket (ws:// and wss://), one socket for each session."""

    sockets: int = Field(1000, ge=1, le=100000, description="Sockets held at once; streams beyond them wait.")
    open_timeout: float = Field(10.0, gt=0, le=300, description="Seconds for name, connection, TLS and upgrade.")
    ping_seconds: float = Field(20.0, gt=0, le=3600, description="Seconds between two pings to a silent receiver.")
    pong_timeout: float = Field(20.0, gt=0, le=3600, description="Seconds after which an unanswered ping ends it.")
    hold_seconds: float = Field(10.0, ge=1, le=600, description="How long a silent relay's streams stay held.")


class AdminSettings(Section):
    """[relay.admin]: the admin API and the console."""

    host: str = Field("127.0.0.1", description="Where they are served; elsewhere than here, behind a proxy with TLS.")
    port: int = Field(9465, ge=0, le=65535, description="0 takes any free port, which the log names.")
    token: SecretStr = Field(SecretStr(""), description="What opens them; empty: the one in token_file.")
    token_file: str = Field("", description="Made at the first start; empty: beside the database.")
    grafana_url: WebAddress = Field("", description="Where Grafana has our dashboards: the console links to them.")


def _counted(value: object) -> object:
    return min(MOST_WORKERS, max(1, int(usable_cores()))) if value == "auto" else value


Workers = Annotated[int, Field(ge=1, le=MOST_WORKERS), BeforeValidator(_counted)]
"""A number; or `auto`, one for each core that this process may keep busy."""


class RelaySection(Section):
    """[relay]: the delivery daemon."""

    host: str = Field(
        "127.0.0.1", description="Where metrics and health are served; they need no key, so keep it local."
    )
    port: int = Field(9464, ge=0, le=65535, description="0 takes any free port, which the log names.")
    workers: Workers = Field(1, description="Processes, each a whole relay, behind one port for each purpose.")
    concurrency: int = Field(
        256, ge=1, le=10000, description="Attempts in flight at once, in each worker; twice as many while many hang."
    )
    per_destination: int = Field(16, ge=1, le=10000, description="Attempts in flight to one destination.")
    lease_seconds: float = Field(60.0, gt=0, le=3600, description="How long a dead relay's claims stay claimed.")
    drain_seconds: float = Field(30.0, ge=0, le=3600, description="How long SIGTERM waits for attempts under way.")
    retry: RetrySettings = RetrySettings()
    retention: DeliveryRetentionSettings = DeliveryRetentionSettings()
    http: HttpSettings = HttpSettings()
    streams: StreamsSettings = StreamsSettings()
    log: LogSettings = LogSettings()
    traces: TraceSettings = TraceSettings()
    admin: AdminSettings = AdminSettings()


class RelaySettings(Section):
    """The sections of the file that the relay reads."""

    outbox: OutboxSettings = OutboxSettings()
    relay: RelaySection = RelaySection()

    @model_validator(mode="after")
    def _pointers_lead_somewhere(self) -> Self:
        if self.relay.retry.on_too_large is OnTooLarge.POINTER and not self.outbox.public_url:
            raise ValueError(
                'relay.retry.on_too_large = "pointer" needs outbox.public_url, under which links are served'
            )
        return self

    @property
    def token_file(self) -> Path:
        """Where the admin token lies, unless it is configured."""
        return Path(self.relay.admin.token_file or self.outbox.database.beside(".admin-token"))


def read(path: Path | None, environ: Mapping[str, str]) -> RelaySettings:
    """The settings from file and environment. Raises ConfigError, which names the key and the remedy."""
    return load(RelaySettings, path, environ, OTHER_SECTIONS)


def in_force(settings: RelaySettings, path: Path | None, environ: Mapping[str, str]) -> tuple[Setting, ...]:
    """Every setting with its value and where it comes from."""
    return effective.in_force(settings, path, environ, OTHER_SECTIONS)
