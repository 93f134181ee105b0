"""What can be asked of the admin API: one model for each question, its fields from path, query or JSON body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from relay.admin import times
from relay.admin.access import origin_of
from relay.admin.inspection import Filter
from relay.admin.operations import REPLAYABLE, BulkSelection, select
from relay.admin.overview import Group
from relay.admin.probe import LARGEST, SMALLEST
from relay.outbox.errors import RelayError
from relay.outbox.model import DeliveryState, Method
from relay.policy.attempt import Outcome


def _read(parse: Callable[[str], Any]) -> BeforeValidator:
    """Values that are written as text, and nothing else."""

    def read(value: object) -> Any:
        if not isinstance(value, str):
            raise PydanticCustomError("string_type", "expected a string")
        try:
            return parse(value)
        except RelayError as error:
            raise ValueError(str(error).removeprefix("destination: ")) from None

    return BeforeValidator(read)


def _groups(text: str) -> tuple[Group, ...]:
    try:
        return tuple(dict.fromkeys(Group(name.strip()) for name in text.split(",")))
    except ValueError:
        raise ValueError(f"expected any of {', '.join(Group)}, with commas") from None


def _flag(value: object) -> object:
    """A query parameter comes as text."""
    return {"true": True, "false": False}.get(value) if isinstance(value, str) else value


def _text(description: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "description": description, "examples": list(examples)})


Moment = Annotated[
    times.Moment,
    _read(times.moment),
    _text("How long ago, or a UTC time.", "1h", "2026-03-01T12:30"),
]
Span = Annotated[float, _read(times.duration), _text("A duration.", "24h", "15m")]
Origin = Annotated[
    str, _read(origin_of), _text("An origin, or a URL of that destination.", "https://receiver.example:443")
]
Groups = Annotated[
    tuple[Group, ...],
    _read(_groups),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^(destination|outcome|status)(,(destination|outcome|status))*$",
            "examples": ["destination,outcome"],
        }
    ),
]
Flag = Annotated[bool, BeforeValidator(_flag)]
Id = Annotated[str, Field(min_length=1, max_length=256, description="A delivery's id.")]
Owner = Annotated[str | None, Field(max_length=128, description="Whose it is; of another's nothing is found.")]
Limit = Annotated[int, Field(ge=1, le=1000, description="At most so many.")]
Seq = Annotated[int, Field(ge=1, lt=2**63, description="A cursor: `older` of the page before.")]


class RequestModel(BaseModel):
    """A misspelt field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoParameters(RequestModel):
    """Nothing to say."""


class FilterFields(RequestModel):
    """Which deliveries."""

    outcome: Outcome | None = Field(None, description="What its last attempt came to.")
    destination: Origin | None = None
    id_prefix: str | None = Field(None, min_length=1, max_length=256, description="How its id begins.")
    tag: str | None = Field(None, min_length=1, max_length=128, description="One of its tags.")
    owner: Owner = None
    since: Moment | None = None
    until: Moment | None = None

    def filter(self, state: DeliveryState | None, clock: Callable[[], float]) -> Filter:
        """The operations' own form; how long ago something was, the clock tells."""
        since, until = (moment.by(clock) if moment else None for moment in (self.since, self.until))
        return Filter(state, self.outcome, self.destination, self.id_prefix, since, until, self.tag, self.owner)


class ListRequest(FilterFields):
    """A page of deliveries."""

    state: DeliveryState | None = Field(None, description="Where it stands.")
    limit: Limit = 50
    older: Seq | None = None


class ShowRequest(RequestModel):
    """One delivery."""

    id: Id
    owner: Owner = None
    reveal: Flag = Field(
        False, description="Show path and query of its URL and its headers, which may be tokens. Audited."
    )


class OneRequest(RequestModel):
    """Something of one delivery."""

    id: Id


class AttemptsRequest(OneRequest):
    """The attempts at one delivery."""

    owner: Owner = None


class TailRequest(RequestModel):
    """Attempts, as they happened."""

    outcome: Outcome | None = None
    destination: Origin | None = None
    limit: Annotated[int, Field(ge=0, le=1000, description="The last so many.")] = 10


class StatsRequest(RequestModel):
    """Attempts, counted."""

    by: Groups = (Group.DESTINATION, Group.OUTCOME)
    since: Moment | None = Field(None, description="An hour ago, unless it is said.")


class SelectionRequest(FilterFields):
    """What a bulk act is about: ids, or a filter, or `all`."""

    ids: list[Id] = Field([], max_length=1000, description="Deliveries by id; then nothing else may filter.")
    limit: Annotated[int, Field(ge=1, lt=2**63, description="The oldest so many.")] | None = None
    all: bool = Field(False, description="Without any filter.")
    dry_run: bool = Field(False, description="Only say what would be done.")

    def selection(self, clock: Callable[[], float], state: DeliveryState | None = None) -> BulkSelection:
        """The operations' own form. Raises ValueError or Refused."""
        return select(self.ids, self.filter(state, clock), self.limit, everything=self.all)


class ReplayRequest(SelectionRequest):
    """Deliveries to send again: dead ones, unless `state` says otherwise."""

    state: Annotated[DeliveryState, Field(json_schema_extra={"enum": sorted(REPLAYABLE)})] | None = None
    rate: (
        Annotated[float, Field(ge=0.001, le=1e6, description="So many a second; without it all are due now.")] | None
    ) = None


class DestinationRequest(RequestModel):
    """A destination to do something to: an origin, or with `path` one endpoint of it."""

    destination: Origin
    path: str = Field("", pattern=r"^(/[^?#]*)?$", max_length=255, description="Of that origin this path alone.")


class KeyRequest(RequestModel):
    """A key to sign with: a new one is made unless one is given."""

    destination: Origin | None = Field(None, description="For one destination; without it, for all others.")
    ed25519: bool = Field(False, description="A key pair (v1a) instead of a shared secret (v1).")
    key: str | None = Field(None, repr=False, max_length=512, description="One that exists: whsec_ or whsk_.")


class RotateRequest(KeyRequest):
    """A key to sign with instead."""

    overlap: Span | None = Field(None, description="How long the old ones sign too; 24h unless it is said.")


class RetireRequest(RequestModel):
    """A key to sign with no more."""

    id: Annotated[int, Field(ge=1, lt=2**63, description="Its number.")]
    after: Span | None = Field(None, description="From now; without it, at once.")
    force: bool = Field(False, description="Although it is the last one of its scope.")


class UrlRequest(RequestModel):
    """A URL to be judged."""

    url: str = Field(repr=False, max_length=65536)
    live: bool = Field(False, description="Admit ws and wss too.")
    offline: bool = Field(False, description="Judge without resolving the name.")


class ProbeRequest(RequestModel):
    """A URL to send one signed test request to, where the guard allows it."""

    url: str = Field(repr=False, max_length=65536)
    method: Method = Field(Method.POST, description="A PUT may be stored by who gets it.")
    bytes: int = Field(SMALLEST, ge=SMALLEST, le=LARGEST, description="How large its body is.")


class DoctorRequest(RequestModel):
    """What to look over."""

    egress: Flag = Field(
        False, description="Resolve and connect to the destinations that wait, too; nothing is sent to them."
    )


class AuditRequest(RequestModel):
    """A page of the audit."""

    act: str | None = Field(None, min_length=1, max_length=64, examples=["delivery.replay"])
    limit: Limit = 50
    older: Seq | None = None


class RetentionRequest(RequestModel):
    """Whether to forget, or only to say what would be forgotten."""

    dry_run: bool = False


class BackupRequest(RequestModel):
    """What the copy is called. It lies in `backups`, beside the outbox: a token opens no other folder."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", examples=["outspoken-2026-03-01.db"])
