"""What the admin API answers where an operation has no value of its own for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.admin.audit import AuditEntry
from relay.admin.destinations import Destination
from relay.admin.diagnosis import Trouble
from relay.admin.doctor import Finding
from relay.admin.inspection import AttemptRecord, DeliveryAttempt, Details
from relay.admin.keys import KeyInfo
from relay.admin.overview import Tally
from relay.queue.retention import Pruned
from relay.service.effective import Setting


@dataclass(frozen=True, slots=True)
class DeliveryResponse:
    """One delivery, and a command that sends the same."""

    delivery: Details
    curl: str


@dataclass(frozen=True, slots=True)
class AttemptsResponse:
    """The attempts of one delivery, the first first."""

    attempts: tuple[AttemptRecord, ...]


@dataclass(frozen=True, slots=True)
class TailResponse:
    """Attempts of any delivery, the oldest first."""

    attempts: tuple[DeliveryAttempt, ...]


@dataclass(frozen=True, slots=True)
class StatsResponse:
    """Attempts by group, the largest first."""

    since_at: float
    tallies: tuple[Tally, ...]


@dataclass(frozen=True, slots=True)
class DestinationsResponse:
    """All destinations, those with most that is due first; `troubles` says what is the matter with the worst."""

    destinations: tuple[Destination, ...]
    troubles: tuple[Trouble, ...]


@dataclass(frozen=True, slots=True)
class BulkResponse:
    """What a bulk act did, or with `dry_run` would do. `run` is its name in the audit."""

    dry_run: bool
    run: str
    count: int
    done: int
    bytes: int
    destinations: Mapping[str, int]
    refused: Mapping[str, int]
    held: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ChangeResponse:
    """Whether an act changed anything; False: it was so already."""

    destination: str
    changed: bool


@dataclass(frozen=True, slots=True)
class KeysResponse:
    """The keys, without their secrets."""

    keys: tuple[KeyInfo, ...]


@dataclass(frozen=True, slots=True)
class NewKeyResponse:
    """A key that was just made. `handover` is what receivers verify with, and is never shown again; `retiring` are the
    keys that it replaces."""

    key: KeyInfo
    handover: str = field(repr=False)
    retiring: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DoctorResponse:
    """What was looked at, and how it is."""

    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class AuditResponse:
    """What operators did, the last first. `older` is the cursor of the next page, None when there is none."""

    acts: tuple[AuditEntry, ...]
    older: int | None


@dataclass(frozen=True, slots=True)
class SettingsResponse:
    """Every setting as it is in force."""

    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class RetentionResponse:
    """What was forgotten, or with `dry_run` would be."""

    dry_run: bool
    forgotten: Pruned


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """Why a request was not carried out: a code for programs, a sentence with the remedy, and the fields at fault."""

    code: str
    message: str
    fields: tuple[FieldError, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """The body of every answer that is no success."""

    error: ErrorDetail
