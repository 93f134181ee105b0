"""What an answer means: Answer -> Outcome (the closed label), Verdict (what happens next), diagnosis (one sentence)."""

from __future__ import annotations

from typing import Protocol

from relay.model import Answer, Dead, Delivered, Delivery, Failure, Outcome, Reason, Retry, Verdict


class Schedule(Protocol):
    """When to try again."""

    def next_due(self, attempts: int, now: float) -> float | None:
        """The time after `attempts` failed ones, or None when there is no further one."""


_BY_STATUS = {410: Outcome.HTTP_410, 413: Outcome.HTTP_413, 429: Outcome.HTTP_429}
_BY_CLASS = {2: Outcome.SUCCESS, 3: Outcome.HTTP_3XX, 4: Outcome.HTTP_4XX, 5: Outcome.HTTP_5XX}


def classify(answer: Answer) -> Outcome:
    """The closed label of an answer. A status outside 200-599 is not HTTP as receivers speak it."""
    if answer.failure is not None:
        return Outcome(answer.failure.value)
    status = answer.status or 0
    return _BY_STATUS.get(status) or _BY_CLASS.get(status // 100, Outcome.PROTOCOL)


def judge(delivery: Delivery, answer: Answer, schedule: Schedule, *, now: float) -> Verdict:
    """What happens to the delivery. Only 2xx delivers; a redirect is a failure like any other."""
    outcome = classify(answer)
    if outcome is Outcome.SUCCESS:
        return Delivered()
    if outcome is Outcome.BLOCKED:
        return Dead(Reason.FORBIDDEN)
    due_at = schedule.next_due(delivery.attempts + 1, now)
    return Dead(Reason.EXHAUSTED) if due_at is None else Retry(due_at)


_SENTENCES = {
    Failure.DNS: "the host name did not resolve",
    Failure.CONNECT: "the connection was refused or could not be made",
    Failure.CONNECT_TIMEOUT: "no connection within the connect timeout",
    Failure.TLS: "the TLS handshake failed",
    Failure.READ_TIMEOUT: "the exchange did not end within its deadline",
    Failure.RESET: "the connection ended before an answer came",
    Failure.PROTOCOL: "the answer is not acceptable HTTP",
    Failure.BLOCKED: "the guard refused the destination",
    Failure.INTERNAL: "the relay itself failed",
}


def diagnose(answer: Answer) -> str:
    """One sentence for the operator, without secrets."""
    if answer.failure is not None:
        return answer.detail or _SENTENCES[answer.failure]
    match classify(answer):
        case Outcome.SUCCESS:
            return ""
        case Outcome.HTTP_3XX:
            return f"the receiver answered {answer.status}; redirects are never followed"
        case Outcome.HTTP_413:
            return f"the receiver calls the body too large; {remedy_for_413(answer.header('server'))}"
        case _:
            return f"the receiver answered {answer.status}"


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
