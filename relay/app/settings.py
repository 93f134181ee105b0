"""The relay's settings: what stands in the configuration file, and nothing that reaches a room as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from relay.guard.rules import ANYWHERE, Refusal
from relay.guard.url import PRE_RECORDED, Target
from relay.guard.url import read as read_url
from relay.policy.outcome import OnTooLarge, RetryPolicy
from relay.policy.schedule import ExponentialSchedule, FixedSchedule, Schedule
from relay.service import effective
from relay.service.configfile import load, load_with_origins
from relay.service.effective import Setting
from relay.service.section import Bounds, Read, Requirement, Secret, Section, setting
from relay.service.settings import CaFile, LogSettings, OutboxSettings, TraceSettings, WebAddress, usable_cores

if TYPE_CHECKING:
    from relay.queue.retention import DeliveryRetention

OTHER_SECTIONS = frozenset({"engine"})
MOST_WORKERS = 64


@dataclass(frozen=True, slots=True)
class ExponentialSettings(Section):
    """[relay.retry.exponential]: the schedule of that name."""

    first: float = setting(5.0, "Seconds of the first pause; each later one is twice as long.", gt=0, le=86400)
    longest: float = setting(3600.0, "Seconds that no pause exceeds.", gt=0, le=86400)
    total: float = setting(259200.0, "Seconds after which a delivery is given up: 3 days.", gt=0)


@dataclass(frozen=True, slots=True)
class RetrySettings(Section):
    """[relay.retry]: when a delivery that was not accepted is tried again."""

    schedule: Literal["fixed", "exponential"] = setting("fixed", "Of deliveries that name none themselves.")
    retries: int = setting(10, "Fixed: attempts after the first.", ge=0, le=1000)
    delay: float = setting(30.0, "Fixed: seconds between attempts.", gt=0, le=86400)
    exponential: ExponentialSettings = ExponentialSettings()
    patience: float = setting(259200.0, "Seconds that a delivery waits for a destination left alone.", gt=0)
    on_too_large: OnTooLarge = setting(OnTooLarge.RETRY, "What follows a 413: retry, pointer or dead.")

    def policy(self) -> RetryPolicy:
        patient = self.exponential
        schedules: dict[str, Schedule] = {
            "fixed": FixedSchedule(self.retries, self.delay),
            "exponential": ExponentialSchedule(patient.first, patient.longest, patient.total),
        }
        return RetryPolicy(schedules, self.schedule, self.on_too_large)


@dataclass(frozen=True, slots=True)
class DeliveryRetentionSettings(Section):
    """[relay.retention]: how long what is finished is kept, in seconds since it was finished."""

    delivered: float = setting(604800.0, "Delivered and cancelled deliveries: 7 days.", gt=0)
    bodies: float = setting(259200.0, "Their bodies, which are personal data: 3 days.", gt=0)
    dead: float = setting(2592000.0, "Dead letters, with their bodies: 30 days.", gt=0)
    attempts: float = setting(604800.0, "The attempts of all of them: 7 days.", gt=0)
    audit: float = setting(31536000.0, "What operators did: 365 days.", gt=0)

    def kept(self) -> DeliveryRetention:
        from relay.queue.retention import DeliveryRetention  # it loads asyncio, for which a command need not wait

        return DeliveryRetention(**asdict(self))


def _proxy_at(url: str) -> Target | Refusal:
    return read_url(url, ANYWHERE, PRE_RECORDED)


def _can_be_dialled(url: str) -> None:
    if url and isinstance(found := _proxy_at(url), Refusal):
        raise ValueError(found.message)


Proxy = Annotated[str, Requirement(_can_be_dialled)]
"""The URL of a forward proxy, or empty."""


@dataclass(frozen=True, slots=True)
class HttpSettings(Section):
    """[relay.http]: what one exchange with a receiver may cost."""

    connect_timeout: float = setting(5.0, "Seconds for name, connection and TLS handshake.", gt=0, le=300)
    exchange_timeout: float = setting(30.0, "Seconds for a whole exchange, answer included.", gt=0, le=3600)
    ca_file: CaFile = setting("", "Certificates in PEM that are trusted too, such as a company's own.")
    proxy: Proxy = setting("", "http(s)://user:password@host:port of a forward proxy; or empty.", repr=False)

    def forward_proxy(self) -> Target | None:
        """The proxy that is dialled in a receiver's place."""
        found = _proxy_at(self.proxy) if self.proxy else None
        return found if isinstance(found, Target) else None


@dataclass(frozen=True, slots=True)
class StreamsSettings(Section):
    """[relay.streams]: live results to a WebSocket (ws:// and wss://), one socket for each session."""

    sockets: int = setting(1000, "Sockets held at once; streams beyond them wait.", ge=1, le=100000)
    open_timeout: float = setting(10.0, "Seconds for name, connection, TLS and upgrade.", gt=0, le=300)
    ping_seconds: float = setting(20.0, "Seconds between two pings to a silent receiver.", gt=0, le=3600)
    pong_timeout: float = setting(20.0, "Seconds after which an unanswered ping ends it.", gt=0, le=3600)
    hold_seconds: float = setting(10.0, "How long a silent relay's streams stay held.", ge=1, le=600)


@dataclass(frozen=True, slots=True)
class AdminSettings(Section):
    """[relay.admin]: the admin API and the console."""

    host: str = setting("127.0.0.1", "Where they are served; elsewhere than here, behind a proxy with TLS.")
    port: int = setting(9465, "0 takes any free port, which the log names.", ge=0, le=65535)
    token: Secret = setting(Secret(""), "What opens them; empty: the one in token_file.")
    token_file: str = setting("", "Made at the first start; empty: beside the database.")
    grafana_url: WebAddress = setting("", "Where Grafana has our dashboards: the console links to them.")


def _counted(value: object) -> object:
    return min(MOST_WORKERS, max(1, int(usable_cores()))) if value == "auto" else value


Workers = Annotated[int, Bounds(ge=1, le=MOST_WORKERS), Read(_counted)]
"""A number; or `auto`, one for each core that this process may keep busy."""


@dataclass(frozen=True, slots=True)
class RelaySection(Section):
    """[relay]: the delivery daemon."""

    host: str = setting("127.0.0.1", "Where metrics and health are served; they need no key, so keep it local.")
    port: int = setting(9464, "0 takes any free port, which the log names.", ge=0, le=65535)
    workers: Workers = setting(1, "Processes, each a whole relay, behind one port for each purpose.")
    concurrency: int = setting(
        256, "Attempts in flight at once, in each worker; twice as many while many hang.", ge=1, le=10000
    )
    per_destination: int = setting(16, "Attempts in flight to one destination.", ge=1, le=10000)
    lease_seconds: float = setting(60.0, "How long a dead relay's claims stay claimed.", gt=0, le=3600)
    drain_seconds: float = setting(30.0, "How long SIGTERM waits for attempts under way.", ge=0, le=3600)
    retry: RetrySettings = RetrySettings()
    retention: DeliveryRetentionSettings = DeliveryRetentionSettings()
    http: HttpSettings = HttpSettings()
    streams: StreamsSettings = StreamsSettings()
    log: LogSettings = LogSettings()
    traces: TraceSettings = TraceSettings()
    admin: AdminSettings = AdminSettings()


@dataclass(frozen=True, slots=True)
class RelaySettings(Section):
    """The sections of the file that the relay reads."""

    outbox: OutboxSettings = OutboxSettings()
    relay: RelaySection = RelaySection()

    def __post_init__(self) -> None:
        if self.relay.retry.on_too_large is OnTooLarge.POINTER and not self.outbox.public_url:
            raise ValueError(
                'relay.retry.on_too_large = "pointer" needs outbox.public_url, under which links are served'
            )

    @property
    def token_file(self) -> Path:
        """Where the admin token lies, unless it is configured."""
        return Path(self.relay.admin.token_file or self.outbox.database.beside(".admin-token"))


def read(path: Path | None, environ: Mapping[str, str]) -> RelaySettings:
    """The settings from file and environment. Raises ConfigError, which names the key and the remedy."""
    return load(RelaySettings, path, environ, OTHER_SECTIONS)


def read_all(path: Path | None, environ: Mapping[str, str]) -> tuple[RelaySettings, tuple[Setting, ...]]:
    """The same, and every setting with its value and where it comes from."""
    settings, origins = load_with_origins(RelaySettings, path, environ, OTHER_SECTIONS)
    return settings, effective.in_force(settings, origins)
