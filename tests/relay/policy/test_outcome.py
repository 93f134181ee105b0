from __future__ import annotations

import re

from relay.policy.attempt import (
    POSTPONED,
    Answer,
    BodyLimits,
    Dead,
    Delivered,
    Delivery,
    Failure,
    Outcome,
    Reason,
    Retry,
    Timing,
    Verdict,
)
from relay.policy.outcome import OnTooLarge, RetryPolicy, classify, diagnose, judge, pause_of, remedy_for_413
from tests.cases import cases
from tests.relay.deliveries import answer, claimed

NOW = 1000.0
DEFAULT = RetryPolicy()
LATER = Retry(1030.0)


def verdict_on(
    came: Answer, delivery: Delivery | None = None, policy: RetryPolicy = DEFAULT, dice: float = 1.0
) -> Verdict:
    return judge(delivery or claimed(), came, policy, now=NOW, dice=dice)


def hinting(status: int, hint: str) -> Answer:
    return answer(status, headers=(("Retry-After", hint),))


TABLE: list[tuple[Answer, Outcome, Verdict, str]] = [
    (answer(200), Outcome.SUCCESS, Delivered(), ""),
    (answer(201), Outcome.SUCCESS, Delivered(), ""),
    (answer(204), Outcome.SUCCESS, Delivered(), ""),
    (answer(299), Outcome.SUCCESS, Delivered(), ""),
    (answer(301), Outcome.HTTP_3XX, LATER, "the receiver answered 301; redirects are never followed"),
    (answer(304), Outcome.HTTP_3XX, LATER, "the receiver answered 304; redirects are never followed"),
    (answer(400), Outcome.HTTP_4XX, LATER, "the receiver answered 400"),
    (
        answer(400, excerpt=b"<center>The plain HTTP request was sent to HTTPS port</center>"),
        Outcome.HTTP_4XX,
        LATER,
        "the receiver answered 400: its port is for TLS, and the URL says http: write https://",
    ),
    (
        answer(400, excerpt=b"Client sent an HTTP request to an HTTPS server.\n"),
        Outcome.HTTP_4XX,
        LATER,
        "the receiver answered 400: its port is for TLS, and the URL says http: write https://",
    ),
    (
        answer(505),
        Outcome.HTTP_5XX,
        LATER,
        "the receiver answered 505: it takes HTTP/2 alone, and callbacks are HTTP/1.1: let it take that too",
    ),
    (
        answer(426, headers=(("Upgrade", "h2c"),)),
        Outcome.HTTP_4XX,
        LATER,
        "the receiver answered 426: it takes HTTP/2 alone, and callbacks are HTTP/1.1: let it take that too",
    ),
    (answer(426, headers=(("Upgrade", "TLS/1.2"),)), Outcome.HTTP_4XX, LATER, "the receiver answered 426"),
    (answer(401), Outcome.HTTP_4XX, LATER, "the receiver answered 401"),
    (answer(404), Outcome.HTTP_4XX, LATER, "the receiver answered 404"),
    (answer(410), Outcome.HTTP_410, Dead(Reason.GONE), "the receiver answered 410"),
    (answer(429), Outcome.HTTP_429, POSTPONED, "the receiver answered 429"),
    (answer(500), Outcome.HTTP_5XX, LATER, "the receiver answered 500"),
    (answer(503), Outcome.HTTP_5XX, LATER, "the receiver answered 503"),
    (answer(599), Outcome.HTTP_5XX, LATER, "the receiver answered 599"),
    (answer(100), Outcome.PROTOCOL, LATER, "the receiver answered 100"),
    (answer(199), Outcome.PROTOCOL, LATER, "the receiver answered 199"),
    (answer(600), Outcome.PROTOCOL, LATER, "the receiver answered 600"),
    (answer(999), Outcome.PROTOCOL, LATER, "the receiver answered 999"),
    (answer(failure=Failure.DNS), Outcome.DNS, LATER, "the host name did not resolve"),
    (answer(failure=Failure.SHORTAGE), Outcome.SHORTAGE, LATER, "the host name could not be looked up now"),
    (answer(failure=Failure.CONNECT), Outcome.CONNECT, LATER, "the connection was refused or could not be made"),
    (
        answer(failure=Failure.CONNECT_TIMEOUT),
        Outcome.CONNECT_TIMEOUT,
        LATER,
        "no connection within the connect timeout",
    ),
    (answer(failure=Failure.TLS), Outcome.TLS, LATER, "the TLS handshake failed"),
    (answer(failure=Failure.READ_TIMEOUT), Outcome.READ_TIMEOUT, LATER, "the exchange did not end within its deadline"),
    (answer(failure=Failure.RESET), Outcome.RESET, LATER, "the connection ended before an answer came"),
    (answer(failure=Failure.PROTOCOL), Outcome.PROTOCOL, LATER, "the answer is not acceptable HTTP"),
    (
        answer(failure=Failure.UNSENDABLE),
        Outcome.UNSENDABLE,
        Dead(Reason.UNSENDABLE),
        "no request can be made of it",
    ),
    (answer(failure=Failure.INTERNAL), Outcome.INTERNAL, LATER, "the relay itself failed"),
    (
        answer(failure=Failure.BLOCKED),
        Outcome.BLOCKED,
        Dead(Reason.FORBIDDEN),
        "the guard refused the destination",
    ),
    (answer(failure=Failure.CONNECT, detail="port 1: refused"), Outcome.CONNECT, LATER, "port 1: refused"),
    (
        answer(200, detail="its body was cut off after 64 KiB"),
        Outcome.SUCCESS,
        Delivered(),
        "the receiver answered 200; its body was cut off after 64 KiB",
    ),
    (
        answer(302, detail="its lines end in LF alone"),
        Outcome.HTTP_3XX,
        LATER,
        "the receiver answered 302; redirects are never followed; its lines end in LF alone",
    ),
    (
        answer(410, detail="not sent: it answered 410", sent=False),
        Outcome.HTTP_410,
        Dead(Reason.GONE),
        "not sent: it answered 410",
    ),
]


@cases(("came", "outcome", "verdict", "diagnosis"), TABLE)
def test_an_answer_has_one_meaning(came: Answer, outcome: Outcome, verdict: Verdict, diagnosis: str) -> None:
    assert classify(came) is outcome
    assert verdict_on(came) == verdict
    assert diagnose(came) == diagnosis


def test_the_table_knows_every_failure() -> None:
    assert {came.failure for came, *_ in TABLE} == {None, *Failure}


def test_only_statuses_from_200_to_299_deliver() -> None:
    delivering = [status for status in range(1000) if classify(answer(status)) is Outcome.SUCCESS]
    assert delivering == list(range(200, 300))


def test_every_failure_has_an_outcome_of_its_own() -> None:
    assert [classify(answer(failure=failure)).value for failure in Failure] == [failure.value for failure in Failure]


@cases("status", [410, 413, 429])
def test_a_status_with_a_meaning_of_its_own_has_an_outcome_of_its_own(status: int) -> None:
    assert classify(answer(status)) is Outcome(f"http_{status}")


@cases("status", [400, 413, 500])
def test_ten_retries_follow_the_first_attempt_and_then_it_is_given_up(status: int) -> None:
    verdicts = [verdict_on(answer(status), claimed(attempts=done)) for done in range(11)]
    assert verdicts == [LATER] * 10 + [Dead(Reason.EXHAUSTED)]


def test_a_lease_that_lapsed_uses_up_no_attempt() -> None:
    assert verdict_on(answer(500), claimed(attempts=9, lapses=50)) == LATER


def test_a_refusal_by_the_guard_is_never_retried() -> None:
    assert verdict_on(answer(failure=Failure.BLOCKED)) == Dead(Reason.FORBIDDEN)


@cases(
    ("server", "names"),
    [
        ("nginx/1.22.1", "client_max_body_size"),
        ("openresty", "client_max_body_size"),
        ("Apache/2.4.62 (Debian)", "LimitRequestBody"),
        ("Caddy", "request_body max_size"),
        ("Microsoft-IIS/10.0", "maxAllowedContentLength"),
        ("envoy", "max_request_bytes"),
        ("Express", "express.json({limit})"),
        ("gunicorn", "DATA_UPLOAD_MAX_MEMORY_SIZE"),
        ("Werkzeug/3.0", "MAX_CONTENT_LENGTH"),
        ("something of our own", "client_max_body_size"),
        (None, "express.json({limit})"),
    ],
)
def test_a_413_names_the_line_that_fixes_it(server: str | None, names: str) -> None:
    headers = (("Server", server),) if server else ()
    too_large = Answer(Timing(0.1), 413, headers=headers)
    assert names in remedy_for_413(server)
    assert names in diagnose(too_large)
    assert diagnose(too_large).startswith("the receiver calls the body too large")


# --- which schedule


def test_a_delivery_follows_its_own_schedule_and_else_the_relays() -> None:
    patient = RetryPolicy(default="exponential")
    assert verdict_on(answer(500), claimed(schedule="exponential")) == Retry(1005.0)
    assert verdict_on(answer(500), claimed(), patient) == Retry(1005.0)
    assert verdict_on(answer(500), claimed(schedule="fixed"), patient) == LATER


def test_the_dice_are_thrown_on_the_exponential_one_only() -> None:
    assert verdict_on(answer(500), claimed(schedule="exponential", attempts=3), dice=0.5) == Retry(1020.0)
    assert verdict_on(answer(500), claimed(schedule="fixed", attempts=3), dice=0.5) == LATER


def test_a_patient_delivery_is_given_up_after_its_time_and_not_after_a_number_of_attempts() -> None:
    assert verdict_on(answer(500), claimed(schedule="exponential", attempts=100)) == Retry(NOW + 3600)
    old = claimed(schedule="exponential", attempts=1, created_at=NOW - 3 * 86400.0)
    assert verdict_on(answer(500), old) == Dead(Reason.EXHAUSTED)


# --- Retry-After


@cases("status", [429, 503])
@cases(
    ("hint", "pause"),
    [("120", 120.0), ("0.5", 0.5), ("99999999", 3600.0), ("Thu, 01 Jan 1970 00:18:40 GMT", 120.0)],
)
def test_who_asks_to_be_left_alone_uses_up_no_attempt(status: int, hint: str, pause: float) -> None:
    assert verdict_on(hinting(status, hint), claimed(attempts=10)) == POSTPONED
    assert pause_of(hinting(status, hint), NOW) == pause


@cases("hint", ["nan", "0", "-1", "soon"])
def test_a_hint_that_is_nonsense_is_none(hint: str) -> None:
    assert verdict_on(hinting(503, hint)) == LATER
    assert verdict_on(hinting(429, hint)) == POSTPONED
    assert pause_of(hinting(429, hint), NOW) is None


@cases("status", [301, 400, 404, 413, 500, 502, 504])
def test_only_429_and_503_may_hint(status: int) -> None:
    assert verdict_on(hinting(status, "120")) == LATER


# --- 410 and 413


@cases("attempts", [0, 10])
def test_gone_is_dead_at_once(attempts: int) -> None:
    assert verdict_on(answer(410), claimed(attempts=attempts)) == Dead(Reason.GONE)


def test_what_is_too_large_is_retried_as_it_is_or_as_a_link_or_not_at_all() -> None:
    verdicts = {choice: verdict_on(answer(413), policy=RetryPolicy(on_too_large=choice)) for choice in OnTooLarge}
    assert verdicts == {
        OnTooLarge.RETRY: LATER,
        OnTooLarge.POINTER: Retry(1030.0, pointer=True),
        OnTooLarge.DEAD: Dead(Reason.TOO_LARGE),
    }


@cases("choice", [OnTooLarge.RETRY, OnTooLarge.POINTER])
def test_what_is_too_large_for_ever_is_given_up_like_everything_else(choice: OnTooLarge) -> None:
    assert verdict_on(answer(413), claimed(attempts=10), RetryPolicy(on_too_large=choice)) == Dead(Reason.EXHAUSTED)


@cases("came", [answer(500), answer(413), answer(failure=Failure.RESET)])
def test_once_a_link_always_a_link(came: Answer) -> None:
    assert verdict_on(came, claimed(pointer=True)) == Retry(1030.0, pointer=True)


@cases("status", [400, 500, 503])
def test_no_other_status_turns_a_result_into_a_link(status: int) -> None:
    assert verdict_on(answer(status), policy=RetryPolicy(on_too_large=OnTooLarge.POINTER)) == LATER


# --- a size limit behind another answer

LARGE = 300_000


@cases("came", [answer(502), answer(failure=Failure.RESET)])
def test_when_only_large_bodies_fail_a_size_limit_is_suspected(came: Answer) -> None:
    diagnosis = diagnose(came, LARGE, BodyLimits(largest_accepted=200_000))
    assert diagnosis.endswith("; probably a size limit: this body has 300000 bytes, the largest accepted 200000")


@cases(
    ("came", "size", "accepted"),
    [
        (answer(502), LARGE, LARGE),
        (answer(502), LARGE, None),
        (answer(502), 60_000, 100),
        (answer(500), LARGE, 200_000),
        (answer(failure=Failure.READ_TIMEOUT), LARGE, 200_000),
        (answer(200), LARGE, 200_000),
    ],
)
def test_without_evidence_none_is_suspected(came: Answer, size: int, accepted: int | None) -> None:
    assert not re.search("size limit", diagnose(came, size, BodyLimits(largest_accepted=accepted)))
