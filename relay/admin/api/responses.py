"""What the admin API answers where an operation has no value of its own for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.admin.audit import Act
from relay.admin.destinations import Destination
from relay.admin.diagnosis import Trouble
from relay.admin.doctor import Finding
from relay.admin.inspection import AttemptRecord, Details, Happened
from relay.admin.keys import KeyInfo
from relay.admin.overview import Tally
from relay.queue.retention import Pruned
from relay.service.effective import Setting


@dataclass(frozen=True, slots=True)
class Shown:
    """One delivery, and a command that sends the same."""

    delivery: Details
    curl: str


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts of one delivery, the first first."""

    attempts: tuple[AttemptRecord, ...]


@dataclass(frozen=True, slots=True)
class Happenings:
    """Attempts of any delivery, the oldest first."""

    attempts: tuple[Happened, ...]


@dataclass(frozen=True, slots=True)
class Tallies:
    """Attempts by group, the largest first."""

    since_at: float
    tallies: tuple[Tally, ...]


@dataclass(frozen=True, slots=True)
class Destinations:
    """All destinations, those with most that is due first; `troubles` says what is the matter with the worst."""

    destinations: tuple[Destination, ...]
    troubles: tuple[Trouble, ...]


@dataclass(frozen=True, slots=True)
class Done:
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
class Changed:
    """Whether an act changed anything; False: it was so already."""

    destination: str
    changed: bool


@dataclass(frozen=True, slots=True)
class KeyList:
    """The keys, without their secrets."""

    keys: tuple[KeyInfo, ...]


@dataclass(frozen=True, slots=True)
class Handover:
    """A key that was just made. `handover` is what receivers verify with, and is never shown again; `retiring` are the
    keys that it replaces."""

    key: KeyInfo
    handover: str = field(repr=False)
    retiring: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """What was looked at, and how it is."""

    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Acts:
    """What operators did, the last first. `older` is the cursor of the next page, None when there is none."""

    acts: tuple[Act, ...]
    older: int | None


@dataclass(frozen=True, slots=True)
class SettingList:
    """Every setting as it is in force."""

    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class PruneResult:
    """What was forgotten, or with `dry_run` would be."""

    dry_run: bool
    forgotten: Pruned


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with one field."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request was not carried out: a code for programs, a sentence with the remedy, and the fields at fault."""

    code: str
    message: str
    fields: tuple[Flaw, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """The body of every answer that is no success."""

    error: Problem
