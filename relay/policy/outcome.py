"""What an answer means: Answer -> Outcome (the closed label), Verdict (what happens next), diagnosis (one sentence)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from relay.policy.attempt import (
    DELIVERED,
    POSTPONED,
    Answer,
    BodyLimits,
    Dead,
    Delivery,
    Failure,
    Outcome,
    Reason,
    Retry,
    Verdict,
)
from relay.policy.schedule import ExponentialSchedule, FixedSchedule, Schedule
from relay.service.retry_after import retry_after


class OnTooLarge(StrEnum):
    """What follows a 413."""

    RETRY = "retry"  # the schedule goes on: receivers get fixed
    POINTER = "pointer"  # the next attempt carries a link to the result instead of the result
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The relay's own choices. `schedules` by name; a delivery that names none follows `default`."""

    schedules: Mapping[str, Schedule] = field(
        default_factory=lambda: {"fixed": FixedSchedule(), "exponential": ExponentialSchedule()}
    )
    default: str = "fixed"
    on_too_large: OnTooLarge = OnTooLarge.RETRY

    def schedule(self, delivery: Delivery) -> Schedule:
        return self.schedules[delivery.schedule or self.default]


_BY_STATUS = {410: Outcome.HTTP_410, 413: Outcome.HTTP_413, 429: Outcome.HTTP_429}
_BY_CLASS = {2: Outcome.SUCCESS, 3: Outcome.HTTP_3XX, 4: Outcome.HTTP_4XX, 5: Outcome.HTTP_5XX}


def classify(answer: Answer) -> Outcome:
    """The closed label of an answer. A status outside 200-599 is not HTTP as receivers speak it."""
    if answer.failure is not None:
        return Outcome(answer.failure.value)
    status = answer.status or 0
    return _BY_STATUS.get(status) or _BY_CLASS.get(status // 100, Outcome.PROTOCOL)


def judge(delivery: Delivery, answer: Answer, policy: RetryPolicy, *, now: float, dice: float) -> Verdict:
    """What happens to the delivery. Only 2xx delivers; a redirect is a failure like any other."""
    match classify(answer):
        case Outcome.SUCCESS:
            return DELIVERED
        case outcome if reason := _why_dead(outcome, policy):
            return Dead(reason)
        case outcome if outcome is Outcome.HTTP_429 or pause_of(answer, now) is not None:
            return POSTPONED
        case Outcome.HTTP_413 if policy.on_too_large is OnTooLarge.DEAD:
            return Dead(Reason.TOO_LARGE)
        case outcome:
            pointer = delivery.pointer or (outcome is Outcome.HTTP_413 and policy.on_too_large is OnTooLarge.POINTER)
            return _again(delivery, policy, pointer=pointer, now=now, dice=dice)


_GIVEN_UP = {
    Outcome.BLOCKED: Reason.FORBIDDEN,
    Outcome.UNSENDABLE: Reason.UNSENDABLE,
    Outcome.HTTP_410: Reason.GONE,
}


def _why_dead(outcome: Outcome, policy: RetryPolicy) -> Reason | None:
    """For what a delivery is given up at once, if it is."""
    if outcome is Outcome.HTTP_413 and policy.on_too_large is OnTooLarge.DEAD:
        return Reason.TOO_LARGE
    return _GIVEN_UP.get(outcome)


def pause_of(answer: Answer, now: float) -> float | None:
    """For how many seconds the receiver asks to be left alone, if it does; 429 alone may leave open for how many."""
    if answer.status not in (429, 503):
        return None
    return retry_after(answer.header("retry-after"), now) or None


def _again(delivery: Delivery, policy: RetryPolicy, *, pointer: bool, now: float, dice: float) -> Retry | Dead:
    schedule = policy.schedule(delivery)
    began_at = delivery.created_at if delivery.scheduled_from is None else delivery.scheduled_from
    due_at = schedule.next_due(delivery.attempts + 1, began_at=began_at, now=now, dice=dice)
    return Dead(Reason.EXHAUSTED) if due_at is None else Retry(due_at, pointer)


_SENTENCES = {
    Failure.DNS: "the host name did not resolve",
    Failure.SHORTAGE: "the host name could not be looked up now",
    Failure.CONNECT: "the connection was refused or could not be made",
    Failure.CONNECT_TIMEOUT: "no connection within the connect timeout",
    Failure.TLS: "the TLS handshake failed",
    Failure.READ_TIMEOUT: "the exchange did not end within its deadline",
    Failure.RESET: "the connection ended before an answer came",
    Failure.PROTOCOL: "the answer is not acceptable HTTP",
    Failure.BLOCKED: "the guard refused the destination",
    Failure.UNSENDABLE: "no request can be made of it",
    Failure.INTERNAL: "the relay itself failed",
}


def diagnose(answer: Answer, size: int = 0, limits: BodyLimits | None = None) -> str:
    """One sentence for the operator, without secrets; none for a success about which nothing was odd.

    `size` is the body's, `limits` what the destination taught.
    """
    if not answer.detail and classify(answer) is Outcome.SUCCESS:
        return ""
    sentence = _sentence(answer)
    if limits is not None and suspects_a_limit(answer, size, limits):
        sentence += (
            f"; probably a size limit: this body has {size} bytes, the largest accepted {limits.largest_accepted}"
        )
    return sentence


def _sentence(answer: Answer) -> str:
    if not answer.sent:
        return answer.detail
    if answer.failure is not None:
        return answer.detail or _SENTENCES[answer.failure]
    said = _said(answer)
    return f"{said}; {answer.detail}" if answer.detail else said


def _said(answer: Answer) -> str:
    match classify(answer):
        case Outcome.HTTP_3XX:
            return f"the receiver answered {answer.status}; redirects are never followed"
        case Outcome.HTTP_413:
            return f"the receiver calls the body too large; {remedy_for_413(answer.header('server'))}"
        case _:
            return f"the receiver answered {answer.status}{_hint(answer)}"


# What nginx, Apache, Go and Node say to plain HTTP on a port of theirs that is for TLS.
_MEANT_FOR_TLS = re.compile(rb"plain HTTP request|speaking plain HTTP|HTTP request to an HTTPS server", re.IGNORECASE)


def _hint(answer: Answer) -> str:
    if answer.status == 400 and _MEANT_FOR_TLS.search(answer.excerpt):
        return ": its port is for TLS, and the URL says http: write https://"
    if answer.status == 505 or (answer.status == 426 and "h2" in (answer.header("upgrade") or "").lower()):
        return ": it takes HTTP/2 alone, and callbacks are HTTP/1.1: let it take that too"
    return ""


_LARGE = 64 * 1024


def suspects_a_limit(answer: Answer, size: int, limits: BodyLimits) -> bool:
    """Whether a 502 or a reset is really a 413: proxies that stop reading a large body often say so in these words."""
    accepted = limits.largest_accepted
    masked = answer.status == 502 or answer.failure is Failure.RESET
    return masked and accepted is not None and size > max(accepted, _LARGE)


_LIMIT_SETTINGS = {
    "nginx": "nginx: raise client_max_body_size",
    "openresty": "nginx: raise client_max_body_size",
    "apache": "Apache: raise LimitRequestBody",
    "caddy": "Caddy: raise request_body max_size",
    "iis": "IIS: raise maxAllowedContentLength",
    "envoy": "Envoy: raise the buffer filter's max_request_bytes",
    "express": "Express: raise express.json({limit})",
    "gunicorn": "raise the framework's body limit (Django: DATA_UPLOAD_MAX_MEMORY_SIZE)",
    "werkzeug": "Flask: raise MAX_CONTENT_LENGTH",
}
_ANY_LIMIT = "raise its body limit (nginx client_max_body_size, Express express.json({limit}))"


def remedy_for_413(server: str | None) -> str:
    """The line that fixes a 413, by the receiver's own Server header."""
    name = (server or "").lower()
    return next((line for key, line in _LIMIT_SETTINGS.items() if key in name), _ANY_LIMIT)
