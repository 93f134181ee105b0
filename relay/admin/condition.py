"""The one judgement of how things stand: of the relay, of its store, and of every receiver. The first page, `relay
status`, the admin API and the metrics say what comes of it, and alerts mean the same.

Arithmetic on what was counted; nothing is asked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from relay.admin.times import clock, size, span
from relay.policy.breaker import SAID, Cause, DestinationState

OFTEN = 3
"""A failure or two are nobody's business: the schedule is there for them."""
LATE_SECONDS = 60.0
OVERDUE_SECONDS = 300.0
LOW_DISK, FULL_DISK = 1_000_000_000, 100_000_000


class Severity(StrEnum):
    """How bad it is: somebody has to look when there is time, or now."""

    WELL = "well"
    ATTENTION = "attention"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Attention:
    """An endpoint that needs attention, or with the path `''` a whole origin. `waiting` counts what is kept from it,
    `dead` what was given up in 24 hours, `gone` its URLs that answered 410. No attempt goes there before `next_at`."""

    id: str
    origin: str
    path: str
    state: DestinationState
    cause: Cause
    waiting: int
    oldest_due_age: float
    dead: int
    gone: int
    failures: int
    next_at: float | None
    largest_accepted: int | None

    @property
    def place(self) -> str:
        return self.origin + self.path

    @property
    def deliberate(self) -> bool:
        return self.state in SAID


@dataclass(frozen=True, slots=True)
class Process:
    """What is known of the relays, and of the disk. `seen_at` is the last sign of life of any, `stopped_at` when the
    last one left as it should; `ready` is due, and `late` of it nobody holds up but the relay: the oldest for so many
    seconds. `disk_free` is bytes; None where it is not ours to know."""

    relays: int
    seen_at: float | None
    stopped_at: float | None
    ready: int
    late: int
    late_seconds: float
    disk_free: int | None


@dataclass(frozen=True, slots=True)
class Condition:
    """What came of it. `ours` are sentences about what the operator can mend, the worst first; `attention` all
    endpoints that need it, the worst first. `headline` says it in one or two sentences."""

    severity: Severity
    headline: str
    ours: tuple[str, ...]
    attention: tuple[Attention, ...]


def cause_of(
    state: DestinationState, *, failures: int, retried: int, waiting: int, oldest_due_age: float, dead: int, gone: int
) -> Cause | None:
    """Why a destination that stands so needs attention; None: it does not."""
    if state in SAID:
        return Cause(state) if waiting or dead else None
    if state is DestinationState.UNREACHABLE:
        return Cause.UNREACHABLE
    if state is DestinationState.TRICKLING or max(failures, retried) >= OFTEN:
        return Cause.FAILING
    if dead:
        return Cause.GONE if gone else Cause.GIVEN_UP
    return Cause.BEHIND if waiting and oldest_due_age > LATE_SECONDS else None


def judge(process: Process, attention: Iterable[Attention]) -> Condition:
    """How things stand, without a word about why the worst endpoint fails: see `told`."""
    faults = sorted(_faults(process), key=lambda fault: fault[0] is not Severity.BROKEN)
    listed = tuple(sorted(attention, key=_worst_first))
    severities = {severity for severity, _ in faults} | ({Severity.ATTENTION} if listed else set())
    severity = next((one for one in (Severity.BROKEN, Severity.ATTENTION) if one in severities), Severity.WELL)
    return told(Condition(severity, "", tuple(sentence for _, sentence in faults), listed), "")


def told(condition: Condition, why: str) -> Condition:
    """The same with its headline; `why` is a sentence about its first endpoint."""
    sentences = [*condition.ours[:1], *_about_endpoints(condition.attention, why)]
    return Condition(
        condition.severity,
        " ".join(sentences) or "Nothing is late, and nothing is wrong.",
        condition.ours,
        condition.attention,
    )


def shortened(place: str, most: int = 40) -> str:
    """A destination, or a path alone: of a long path, which may be a secret, its beginning and its end."""
    begin = place.find("/", place.find("://") + 3) if "://" in place else 0
    origin, path = (place, "") if begin < 0 else (place[:begin], place[begin:])
    return origin + (path if len(path) <= most else f"{path[:20]}…{path[-4:]}")


def counted(count: int, one: str, many: str) -> str:
    """`1 delivery is`, `2 deliveries are`."""
    return f"{count} {one if count == 1 else many}"


def _faults(process: Process) -> Iterable[tuple[Severity, str]]:
    full = process.disk_free is not None and process.disk_free < FULL_DISK
    if full:  # which alone keeps relays from being heard of
        yield Severity.BROKEN, _room(process)
    if (silence := _silence(process)) is not None:
        yield silence
    elif process.late and process.late_seconds > LATE_SECONDS:
        overdue = process.late_seconds > OVERDUE_SECONDS
        late = counted(process.late, "delivery that could go is", "deliveries that could go are")
        yield (
            Severity.BROKEN if overdue else Severity.ATTENTION,
            f"{late} late, the oldest by {span(process.late_seconds)}; no receiver is to blame: see `relay doctor`.",
        )
    if not full and process.disk_free is not None and process.disk_free < LOW_DISK:
        yield Severity.ATTENTION, _room(process)


def _room(process: Process) -> str:
    return f"The disk of the outbox has {size(process.disk_free or 0)} left: see `relay retention`, or grow it."


def _silence(process: Process) -> tuple[Severity, str] | None:
    if process.relays:
        return None
    stopped = process.stopped_at is not None and process.stopped_at >= (process.seen_at or 0.0)
    if not process.ready and process.seen_at is None and not stopped:
        return None  # nobody has begun yet
    remedy = "start `relay run`"
    if stopped and process.stopped_at is not None:
        said = f"The relay was stopped at {clock(process.stopped_at)}"
    elif process.seen_at is not None:
        said = f"The relay has not been heard of since {clock(process.seen_at)}"
        remedy += "; if it runs, its log says what keeps it from the outbox (`store.error`)"
    else:
        said = "No relay has worked on this database yet"
    due = f", and {counted(process.ready, 'delivery is', 'deliveries are')} due" if process.ready else ""
    return Severity.ATTENTION if stopped and not process.ready else Severity.BROKEN, f"{said}{due}: {remedy}."


def _worst_first(one: Attention) -> tuple[bool, int, int, str]:
    return one.deliberate, -(one.waiting + one.dead), list(Cause).index(one.cause), one.place


def _about_endpoints(attention: Sequence[Attention], why: str) -> list[str]:
    if not attention:
        return []
    needs = counted(len(attention), "endpoint needs attention", "endpoints need attention")
    worst = f"{shortened(attention[0].place)}. {why}".strip()
    return [f"{needs}; worst: {worst}" if len(attention) > 1 else f"{needs}: {worst}"]
