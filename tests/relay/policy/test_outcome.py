from __future__ import annotations

import pytest

from relay.model import Answer, Dead, Delivered, Failure, Outcome, Reason, Retry, Timing, Verdict
from relay.policy.outcome import classify, diagnose, judge, remedy_for_413
from relay.policy.schedule import FixedSchedule
from tests.relay.deliveries import answer, claimed

NOW = 1000.0
SCHEDULE = FixedSchedule(retries=10, delay=30.0)
LATER = Retry(1030.0)

TABLE: list[tuple[Answer, Outcome, Verdict, str]] = [
    (answer(200), Outcome.SUCCESS, Delivered(), ""),
    (answer(201), Outcome.SUCCESS, Delivered(), ""),
    (answer(204), Outcome.SUCCESS, Delivered(), ""),
    (answer(299), Outcome.SUCCESS, Delivered(), ""),
    (answer(301), Outcome.HTTP_3XX, LATER, "the receiver answered 301; redirects are never followed"),
    (answer(304), Outcome.HTTP_3XX, LATER, "the receiver answered 304; redirects are never followed"),
    (answer(400), Outcome.HTTP_4XX, LATER, "the receiver answered 400"),
    (answer(401), Outcome.HTTP_4XX, LATER, "the receiver answered 401"),
    (answer(404), Outcome.HTTP_4XX, LATER, "the receiver answered 404"),
    (answer(429), Outcome.HTTP_429, LATER, "the receiver answered 429"),
    (answer(500), Outcome.HTTP_5XX, LATER, "the receiver answered 500"),
    (answer(503), Outcome.HTTP_5XX, LATER, "the receiver answered 503"),
    (answer(599), Outcome.HTTP_5XX, LATER, "the receiver answered 599"),
    (answer(100), Outcome.PROTOCOL, LATER, "the receiver answered 100"),
    (answer(199), Outcome.PROTOCOL, LATER, "the receiver answered 199"),
    (answer(600), Outcome.PROTOCOL, LATER, "the receiver answered 600"),
    (answer(999), Outcome.PROTOCOL, LATER, "the receiver answered 999"),
    (answer(failure=Failure.DNS), Outcome.DNS, LATER, "the host name did not resolve"),
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
    (answer(failure=Failure.INTERNAL), Outcome.INTERNAL, LATER, "the relay itself failed"),
    (
        answer(failure=Failure.BLOCKED),
        Outcome.BLOCKED,
        Dead(Reason.FORBIDDEN),
        "the guard refused the destination",
    ),
    (answer(failure=Failure.CONNECT, detail="port 1: refused"), Outcome.CONNECT, LATER, "port 1: refused"),
]


@pytest.mark.parametrize(("came", "outcome", "verdict", "diagnosis"), TABLE, ids=lambda value: str(value)[:40])
def test_an_answer_has_one_meaning(came: Answer, outcome: Outcome, verdict: Verdict, diagnosis: str) -> None:
    assert classify(came) is outcome
    assert judge(claimed(), came, SCHEDULE, now=NOW) == verdict
    assert diagnose(came) == diagnosis


def test_the_table_knows_every_failure() -> None:
    assert {came.failure for came, *_ in TABLE} == {None, *Failure}


def test_only_statuses_from_200_to_299_deliver() -> None:
    delivering = [status for status in range(1000) if classify(answer(status)) is Outcome.SUCCESS]
    assert delivering == list(range(200, 300))


def test_every_failure_has_an_outcome_of_its_own() -> None:
    assert [classify(answer(failure=failure)).value for failure in Failure] == [failure.value for failure in Failure]


@pytest.mark.parametrize("status", [410, 413, 429])
def test_a_status_with_a_meaning_of_its_own_has_an_outcome_of_its_own(status: int) -> None:
    assert classify(answer(status)) is Outcome(f"http_{status}")


@pytest.mark.parametrize("status", [400, 413, 500])
def test_ten_retries_follow_the_first_attempt_and_then_it_is_given_up(status: int) -> None:
    verdicts = [judge(claimed(attempts=done), answer(status), SCHEDULE, now=NOW) for done in range(11)]
    assert verdicts == [LATER] * 10 + [Dead(Reason.EXHAUSTED)]


def test_a_lease_that_lapsed_uses_up_no_attempt() -> None:
    assert judge(claimed(attempts=9, lapses=50), answer(500), SCHEDULE, now=NOW) == LATER


def test_a_refusal_by_the_guard_is_never_retried() -> None:
    assert judge(claimed(attempts=0), answer(failure=Failure.BLOCKED), SCHEDULE, now=NOW) == Dead(Reason.FORBIDDEN)


@pytest.mark.parametrize(
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
